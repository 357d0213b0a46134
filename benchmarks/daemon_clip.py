"""Measure the daemon on a clip: delay from frame to message, memory, processor time per frame.

    python -m benchmarks.daemon_clip
    python -m benchmarks.daemon_clip --bundle home.bundle --clip hall.mp4 --seconds 120

The daemon runs as a user runs it (`transom run`), with a real mosquitto on loopback and a
subscriber here. A clip is drawn where none is given: a door that opens and shuts every three
seconds, 640 x 480, 30 frames a second, watched at 5 frames a second; without a bundle a network
judges it that knows brightness only, so that what is measured is the daemon and not a network
(`transom bench` measures those).

Latency is from the moment the deciding frame left the camera to the moment a subscriber has the
event, on one monotonic clock. The filter's delay, from the change in the clip to the deciding
frame, is apart: it is waiting on purpose. Processor time is put in relation to a bare OpenCV loop
that reads the same clip at the same pace, at the same time on the same machine.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import paho.mqtt.client as mqtt

from edge_runtime.replay import replay
from tests.edge_runtime.broker import Broker
from tests.edge_runtime.conftest import draw_scene, tiny_goldens, tiny_manifest, tiny_model
from transom.bundle import read_bundle, write_bundle
from transom.config import load_config
from transom.geometry import Zone
from transom.messages import Message, ZoneEvent, decode
from transom.signing import load_private_key, new_key

CLIP_FPS = 30.0
WATCHED_FPS = 5.0
HALF_PERIOD_S = 3.0
CLIP_S = 60.0
ZONE = [[0.36, 0.17], [0.64, 0.17], [0.64, 0.93], [0.36, 0.93]]
WARM_UP_S = 5.0

CONFIG = """
device = "bench"
state_directory = "{folder}/state"
[mqtt]
host = "localhost"
port = {port}
[models]
trusted_keys = "{keys}"
bundle = "{bundle}"
[[cameras]]
name = "clip"
source = "file:{clip}"
loop = true
fps = {fps}
[[cameras.zones]]
name = "door"
polygon = {zone}
"""


def draw_clip(path: Path) -> None:
    """Write the clip of a door that opens and shuts."""
    pictures = {
        bright: [draw_scene(bright, seed=seed) for seed in range(10)] for bright in (40.0, 217.0)
    }
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), CLIP_FPS, (640, 480))
    for number in range(int(CLIP_S * CLIP_FPS)):
        is_open = int(number / CLIP_FPS / HALF_PERIOD_S) % 2
        writer.write(pictures[217.0 if is_open else 40.0][number % 10])
    writer.release()


def make_tiny_bundle(folder: Path) -> tuple[Path, Path]:
    """Write a bundle that knows brightness; return it and the folder of its key."""
    new_key(folder / "keys" / "bench.key")
    write_bundle(
        folder / "tiny.bundle",
        manifest=tiny_manifest(),
        model=tiny_model().SerializeToString(),
        goldens=tiny_goldens(),
        report={},
        key=load_private_key(folder / "keys" / "bench.key"),
    )
    return folder / "tiny.bundle", folder / "keys"


def read_bare(clip: str, seconds: float, answer: Any) -> None:
    """Read a clip with nothing but OpenCV, at its own pace; send the processor time per second."""
    capture = cv2.VideoCapture(clip)
    interval_s = 1.0 / (capture.get(cv2.CAP_PROP_FPS) or 30.0)
    began_s, began_cpu_s, due_s = time.monotonic(), time.process_time(), time.monotonic()
    while time.monotonic() - began_s < seconds:
        if not capture.read()[0]:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        due_s += interval_s
        time.sleep(max(due_s - time.monotonic(), 0.0))
    answer.send((time.process_time() - began_cpu_s) / (time.monotonic() - began_s))


def processor_s(process_id: int) -> float:
    """Return the processor time that a process has used, seconds."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def memory_mib(process_id: int) -> dict[str, float]:
    """Return resident and proportional memory of a process, MiB."""
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) / 1024.0 for line in lines}
    return {"rss_mib": round(values["Rss"], 1), "pss_mib": round(values["Pss"], 1)}


def listen(port: int) -> tuple[mqtt.Client, list[tuple[int, ZoneEvent]]]:
    """Collect events with the monotonic time, nanoseconds, at which they came."""
    received: list[tuple[int, ZoneEvent]] = []

    def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        now_ns = time.monotonic_ns()
        received.append((now_ns, decode(message.payload, ZoneEvent, message.topic)))

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe("transom/bench/+/event", 1)
    client.connect("localhost", port)
    client.loop_start()
    return client, received


def filter_delays_s(config_file: Path, clip: Path, bundle: Path) -> list[float]:
    """Return the seconds from each change in the drawn clip to the event, in a replay."""
    told: list[float] = []

    def tell(clip_s: float, message: Message) -> None:
        if message.topic.endswith("/event"):
            event = decode(message.payload, ZoneEvent, message.topic)
            if event.event_type in ("opened", "closed"):
                told.append(clip_s)

    replay(load_config(config_file), read_bundle(bundle, None), {"clip": clip}, tell)
    return [t % HALF_PERIOD_S for t in told]


def measure(
    folder: Path,
    clip: Path | None,
    bundle: Path | None,
    keys: Path | None,
    seconds: float,
    zone: str = "",
) -> dict[str, Any]:
    """Run the daemon and the bare loop side by side, and return the figures."""
    drawn = clip is None
    if clip is None:
        clip = folder / "clip.mp4"
        draw_clip(clip)
    if bundle is None or keys is None:
        bundle, keys = make_tiny_bundle(folder)
    config_file = folder / "transom.toml"
    with Broker(folder / "broker") as broker:
        config_file.write_text(
            CONFIG.format(
                folder=folder,
                port=broker.port,
                keys=keys,
                bundle=bundle,
                clip=clip,
                fps=WATCHED_FPS,
                zone=[list(p) for p in Zone.from_text(zone).points] if zone else ZONE,
            )
        )
        client, received = listen(broker.port)
        with subprocess.Popen(
            [sys.executable, "-m", "transom", "run", "--config", str(config_file)],
            stderr=subprocess.DEVNULL,
        ) as daemon:
            figures = watch(daemon.pid, str(clip), seconds, received)
            daemon.terminate()
        client.loop_stop()
        client.disconnect()
    if drawn:
        delays_s = filter_delays_s(config_file, clip, bundle)
        figures["filter_delay_s"] = spread(delays_s)
    return figures


def watch(
    process_id: int, clip: str, seconds: float, received: list[tuple[int, ZoneEvent]]
) -> dict[str, Any]:
    """Take the figures of a running daemon."""
    deadline_s = time.monotonic() + 30.0
    while not received and time.monotonic() < deadline_s:
        time.sleep(0.05)
    time.sleep(WARM_UP_S)
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    processes = {"main": process_id, "camera": int(children[0])}
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    bare = multiprocessing.get_context("spawn").Process(
        target=read_bare, args=(clip, seconds, theirs)
    )
    first = len(received)
    bare.start()
    theirs.close()  # so that its end is noticed here
    before = {name: processor_s(number) for name, number in processes.items()}
    began_s = time.monotonic()
    bare_cpu = ours.recv()  # comes after `seconds`
    passed_s = time.monotonic() - began_s
    used = {name: (processor_s(n) - before[name]) / passed_s for name, n in processes.items()}
    bare.join()
    latencies_ms = [(at_ns - event.monotonic_ns) / 1e6 for at_ns, event in received[first:]]
    return {
        "seconds": round(passed_s, 1),
        "events": len(latencies_ms),
        "frame_to_subscriber_ms": spread(latencies_ms),
        "memory": {name: memory_mib(number) for name, number in processes.items()},
        "cpu_ms_per_frame": {k: round(1000.0 * v / WATCHED_FPS, 2) for k, v in used.items()},
        "cpu_percent": {k: round(100.0 * v, 1) for k, v in used.items()},
        "bare_opencv_cpu_percent": round(100.0 * bare_cpu, 1),
        "cpu_to_bare_opencv": round(sum(used.values()) / bare_cpu, 2),
    }


def spread(values: list[float]) -> dict[str, float] | None:
    """Return median and 95th percentile."""
    if not values:
        return None
    return {
        "median": round(statistics.median(values), 2),
        "p95": round(float(np.quantile(values, 0.95)), 2),
    }


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clip", type=Path, help="a video; drawn where none is given")
    parser.add_argument("--bundle", type=Path, help="a bundle, with --keys")
    parser.add_argument("--keys", type=Path, help="folder of the keys that it is trusted by")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--zone", default="", help="x1 y1 … x4 y4, fractions of the frame")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            Path(folder),
            arguments.clip,
            arguments.bundle,
            arguments.keys,
            arguments.seconds,
            arguments.zone,
        )
    print(json.dumps(msgspec.to_builtins(figures), indent=1))


if __name__ == "__main__":
    main()
