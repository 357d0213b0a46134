"""Transom's way of running a network beside what a user would pick instead, on this machine.

    python -m venv build/peers && build/peers/bin/pip install -r benchmarks/peers.txt
    python -m benchmarks.peers --peers build/peers/bin/python --picture peers.svg --json peers.json

The same network, the starter and a whole EfficientNet-Lite0 with three tasks, in every runtime: one
crop at a time, from the crop's bytes to logits. Then one job: a zone of a frame classified by
Transom and by Frigate, each with its own network and its own preprocessing. A peer that is not
installed is a row that says so.

Each runtime has a process of its own. They take turns, a round after the other, so that whatever
else the machine does meets all of them; ratios are of processor time within a round, given as
their median over the rounds with the 95 % interval of that median (bootstrap). Before it is timed,
each answers drawn rooms: in float32 its outputs must be onnxruntime's, in INT8 near them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.peer_files import NETWORKS, convert, size_of, write_networks
from benchmarks.peer_runtimes import BUNDLE_JOB, JOBS, Runtime, runtime_named
from benchmarks.peer_runtimes import NETWORKS as RUNTIMES
from benchmarks.peers_picture import Bar, bar_chart
from export.benchmark import machine
from transom.starter import STARTER

TURN_MS = 150.0
"""How long a runtime computes before it is another's turn."""
MOST_DIFFERENCE = 0.01
"""Of the greatest output: float32 runtimes add in another order, ncnn keeps weights in 16 bits."""
LEAST_COSINE = 0.95
"""Between an embedding in INT8 and in float32, the mean over the crops."""

Outputs = dict[str, list[float]]
"""By name, float32 (C,)."""

_REFERENCE, _OURS, _OUR_JOB = "ours_float32", "ours_int8", "job"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one runtime.

    Attributes:
        network: Of `NETWORKS`, or `job`.
        title: The runtime.
        wall_ms: Duration of a call, the median in the quickest round: the others were disturbed.
        cpu_ms: Median processor time of a call.
        ratio: Its processor time over ours in the same round, the median.
        interval: 95 % interval of that median.
        check: How its answers compare with float32 in onnxruntime.
        fault: Why there are no figures, or what is wrong with its answers; empty = nothing.
    """

    network: str
    title: str
    wall_ms: float | None = None
    cpu_ms: float | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    check: str = ""
    fault: str = ""


class Worker:
    """A runtime in a process of its own.

    Attributes:
        answers: Its outputs by name for each crop, or None where it does not run.
        fault: Why it does not run.

    Args:
        name: Of `benchmarks.peer_runtimes`.
        runtime: The same.
        folder: Of its files.
        threads: Threads that it may use.
        peers: The interpreter that has the peers.
    """

    def __init__(self, name: str, runtime: Runtime, folder: Path, threads: int, peers: str) -> None:
        python = peers if runtime.package else sys.executable
        self._log = (folder / f"{name.replace('/', '_')}.log").open("w+")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.peer_runtimes", name, str(folder), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        first = self._read()
        self.answers = None if not first else msgspec.json.decode(first, type=list[Outputs])
        self.fault = "" if first else self._why(runtime)

    def turn(self, calls: int) -> tuple[float, float]:
        """Return duration and processor time of a call, the mean of some, milliseconds."""
        print(calls, file=self._process.stdin, flush=True)
        said = json.loads(self._read())
        return said["wall_ms"], said["cpu_ms"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._log.close()

    def _read(self) -> str:
        if self._process.stdout is None:
            raise AssertionError("answers come from here")
        return self._process.stdout.readline()

    def _why(self, runtime: Runtime) -> str:
        self._process.wait()
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or ["no word"])[-1]
        if last.startswith("ModuleNotFoundError"):
            return f"not installed: pip install {runtime.package}"
        return last[:120]


def measure(
    network: str,
    runtimes: Mapping[str, Runtime],
    ours: str,
    folder: Path,
    arguments: argparse.Namespace,
) -> list[Row]:
    """Let runtimes take turns and return their rows.

    Args:
        network: What the rows are called.
        runtimes: By name, what takes part.
        ours: The one that ratios are against.
        folder: Of the files.
        arguments: Threads, rounds and the peers' interpreter.
    """
    rows, workers = [], {}
    for name, runtime in runtimes.items():
        workers[name] = Worker(name, runtime, folder, arguments.threads, arguments.peers)
        print(f"{network}: {runtime.title} {workers[name].fault}", file=sys.stderr, flush=True)
    times = take_turns({k: w for k, w in workers.items() if not w.fault}, arguments.rounds)
    reference = workers[_REFERENCE].answers if _REFERENCE in workers else None
    for name, runtime in runtimes.items():
        answers = workers[name].answers
        row = Row(network=network, title=runtime.title, fault=workers[name].fault)
        if answers is not None:
            check, is_right = compare(answers, reference, runtime.is_int8)
            row = describe(row, times[name], times[ours], check, "" if is_right else "answers")
        rows.append(row)
    for worker in workers.values():
        worker.close()
    return rows


def take_turns(workers: Mapping[str, Worker], rounds: int) -> dict[str, np.ndarray]:
    """Return by worker durations and processor times in milliseconds, (rounds, 2)."""
    calls = {}
    for name, worker in workers.items():
        calls[name] = max(3, round(TURN_MS / worker.turn(3)[1]))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            found[name].append(worker.turn(calls[name]))
    return {name: np.array(times) for name, times in found.items()}


def describe(row: Row, times: np.ndarray, ours: np.ndarray, check: str, fault: str) -> Row:
    """Return a row with its figures; times and ours are (rounds, 2) milliseconds."""
    ratios = times[:, 1] / ours[:, 1]
    draws = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return msgspec.structs.replace(
        row,
        wall_ms=round(float(times[:, 0].min()), 3),
        cpu_ms=round(float(np.median(times[:, 1])), 3),
        ratio=round(float(np.median(ratios)), 3),
        interval=(round(float(low), 3), round(float(high), 3)),
        check=check,
        fault=fault,
    )


def compare(
    answers: list[Outputs], reference: list[Outputs] | None, is_int8: bool
) -> tuple[str, bool]:
    """Return how answers compare with float32 in onnxruntime, and whether that is as it must be."""
    if reference is None:
        return "", True
    theirs = {name: np.array([a[name] for a in answers]) for name in reference[0]}
    ours = {name: np.array([a[name] for a in reference]) for name in reference[0]}
    if not is_int8:
        worst = max(np.abs(theirs[k] - ours[k]).max() / np.abs(ours[k]).max() for k in ours)
        return f"differs by {100 * worst:.2g} %", bool(worst <= MOST_DIFFERENCE)
    a, b = theirs["embedding"], ours["embedding"]
    cosine = float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
    tasks = [name for name in ours if name != "embedding"]
    same = np.mean([theirs[t].argmax(1) == ours[t].argmax(1) for t in tasks])
    return f"cosine {cosine:.3f}, {100 * same:.0f} % same class", cosine >= LEAST_COSINE


def table(rows: list[Row]) -> str:
    """Return rows of one network as a Markdown table."""
    lines = [
        "| runtime | ms, quickest round | processor ms | times ours, processor time | answers |"
    ]
    lines.append("|---|---:|---:|---|---|")
    for row in rows:
        if row.ratio is None or row.interval is None:
            lines.append(f"| {row.title} | | | | {row.fault} |")
            continue
        low, high = row.interval
        check = f"WRONG: {row.check}" if row.fault else row.check
        lines.append(
            f"| {row.title} | {row.wall_ms:.2f} | {row.cpu_ms:.2f} "
            f"| {row.ratio:.2f} ({low:.2f} to {high:.2f}) | {check} |"
        )
    return "\n".join(lines)


def picture(rows: list[Row]) -> str:
    """Return all rows that have figures as a chart, SVG."""
    bars = [
        Bar(f"{row.network}: {row.title}", row.ratio, row.interval, row.title.startswith("Transom"))
        for row in rows
        if row.ratio is not None and row.interval is not None
    ]
    return bar_chart(bars, "processor time of one crop, times Transom's; shorter is better")


def main() -> None:
    """Print tables; write JSON and the picture where wanted. Fails on wrong answers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, help="those, beside ours")
    parser.add_argument(
        "--bundles", nargs="+", type=Path, default=[], help="the job with these too"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--files", type=Path, default=Path("build/peer-files"), help="kept here")
    parser.add_argument("--picture", type=Path, help="where to write the chart, SVG")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.threads} thread(s), {arguments.rounds} rounds\n")
    rows: list[Row] = []
    wanted = {_OURS, _REFERENCE, *(arguments.runtimes or RUNTIMES)}
    runtimes = {name: runtime for name, runtime in RUNTIMES.items() if name in wanted}
    for network in arguments.networks:
        folder = (arguments.files / network).resolve()
        write_networks(network, folder)
        for fault in convert(arguments.peers, folder, size_of(network)):
            print(f"not converted: {fault}", file=sys.stderr)
        rows += measure(network, runtimes, _OURS, folder, arguments)
        print(f"**{network}**\n\n{table(rows[-len(runtimes) :])}\n", flush=True)
    if STARTER in arguments.networks:
        others = [f"{BUNDLE_JOB}{file.resolve()}" for file in arguments.bundles]
        jobs = JOBS | {name: runtime_named(name) for name in others}
        rows += measure("job", jobs, _OUR_JOB, (arguments.files / STARTER).resolve(), arguments)
        print(f"**one zone of a 640 x 480 frame**\n\n{table(rows[-len(jobs) :])}")
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    if arguments.picture is not None:
        arguments.picture.write_text(picture(rows), "utf-8")
    if any(row.ratio is not None and row.fault for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
