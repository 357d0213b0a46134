r"""Run the daemon for long at twenty times its pace, and look whether anything of it grows.

    python -m benchmarks.soak                                       # a quarter of an hour
    python -m benchmarks.soak --minutes 120 --picture soak.svg

`transom run` with the starter and a real mosquitto. Four cameras play a clip in which a door opens
and shuts every few seconds, at 25 frames a second each: a hundred frames a second, where one camera
of a house has five; where a machine is too busy for that, the figures say what pace it was. Every
five seconds memory, descriptors and threads of the daemon and of its cameras' processes are noted,
after a warm-up. Memory is what a process has for itself (anonymous pages): what it shares with
others looks smaller and larger as they come and go.

The slope is that of a straight line through the sum of their memory, per hour of the run; its 95 %
interval is from a bootstrap over whole minutes, which neighbouring values share.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
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
from train.charts import Dot, dot_chart
from transom.messages import Diagnostics
from transom.starter import STARTER

CAMERAS, CAMERA_FPS, HOUSE_FPS = 4, 25.0, 5.0
EVERY_S, WARM_UP_S, BLOCK_S = 5.0, 90.0, 60.0
ROUNDS = 2000
MOST_SLOPE_MIB_H = 1.0

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
        main_mib: Memory of the main process that is its own.
        cameras_mib: The same of all cameras' processes.
        descriptors: Open in all of them.
        threads: Running in all of them.
    """

    minute: float
    main_mib: float
    cameras_mib: float
    descriptors: int
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
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024.0
    raise AssertionError("every kernel since 4.14 tells it")


def look(process: int, minute: float) -> Moment:
    """Return what a daemon and its children hold now."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    everyone = [process, *map(int, children)]
    memory = [own_mib(number) for number in everyone]
    return Moment(
        minute,
        memory[0],
        sum(memory[1:]),
        sum(len(list(Path(f"/proc/{number}/fd").iterdir())) for number in everyone),
        sum(len(list(Path(f"/proc/{number}/task").iterdir())) for number in everyone),
    )


def watch(daemon: subprocess.Popen[bytes], minutes: float) -> list[Moment]:
    """Return what a daemon holds, every few seconds."""
    began_s = time.monotonic()
    moments: list[Moment] = []
    while (passed_s := time.monotonic() - began_s) < 60.0 * minutes and daemon.poll() is None:
        moments.append(look(daemon.pid, passed_s / 60.0))
        time.sleep(EVERY_S)
    return moments


def slope_per_hour(
    minutes: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return the slope of values, per hour, and the ends of its 95 % interval."""
    away = minutes - minutes.mean()
    weights = away / (away @ away)  # of the values in the slope of the best line
    slope = float(weights @ values)
    left = values - values.mean() - slope * away
    block = max(round(BLOCK_S / EVERY_S), 1)
    blocks = np.lib.stride_tricks.sliding_window_view(left, min(block, len(left)))
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(blocks), (ROUNDS, len(left) // block + 1))
    found = slope + blocks[chosen].reshape(ROUNDS, -1)[:, : len(left)] @ weights
    low, high = np.quantile(found, (0.025, 0.975))
    return 60.0 * slope, 60.0 * float(low), 60.0 * float(high)


def figures(moments: list[Moment], listener: Listener) -> dict[str, Any]:
    """Return what became of the daemon."""
    minutes = np.array([moment.minute for moment in moments])
    total = np.array([moment.main_mib + moment.cameras_mib for moment in moments])
    main = np.array([moment.main_mib for moment in moments])
    descriptors = {moment.descriptors for moment in moments}
    whole, of_main = slope_per_hour(minutes, total), slope_per_hour(minutes, main)
    pace = float(np.mean(listener.fps[2:])) / HOUSE_FPS if len(listener.fps) > 2 else None
    return {
        "minutes": round(float(minutes[-1]), 1),
        "times_the_pace": None if pace is None else round(pace, 1),
        "events": listener.events,
        "slope_mib_per_hour": [round(value, 2) for value in whole],
        "slope_of_main_mib_per_hour": [round(value, 2) for value in of_main],
        "main_mib": [round(float(main[0]), 1), round(float(main[-1]), 1)],
        "all_mib": [round(float(total[0]), 1), round(float(total[-1]), 1)],
        "descriptors": sorted(descriptors),
        "threads": sorted({moment.threads for moment in moments}),
        "is_within_bounds": whole[2] < MOST_SLOPE_MIB_H and len(descriptors) == 1,
    }


def picture(moments: list[Moment]) -> str:
    """Return memory over time as SVG."""
    dots = [
        Dot(moment.minute, value, title=f"{name}: {value:.1f} MiB", colour=colour)
        for moment in moments
        for colour, (name, value) in enumerate(
            (("main", moment.main_mib), ("cameras", moment.cameras_mib))
        )
    ]
    chart = dot_chart(dots, "minutes", "MiB: main, and all cameras")
    chart = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return chart.replace("</title>", "</title>" + STYLE, 1)


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="after the warm-up")
    parser.add_argument("--picture", type=Path, help="where to write memory over time, SVG")
    parser.add_argument("--moments", type=Path, help="where to write all values, JSON")
    arguments = parser.parse_args()
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
                moments = watch(daemon, arguments.minutes)
                if daemon.poll() is not None:
                    sys.exit(f"the daemon ended with {daemon.returncode}")
            finally:
                daemon.terminate()
    if arguments.picture is not None:
        arguments.picture.write_text(picture(moments), "utf-8")
    if arguments.moments is not None:
        arguments.moments.write_text(json.dumps([asdict(moment) for moment in moments]))
    print(json.dumps(figures(moments, listener), indent=1))


if __name__ == "__main__":
    main()
