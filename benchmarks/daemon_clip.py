r"""Measure the daemon on a clip: start, latency, memory, processor time, bytes written.

    python -m benchmarks.daemon_clip                      # a door that opens and shuts: latency
    python -m benchmarks.daemon_clip --scene still        # nothing moves: the least it costs
    python -m benchmarks.daemon_clip --scene moving       # the door never rests: the most it costs
    python -m benchmarks.daemon_clip --scene still --bundle starter --peers build/peers/bin/python \
        --frigate build/peer-files/starter/frigate.tflite
    python -m benchmarks.daemon_clip --bundle home.bundle --keys keys --clip hall.mp4 --rounds 8

The daemon runs as a user runs it (`transom run`), with a real mosquitto on loopback. A clip is
drawn where none is given: 640 x 480, H.264, 30 frames a second, watched at 5 frames a second.
Without a bundle a network judges it that knows brightness only, so that what is measured is the
daemon and not a network (`--bundle starter`, `transom bench` measure those).

Start is from the process to the first state with a class at a subscriber; beside it stands how long
this machine takes, at the same time of day, to import the libraries alone. Latency is from the
moment the deciding frame left the camera to the broker's acknowledgement, read off the wire by a
relay, on one monotonic clock. The filter's delay, from a change in the clip to the deciding frame,
is apart: it is waiting on purpose. Processor time is put in relation to a bare OpenCV loop that
reads the same clip at the same pace, at the same time on the same machine; with `--frigate` also to
that loop with Frigate's recipe on top: its network in TensorFlow Lite, two threads, once a second
(`benchmarks.peers` installs the one and writes the other). The loops begin anew in each of several
rounds; a ratio is the median over the rounds, with the lowest and the highest beside it.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import paho.mqtt.client as mqtt

from benchmarks.clip_loop import read_clip
from benchmarks.mqtt_relay import Relay
from edge_runtime.replay import replay
from tests.edge_runtime.broker import Broker
from tests.edge_runtime.conftest import draw_scene, tiny_goldens, tiny_manifest, tiny_model
from transom.bundle import read_bundle, write_bundle
from transom.config import load_config
from transom.geometry import Zone
from transom.messages import Message, ZoneEvent, ZoneState, decode
from transom.signing import load_private_key, new_key
from transom.starter import STARTER, bundle_path
from transom.tasks import UNKNOWN

CLIP_FPS = 30.0
WATCHED_FPS = 5.0
HALF_PERIOD_S = 3.0
CLIP_S = 30.0
SCENES = ("swing", "still", "moving")
BOUNDS = {
    "cpu_to_bare_opencv": {"still": 1.25, "moving": 2.0},
    "cpu_to_frigate_recipe": {"still": 1.0},
    "main_pss_mib": 110.0,
    "camera_pss_mib": 60.0,
    "start_to_first_state_s": 2.0,
    "written_kib_per_event": 24.0,
}
LEAST_PACE = 0.95
"""Of the frames that were due; below it ratios of processor time say nothing."""
ZONE = [[0.36, 0.17], [0.64, 0.17], [0.64, 0.93], [0.36, 0.93]]
WARM_UP_S = 65.0  # by then the view has been taken down and the precision measured, once each

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


def draw_clip(path: Path, scene: str) -> None:
    """Write a clip of a door: it opens and shuts (`swing`), stays shut, or never rests."""
    size = (640, 480)
    rng = np.random.default_rng(1)
    noise = rng.normal(0.0, 3.0, (512, 672, 3)).astype(np.int16)
    pictures: dict[int, npt.NDArray[np.int16]] = {}
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"]
    command += ["-s", f"{size[0]}x{size[1]}", "-r", str(CLIP_FPS), "-i", "-"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-pix_fmt", "yuv420p"]
    with subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE) as encoder:
        if encoder.stdin is None:
            raise AssertionError("the encoder reads from here")
        for number in range(int(CLIP_S * CLIP_FPS)):
            level = brightness(scene, number / CLIP_FPS)
            if level not in pictures:
                pictures[level] = draw_scene(level, noise=0.0).astype(np.int16)
            down, right = rng.integers(0, 32, 2)
            grain = noise[down : down + size[1], right : right + size[0]]
            encoder.stdin.write(np.clip(pictures[level] + grain, 0, 255).astype(np.uint8))


def brightness(scene: str, clip_s: float) -> int:
    """Return how bright the door is at a time of the clip."""
    if scene == "swing":
        return 217 if int(clip_s / HALF_PERIOD_S) % 2 else 40
    if scene == "moving":
        return round(128.0 - 88.0 * math.cos(2.0 * math.pi * clip_s / (2.0 * HALF_PERIOD_S)))
    return 40


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
    """Read a clip with nothing but OpenCV, at its own pace; send what `read_clip` returns."""
    answer.send(read_clip(clip, seconds, None))


def start_frigate(clip: str, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the same loop with Frigate's recipe; it prints what `read_clip` returns."""
    module = "benchmarks.clip_loop"
    command = [arguments.peers, "-m", module, clip, str(arguments.seconds), str(arguments.frigate)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def processor_s(process_id: int) -> float:
    """Return the processor time that a process has used, seconds, to the nanosecond."""
    return time.clock_gettime((~process_id << 3) | 2)  # CPUCLOCK_SCHED of another process


def memory_mib(process_id: int) -> dict[str, float]:
    """Return resident and proportional memory of a process, MiB."""
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) / 1024.0 for line in lines}
    return {"rss_mib": round(values["Rss"], 1), "pss_mib": round(values["Pss"], 1)}


def written_bytes(process_id: int) -> int:
    """Return the bytes that a process has caused to be written to a disk."""
    lines = Path(f"/proc/{process_id}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def import_s() -> float:
    """Return how long a fresh interpreter takes to import the daemon's libraries, seconds."""
    began_s = time.monotonic()
    code = "import cv2, numpy, onnxruntime, paho.mqtt.client, msgspec, cryptography.x509"
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - began_s


def first_state(port: int) -> "threading.Event":
    """Return an event that is set when a zone's state with a class is published."""
    seen = threading.Event()

    def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        if decode(message.payload, ZoneState, message.topic).state != UNKNOWN:
            seen.set()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe("transom/bench/door/state", 1)
    client.connect("localhost", port)
    client.loop_start()
    return seen


def filter_delays_s(config_file: Path, clip: Path, bundle: Path | str) -> list[float]:
    """Return the seconds from each change in the drawn clip to the event, in a replay."""
    told: list[float] = []

    def tell(clip_s: float, message: Message) -> None:
        if message.topic.endswith("/event"):
            event = decode(message.payload, ZoneEvent, message.topic)
            if event.event_type in ("opened", "closed"):
                told.append(clip_s)

    file = bundle_path(STARTER) if bundle == STARTER else Path(bundle)
    replay(load_config(config_file), read_bundle(file, None), {"clip": clip}, tell)
    return [t % HALF_PERIOD_S for t in told]


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the daemon and the bare loop side by side, and return the figures."""
    clip, bundle, keys = arguments.clip, arguments.bundle, arguments.keys
    if clip is None:
        clip = folder / "clip.mp4"
        draw_clip(clip, arguments.scene)
    if bundle is None:
        bundle, keys = make_tiny_bundle(folder)
    config_file = folder / "transom.toml"
    corners = Zone.from_text(arguments.zone).points if arguments.zone else ZONE
    with Broker(folder / "broker") as broker, Relay(broker.port) as relay:
        config_file.write_text(
            CONFIG.format(
                folder=folder,
                port=relay.port,
                keys=keys or folder,
                bundle=bundle,
                clip=clip,
                fps=WATCHED_FPS,
                zone=[list(point) for point in corners],
            )
        )
        seen, imports_s = first_state(broker.port), import_s()
        began_s = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "transom", "run", "--config", str(config_file)],
            stderr=subprocess.DEVNULL,
        ) as daemon:
            has_state = seen.wait(60.0)
            start_s = time.monotonic() - began_s
            figures = watch(daemon.pid, str(clip), arguments, relay)
            daemon.terminate()
    figures["start_to_first_state_s"] = round(start_s, 2) if has_state else None
    figures["importing_libraries_s"] = round(imports_s, 2)
    if arguments.clip is None and arguments.scene == "swing":
        figures["filter_delay_s"] = spread(filter_delays_s(config_file, clip, bundle))
    return figures


def watch(
    process_id: int, clip: str, arguments: argparse.Namespace, relay: Relay
) -> dict[str, Any]:
    """Take the figures of a running daemon."""
    time.sleep(WARM_UP_S)
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    processes = {"main": process_id, "camera": int(children[0])}
    first = len(relay.acknowledged)
    before = {name: written_bytes(number) for name, number in processes.items()}
    began_s = time.monotonic()
    rounds = [take_round(processes, clip, arguments) for _ in range(arguments.rounds)]
    passed_s = time.monotonic() - began_s
    written = sum(written_bytes(number) - before[name] for name, number in processes.items())
    events = relay.acknowledged[first:]
    return {
        "seconds": round(passed_s, 1),
        "rounds": len(rounds),
        "events": len(events),
        "frame_to_puback_ms": spread([(at - event.monotonic_ns) / 1e6 for event, at in events]),
        "memory": {name: memory_mib(number) for name, number in processes.items()},
        **{
            name: round(statistics.median(found[name] for found in rounds), 2) for name in rounds[0]
        },
        "ratios_from_to": {
            name: [round(f([found[name] for found in rounds]), 2) for f in (min, max)]
            for name in rounds[0]
            if name.startswith("cpu_to")
        },
        "written_kib": round(written / 1024.0, 1),
        "written_kib_per_event": round(written / 1024.0 / len(events), 1) if events else None,
    }


def take_round(
    processes: dict[str, int], clip: str, arguments: argparse.Namespace
) -> dict[str, float]:
    """Return what the daemon used while the loops beside it ran, and what they used."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    bare = context.Process(target=read_bare, args=(clip, arguments.seconds, theirs))
    bare.start()
    frigate = start_frigate(clip, arguments) if arguments.frigate else None
    theirs.close()  # so that its end is noticed here
    before = {name: processor_s(number) for name, number in processes.items()}
    began_s = time.monotonic()
    bare_cpu, bare_pace = ours.recv()  # comes after `seconds`
    passed_s = time.monotonic() - began_s
    used = {name: (processor_s(n) - before[name]) / passed_s for name, n in processes.items()}
    bare.join()
    beside = {} if frigate is None else beside_frigate(frigate, sum(used.values()))
    return {
        **{f"{name}_cpu_percent": 100.0 * value for name, value in used.items()},
        "bare_opencv_cpu_percent": 100.0 * bare_cpu,
        "bare_opencv_pace": bare_pace,
        "cpu_to_bare_opencv": sum(used.values()) / bare_cpu,
        **beside,
    }


def beside_frigate(frigate: subprocess.Popen[str], ours: float) -> dict[str, float]:
    """Return what Frigate's recipe used, and ours, processor time per second, over it."""
    theirs, pace = map(float, frigate.communicate()[0].split())
    return {
        "frigate_recipe_cpu_percent": 100.0 * theirs,
        "frigate_recipe_pace": pace,
        "cpu_to_frigate_recipe": ours / theirs,
    }


def beyond_bounds(figures: dict[str, Any], scene: str) -> list[str]:
    """Return which figures miss what this project promises."""
    found = {
        "cpu_to_bare_opencv": figures["cpu_to_bare_opencv"],
        "cpu_to_frigate_recipe": figures.get("cpu_to_frigate_recipe"),
        "main_pss_mib": figures["memory"]["main"]["pss_mib"],
        "camera_pss_mib": figures["memory"]["camera"]["pss_mib"],
        "start_to_first_state_s": figures["start_to_first_state_s"],
        "written_kib_per_event": figures["written_kib_per_event"],
    }
    missed = []
    for name, value in found.items():
        bound = BOUNDS[name]
        limit = bound.get(scene) if isinstance(bound, dict) else bound
        if limit is not None and value is not None and value > limit:
            missed.append(f"{name} {value} > {limit}")
    if figures["bare_opencv_pace"] < LEAST_PACE:
        missed.append(f"too busy: bare OpenCV read {figures['bare_opencv_pace']:.0%} of the frames")
    if not figures["events"] and figures["written_kib"]:
        missed.append(f"written_kib {figures['written_kib']} without an event")
    return missed


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
    parser.add_argument("--scene", choices=SCENES, default="swing", help="what the door does")
    parser.add_argument("--clip", type=Path, help="a video; drawn where none is given")
    parser.add_argument("--bundle", help="a bundle with --keys, or the word starter")
    parser.add_argument("--keys", type=Path, help="folder of the keys that it is trusted by")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--frigate", type=Path, help="its network, of benchmarks.tflite_files")
    parser.add_argument("--peers", default=sys.executable, help="an interpreter that can run it")
    parser.add_argument("--zone", default="", help="x1 y1 … x4 y4, fractions of the frame")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments)
    figures["beyond_bounds"] = beyond_bounds(figures, arguments.scene)
    print(json.dumps(msgspec.to_builtins(figures), indent=1))


if __name__ == "__main__":
    main()
