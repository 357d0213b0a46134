"""Measure how the daemon's cost grows with cameras and zones: processor time, latency, drops.

    python -m benchmarks.scale
    python -m benchmarks.scale --bundle starter --picture scale.svg

The daemon's loop runs here with everything that is its own: a process for each camera, the network
and the filter; only the broker is left out (`benchmarks.daemon_clip` has it). Each camera plays a
drawn clip in which the zones never rest, 640 x 480 at 10 frames a second, and is watched at 5:
every zone is due in every frame, which is the most that can be asked for. Without a bundle a
network judges that knows brightness only.

Latency is from the moment a frame left its camera to the end of the turn that judged it. A drop is
a frame that the camera's process had and the daemon did not ask for in time.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.capture import CameraProcess, Frame
from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.notify import Notifier
from edge_runtime.replay import ClipClock, Recorder
from edge_runtime.wake import Wake
from tests.edge_runtime.conftest import draw_scene, tiny_goldens, tiny_manifest, tiny_model
from train.charts import Dot, dot_chart
from transom.bundle import Bundle, read_bundle, write_bundle
from transom.config import CameraConfig, Config, MqttConfig, ZoneConfig
from transom.messages import Topics
from transom.signing import load_private_key, new_key
from transom.starter import STARTER, bundle_path

CAMERAS = (1, 4, 8)
ZONES = (1, 4, 16)
CLIP_FPS, WATCHED_FPS = 10.0, 5.0
CLIP_S = 20
WARM_UP_S = 4.0
STYLE = (
    "<style>svg{background:#fff;--series-0:#2463be;--series-1:#d3681b;--series-2:#1f8a5b}"
    "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.ideal{stroke:#999;stroke-dasharray:4 4}"
    "</style>"
)


class CountedCamera(CameraProcess):
    """A camera whose frames are counted, with those that nobody asked for in time."""

    def __init__(self, config: CameraConfig, wake: Wake) -> None:
        super().__init__(config, wake=wake)
        self.frames = 0
        self.drops = 0
        self.fresh_ns: int | None = None
        self._last = 0

    def newest(self) -> Frame | None:
        """Return the newest frame, or None, and count."""
        frame = super().newest()
        if frame is not None:
            self.frames += 1
            self.drops += frame.number - self._last - 1 if self._last else 0
            self._last, self.fresh_ns = frame.number, frame.taken_ns
        return frame


class TimedDaemon(Daemon):
    """The daemon, with the time from each frame to the end of the turn that judged it."""

    counted: list[CountedCamera]
    latencies_ms: list[float]

    def step(self) -> bool:
        """Do one turn, and note when its frames were judged."""
        has_frame = super().step()
        now_ns = time.monotonic_ns()
        for camera in self.counted:
            if camera.fresh_ns is not None:
                self.latencies_ms.append((now_ns - camera.fresh_ns) / 1e6)
                camera.fresh_ns = None
        return has_frame


@dataclass(frozen=True)
class Moment:
    """What had been used and done at some time."""

    at_s: float
    main_s: float
    cameras_s: float
    frames: int
    drops: int
    turns: int


def draw_clip(path: Path) -> None:
    """Write a clip in which the light of every zone swings; H.264 or what OpenCV has."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), CLIP_FPS, (640, 480))
    still = draw_scene(128.0, noise=0.0).astype(np.int16)
    grain = np.random.default_rng(0).normal(0.0, 3.0, (512, 672, 3)).astype(np.int16)
    columns = np.arange(640)[None, :, None] // 20
    random = np.random.default_rng(1)
    for index in range(int(CLIP_S * CLIP_FPS)):
        down, right = random.integers(0, 32, 2)
        swing = (60 * np.sin(index * 1.3 + columns)).astype(np.int16)
        image = still + swing + grain[down : down + 480, right : right + 640]
        writer.write(np.clip(image, 0, 255).astype(np.uint8))
    writer.release()


def polygon_of(zone: int, zones: int) -> list[tuple[float, float]]:
    """Return one of so many zones side by side, each a sixth of the frame wide or less."""
    side = int(np.ceil(np.sqrt(zones)))
    left, top = (zone % side) / side, (zone // side) / side
    right, bottom = left + min(0.9 / side, 0.25), top + min(0.9 / side, 0.25)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def configuration(clip: Path, cameras: int, zones: int, task: str) -> Config:
    def camera(index: int) -> CameraConfig:
        return CameraConfig(
            name=f"camera_{index}",
            source=f"file:{clip}",
            fps=WATCHED_FPS,
            loop=True,
            zones=tuple(
                ZoneConfig(name=f"zone_{index}_{z}", polygon=tuple(polygon_of(z, zones)), task=task)
                for z in range(zones)
            ),
        )

    mqtt = MqttConfig(host="localhost")
    return Config(device="bench", mqtt=mqtt, cameras=tuple(camera(i) for i in range(cameras)))


def make_bundle(folder: Path) -> Bundle:
    """Return a bundle that knows brightness."""
    new_key(folder / "bench.key")
    write_bundle(
        folder / "tiny.bundle",
        manifest=tiny_manifest(),
        model=tiny_model().SerializeToString(),
        goldens=tiny_goldens(),
        report={},
        key=load_private_key(folder / "bench.key"),
    )
    return read_bundle(folder / "tiny.bundle", None)


def processor_s(process_id: int | None) -> float:
    """Return the processor time that a process has used, seconds; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def run(bundle: Bundle, clip: Path, cameras: int, zones: int, seconds: float) -> dict[str, Any]:
    """Run the daemon and return what it cost after it had settled."""
    config = configuration(clip, cameras, zones, "state")
    wake = Wake()
    counted = [CountedCamera(camera, wake) for camera in config.cameras]
    recorder = Recorder(Topics("transom", "bench"), ClipClock(), lambda _s, _message: None)
    daemon = TimedDaemon(
        config,
        bundle,
        counted,
        recorder,
        recorder,
        Clock(),
        Notifier({}),
        processes=None,
        wake=wake,
    )
    daemon.counted, daemon.latencies_ms = counted, []
    moments: list[Moment] = []

    def note() -> None:
        moments.append(
            Moment(
                time.monotonic(),
                time.process_time(),
                sum(processor_s(camera.process_id) for camera in counted),
                sum(camera.frames for camera in counted),
                sum(camera.drops for camera in counted),
                len(daemon.latencies_ms),
            )
        )

    def end() -> None:
        note()
        daemon.ask_to_stop()

    warm_up_s = WARM_UP_S + cameras  # their processes start at the same time
    timers = [threading.Timer(warm_up_s, note), threading.Timer(warm_up_s + seconds, end)]
    for timer in timers:
        timer.start()
    daemon.run()
    for timer in timers:
        timer.join()
    return figures(moments, daemon.latencies_ms) | {"cameras": cameras, "zones": zones}


def figures(moments: list[Moment], latencies_ms: list[float]) -> dict[str, Any]:
    first, last = moments
    passed_s, frames = last.at_s - first.at_s, last.frames - first.frames
    drops = last.drops - first.drops
    spent_ms = latencies_ms[first.turns : last.turns]
    return {
        "main_percent": round(100.0 * (last.main_s - first.main_s) / passed_s, 1),
        "cameras_percent": round(100.0 * (last.cameras_s - first.cameras_s) / passed_s, 1),
        "main_ms_per_frame": round(1000.0 * (last.main_s - first.main_s) / max(frames, 1), 2),
        "latency_ms": round(statistics.median(spent_ms), 1) if spent_ms else None,
        "latency_p95_ms": round(float(np.quantile(spent_ms, 0.95)), 1) if spent_ms else None,
        "frames": frames,
        "drops": drops,
    }


def cost_per_zone(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return base and slope of the daemon's time a frame over its zones, and how well they fit."""
    zones = np.array([row["zones"] for row in rows], float)
    spent = np.array([row["main_ms_per_frame"] for row in rows])
    slope, base = np.polyfit(zones, spent, 1)
    left = spent - (base + slope * zones)
    return float(base), float(slope), float(1.0 - left.var() / spent.var())


def picture(rows: list[dict[str, Any]]) -> str:
    """Return the curve of processor time over zones as SVG."""
    dots = [
        Dot(
            row["cameras"] * row["zones"],
            row["main_percent"],
            name=f"{row['cameras']} x {row['zones']}",
            title=f"{row['cameras']} cameras x {row['zones']} zones",
            colour=CAMERAS.index(row["cameras"]),
        )
        for row in rows
    ]
    chart = dot_chart(dots, "zones, all cameras", "main process, percent of a core", is_log=True)
    opening = '<svg xmlns="http://www.w3.org/2000/svg" '
    return chart.replace("<svg ", opening, 1).replace("</title>", "</title>" + STYLE, 1)


def main() -> None:
    """Print a table, or with `--json` one object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", help="a bundle, or the word starter")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement")
    parser.add_argument("--picture", type=Path, help="where to write the curve, SVG")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        draw_clip(clip)
        if arguments.bundle is None:
            bundle = make_bundle(Path(folder))
        else:
            is_starter = arguments.bundle == STARTER
            bundle = read_bundle(
                bundle_path(STARTER) if is_starter else Path(arguments.bundle), None
            )
        for cameras in CAMERAS:
            for zones in ZONES:
                rows.append(run(bundle, clip, cameras, zones, arguments.seconds))
                if not arguments.json:
                    print(rows[-1], flush=True)
    base, slope, explained = cost_per_zone(rows)
    line = {"base_ms": round(base, 2), "ms_per_zone": round(slope, 3), "r2": round(explained, 3)}
    if arguments.picture is not None:
        arguments.picture.write_text(picture(rows), "utf-8")
    print(json.dumps({"rows": rows, "line": line}, indent=1) if arguments.json else line)


if __name__ == "__main__":
    main()
