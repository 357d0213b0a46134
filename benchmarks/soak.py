r"""Run the daemon for long at twenty times its pace, and look whether anything of it grows.

    python -m benchmarks.soak                                       # a quarter of an hour
    python -m benchmarks.soak --minutes 120 --picture soak.svg --record   # for the page of promises

`transom run` with the starter and a real mosquitto. Four cameras play a clip in which a door opens
and shuts every few seconds, at 25 frames a second each: a hundred frames a second, where one camera
of a house has five; where a machine is too busy for that, the figures say what pace it was. Every
second memory, descriptors and threads of the daemon and of its cameras' processes are noted, after
a warm-up in which the networks' precisions are measured and the views taken down. Memory is what a
process has for itself (anonymous pages): what it shares with others looks smaller and larger as
they come and go.

Frames and tensors come and go all the time, and what is freed is given back twice a minute, to be
taken again within a moment. So what the daemon *holds* is each minute's lowest value, of twenty
looks a second: with one a second the lowest of a minute is some MiB higher, by chance. The slope
is that of a straight line through these, per hour of the run; its 95 % interval is from a bootstrap
over five minutes at a time, which neighbouring values share. The highest value is told beside it.

Descriptors are counted apart: those of the main process, and those of each camera's process. One
that is open for a moment (a file that is replaced, a journal) shows as a highest value and is gone
with the next; one that leaks raises each minute's lowest. Cameras that were replaced meanwhile are
counted, since each brings a process that has just begun. `--record` keeps what was found in
docs/reliability.json and writes docs/reliability.md; `--judge FILE --record` keeps what an earlier
run has printed into a file.
"""

import argparse
import datetime
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import paho.mqtt.client as mqtt

from benchmarks.daemon_clip import CONFIG, ZONE, draw_clip
from benchmarks.scale import STYLE
from tests.edge_runtime.broker import Broker
from tools.reliability.records import Record, merge, read_records, write_records
from train.charts import Dot, dot_chart
from transom.messages import Diagnostics
from transom.starter import STARTER

CAMERAS, CAMERA_FPS, HOUSE_FPS = 4, 25.0, 5.0
EVERY_S, LOOKS, WARM_UP_S, BLOCK_MINUTES = 1.0, 20, 180.0, 5
ROUNDS = 2000
MOST_SLOPE_MIB_H = 1.0
FULL_MINUTES = 120

Floats = npt.NDArray[np.float64]

CAMERA = """
[[cameras]]
name = "camera_{number}"
source = "file:{clip}"
loop = true
fps = {fps}
[[cameras.zones]]
name = "door_{number}"
polygon = {zone}
"""


@dataclass(frozen=True)
class Moment:
    """What the daemon holds at some time of the run.

    Attributes:
        minute: Since the end of the warm-up.
        main_mib: Memory of the main process that is its own, the least since the moment before.
        cameras_mib: The same of all cameras' processes.
        main_descriptors: Open in the main process.
        camera_descriptors: Open in each camera's process, by its id.
        threads: Running in all of them.
    """

    minute: float
    main_mib: float
    cameras_mib: float
    main_descriptors: int
    camera_descriptors: dict[int, int]
    threads: int


def configuration(folder: Path, port: int, clip: Path) -> str:
    """Return the configuration of four cameras that play a clip."""
    head = CONFIG.partition("[[cameras]]")[0].format(
        folder=folder, port=port, keys=folder, bundle=STARTER
    )
    zone = [list(point) for point in ZONE]
    return head + "".join(
        CAMERA.format(number=number, clip=clip, fps=CAMERA_FPS, zone=zone)
        for number in range(CAMERAS)
    )


class Listener:
    """Counts what the daemon publishes.

    Attributes:
        events: So far.
        fps: Frames judged a second, all cameras, each time the daemon told.
    """

    def __init__(self, port: int) -> None:
        self.events = 0
        self.fps: list[float] = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe("transom/bench/#", 1)
        self._client.connect("localhost", port)
        self._client.loop_start()

    def _take(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic.endswith("/event"):
            self.events += 1
        elif message.topic.endswith("/diagnostics"):
            figures = msgspec.json.decode(message.payload, type=Diagnostics)
            self.fps.append(sum(figures.fps.values()))


def own_mib(process: int) -> float:
    """Return the memory that a process has for itself, MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024.0
    raise AssertionError("every kernel since 4.5 tells it")


def least_mib(process: int) -> float:
    """Return the least memory that a process has for itself within `EVERY_S`, MiB."""
    least = math.inf
    for _ in range(LOOKS):
        least = min(least, own_mib(process))
        time.sleep(EVERY_S / LOOKS)
    return least


def look(process: int, began_s: float) -> Moment:
    """Return what a daemon and its cameras' processes hold now.

    Args:
        process: The daemon's.
        began_s: When the warm-up was over, monotonic.
    """
    own = least_mib(process)
    minute = (time.monotonic() - began_s) / 60.0
    memory, descriptors, threads = 0.0, {}, _count(process, "task")
    for child in map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()):
        try:
            held, opened, running = own_mib(child), _count(child, "fd"), _count(child, "task")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        memory, threads = memory + held, threads + running
        descriptors[child] = opened
    return Moment(minute, own, memory, _count(process, "fd"), descriptors, threads)


def _count(process: int, what: str) -> int:
    return len(list(Path(f"/proc/{process}/{what}").iterdir()))


def watch(daemon: subprocess.Popen[bytes], minutes: float) -> list[Moment]:
    """Return what a daemon holds, every few seconds."""
    began_s = time.monotonic()
    moments: list[Moment] = []
    while time.monotonic() - began_s < 60.0 * minutes:
        try:
            moments.append(look(daemon.pid, began_s))
        except (AssertionError, FileNotFoundError, ProcessLookupError):
            if daemon.poll() is None:
                raise
            break  # it has ended: whoever called says so
    return moments


def lowest_by_minute(moments: list[Moment], of: Callable[[Moment], float]) -> Floats:
    """Return the lowest value of each whole minute of a run, (M,).

    A minute that the run's end has cut to less than half is left out: what a process holds is the
    lowest of many looks, and the lowest of one look is some MiB more.
    """
    minutes: dict[int, list[float]] = {}
    for moment in moments:
        minutes.setdefault(int(moment.minute), []).append(of(moment))
    last = max(minutes)
    if 2 * len(minutes[last]) < max(map(len, minutes.values())):
        del minutes[last]
    return np.array([min(minutes[minute]) for minute in sorted(minutes)])


def slope_per_hour(values: Floats) -> tuple[float, float, float]:
    """Return the slope of values, one a minute, per hour, and the ends of its 95 % interval."""
    minutes = np.arange(len(values), dtype=np.float64)
    away = minutes - minutes.mean()
    weights = away / max(float(away @ away), 1.0)  # of the values in the slope of the best line
    slope = float(weights @ values)
    left = values - values.mean() - slope * away
    blocks = np.lib.stride_tricks.sliding_window_view(left, min(BLOCK_MINUTES, len(left)))
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(blocks), (ROUNDS, len(left) // BLOCK_MINUTES + 1))
    found = slope + blocks[chosen].reshape(ROUNDS, -1)[:, : len(left)] @ weights[: len(left)]
    low, high = np.quantile(found, (0.025, 0.975))
    return 60.0 * slope, 60.0 * float(low), 60.0 * float(high)


def figures(moments: list[Moment], listener: Listener) -> dict[str, Any]:
    """Return what became of the daemon."""
    main = lowest_by_minute(moments, lambda moment: moment.main_mib)
    total = lowest_by_minute(moments, lambda moment: moment.main_mib + moment.cameras_mib)
    opened = lowest_by_minute(moments, lambda moment: moment.main_descriptors)
    whole, of_main = slope_per_hour(total), slope_per_hour(main)
    cameras = {child for moment in moments for child in moment.camera_descriptors}
    of_cameras = {n for moment in moments for n in moment.camera_descriptors.values()}
    pace = float(np.mean(listener.fps[2:])) / HOUSE_FPS if len(listener.fps) > 2 else None
    return {
        "minutes": round(moments[-1].minute, 1),
        "times_the_pace": None if pace is None else round(pace, 1),
        "events": listener.events,
        "slope_mib_per_hour": [round(value, 2) for value in whole],
        "slope_of_main_mib_per_hour": [round(value, 2) for value in of_main],
        "main_mib": {
            "first_minutes_lowest": round(float(main[0]), 1),
            "last_minutes_lowest": round(float(main[-1]), 1),
            "highest": round(max(moment.main_mib for moment in moments), 1),
        },
        "all_mib": {
            "first_minutes_lowest": round(float(total[0]), 1),
            "last_minutes_lowest": round(float(total[-1]), 1),
            "highest": round(max(m.main_mib + m.cameras_mib for m in moments), 1),
        },
        "main_descriptors": {
            "lowest_by_minute": sorted(set(opened.astype(int).tolist())),
            "highest": max(moment.main_descriptors for moment in moments),
        },
        "descriptors_of_a_camera": sorted(of_cameras),
        "cameras_replaced": len(cameras) - CAMERAS,
        "threads": sorted({moment.threads for moment in moments}),
        "is_within_bounds": whole[2] < MOST_SLOPE_MIB_H and len(set(opened)) == 1,
    }


def picture(moments: list[Moment]) -> str:
    """Return each minute's lowest memory over time as SVG."""
    shown: tuple[tuple[str, Callable[[Moment], float]], ...] = (
        ("main", lambda moment: moment.main_mib),
        ("cameras", lambda moment: moment.cameras_mib),
    )
    dots = [
        Dot(float(minute), float(value), title=f"{name}: {value:.1f} MiB", colour=colour)
        for colour, (name, of) in enumerate(shown)
        for minute, value in enumerate(lowest_by_minute(moments, of))
    ]
    chart = dot_chart(dots, "minutes", "MiB: main, and all cameras")
    chart = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return chart.replace("</title>", "</title>" + STYLE, 1)


def record(found: dict[str, Any]) -> Record:
    """Return what became of the daemon as docs/reliability.md shows it.

    Args:
        found: What `figures` returned.
    """
    slope, low, high = found["slope_mib_per_hour"]
    return Record(
        promise=19,
        method="`transom run` with four cameras of 25 frames a second at its pace: memory that is "
        "its processes' own, each minute's lowest; descriptors",
        unit="minutes",
        runs=round(found["minutes"]),
        fast=0,
        full=FULL_MINUTES,
        result="{pace} times a house's pace: {slope} MiB an hour ({low} to {high}), {descriptors} "
        "descriptors in the main process, {replaced} cameras' processes replaced",
        values={
            "pace": found["times_the_pace"],
            "slope": slope,
            "low": low,
            "high": high,
            "descriptors": ", ".join(map(str, found["main_descriptors"]["lowest_by_minute"])),
            "replaced": found["cameras_replaced"],
        },
        has_passed=found["is_within_bounds"],
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        test="benchmarks/soak.py",
    )


def run(minutes: float) -> tuple[list[Moment], dict[str, Any]]:
    """Let the daemon run for so long; return what it held, and the figures."""
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "broker") as broker:
        folder = Path(name)
        draw_clip(folder / "clip.mp4", "swing")
        config = folder / "transom.toml"
        config.write_text(configuration(folder, broker.port, folder / "clip.mp4"))
        listener = Listener(broker.port)
        with subprocess.Popen(
            [sys.executable, "-m", "transom", "run", "--config", str(config)],
            stderr=subprocess.DEVNULL,
        ) as daemon:
            try:
                time.sleep(WARM_UP_S)
                moments = watch(daemon, minutes)
                if daemon.poll() is not None:
                    sys.exit(f"the daemon ended with {daemon.returncode}")
            finally:
                daemon.terminate()
    return moments, figures(moments, listener)


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="after the warm-up")
    parser.add_argument("--picture", type=Path, help="where to write memory over time, SVG")
    parser.add_argument("--moments", type=Path, help="where to write all values, JSON")
    parser.add_argument("--judge", type=Path, help="figures of an earlier run, instead of a run")
    parser.add_argument("--record", action="store_true", help="keep it for docs/reliability.md")
    arguments = parser.parse_args()
    if arguments.judge is not None:
        found = json.loads(arguments.judge.read_text())
    else:
        moments, found = run(arguments.minutes)
        if arguments.picture is not None:
            arguments.picture.write_text(picture(moments), "utf-8")
        if arguments.moments is not None:
            arguments.moments.write_text(json.dumps([asdict(moment) for moment in moments]))
    if arguments.record:
        write_records(merge(read_records(), [record(found)]))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
