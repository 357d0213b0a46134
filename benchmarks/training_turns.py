"""Processes that take turns, so that whatever else the machine does meets all of them alike."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

Make = Callable[[], Callable[[], int]]
"""Prepares a side, in its own process; returns its turn, which returns how many images it did."""


class Turn(msgspec.Struct, frozen=True):
    """One turn of one side.

    Attributes:
        images: How many went through.
        wall_s: Seconds.
        cpu_s: Processor seconds of the process and its workers.
        peak_mib: Largest resident memory of the process so far.
        anonymous_mib: Its own memory at the end.
        mapped_mib: Pages of mapped files that are counted as resident at the end.
        pss_mib: Its share of all memory at the end.
    """

    images: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    anonymous_mib: float
    mapped_mib: float
    pss_mib: float

    @property
    def images_per_s(self) -> float:
        """By the clock on the wall."""
        return self.images / self.wall_s


def take_turns(sides: Mapping[str, Make], count: int, warm: int) -> dict[str, list[Turn]]:
    """Let each side have `count` turns, one after the other; `warm` more before do not count."""
    context = multiprocessing.get_context("spawn")
    running = {}
    for name, make in sides.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, make))
        process.start()
        ours.recv()
        running[name] = (process, ours)
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for number in range(warm + count):
        for name, (_, pipe) in running.items():
            pipe.send(True)
            turn = pipe.recv()
            if number >= warm:
                turns[name].append(turn)
    for process, pipe in running.values():
        pipe.send(False)
        process.join()
    return turns


def _serve(pipe: Connection, make: Make) -> None:
    turn = make()
    pipe.send("ready")
    while pipe.recv():
        wall, cpu = time.perf_counter(), _processor_s()
        images = turn()
        wall, cpu = time.perf_counter() - wall, _processor_s() - cpu
        status = _fields(Path("/proc/self/status"))
        share = _fields(Path("/proc/self/smaps_rollup"))["Pss"]
        pipe.send(
            Turn(
                images=images,
                wall_s=wall,
                cpu_s=cpu,
                peak_mib=status["VmHWM"],
                anonymous_mib=status["RssAnon"],
                mapped_mib=status["RssFile"],
                pss_mib=share,
            )
        )


def _processor_s() -> float:
    """Return the processor time so far of this process and of workers that are still there."""
    ticks = 0
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _fields(path: Path) -> dict[str, float]:
    """Read the lines `name: number kB` of a file, in MiB."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if value.strip().endswith("kB"):
            found[name] = int(value.split()[0]) / 1024
    return found
