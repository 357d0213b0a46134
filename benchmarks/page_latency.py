"""What the page costs the daemon's loop: the time of a turn with and without somebody who looks.

One daemon with the starter judges a moving picture, turn after turn. In short rounds, one kind
after the other in any order, so that whatever else the machine does falls on all alike: the page
off; on, and nobody asks; one browser that asks as the page's own script does; a script with the
token that asks for pictures without a pause; and strangers who ask without a pause.

    python benchmarks/page_latency.py
"""

import argparse
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.models import serving_bundle
from edge_runtime.notify import Notifier
from edge_runtime.replay import ClipCamera, Recorder
from edge_runtime.samples import SampleStore
from edge_runtime.web.device import DeviceDesk
from edge_runtime.web.server import PageServer
from transom.config import (
    CameraConfig,
    Config,
    ModelsConfig,
    MqttConfig,
    PageConfig,
    SamplesConfig,
    ZoneConfig,
)
from transom.crop import Image
from transom.messages import Topics

ASKERS = {
    "off": None,
    "on, nobody asks": None,
    "one browser": ("token", 1.0),
    "a script without a pause": ("token", 0.0),
    "strangers without a pause": ("none", 0.0),
}
ASK = """
import http.client, sys, time
port, token, pause_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
while True:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for path in ("/api/status", "/api/cameras/hall/picture", "/api/zones/door/history"):
        connection.request("GET", path, headers={"Authorization": "Bearer " + token})
        connection.getresponse().read()
    connection.close()
    print(flush=True)
    time.sleep(pause_s)
"""


@contextmanager
def asking(port: int, token: str, kind: str) -> Iterator[None]:
    """Let somebody ask for as long as this lasts."""
    asker = ASKERS[kind]
    if asker is None:
        if kind != "off":
            _ask_once(port)
        yield
        return
    said = token if asker[0] == "token" else "x" * 32
    command = [sys.executable, "-c", ASK, str(port), said, str(asker[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is not None:
                process.stdout.readline()  # it has begun, and so has the page's process
            yield
        finally:
            process.kill()


def _ask_once(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()


def moving_pictures() -> Iterator[Image]:
    """Yield 720p pictures of which each shows something new, as a camera's do."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (18, 32, 3), np.uint8)
    scene = cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC)
    while True:
        scene = np.roll(scene, int(random.integers(5, 40)), axis=1)
        noise = random.integers(0, 6, (720, 1280, 1), np.uint8)
        yield cv2.add(scene, np.repeat(noise, 3, axis=2)).astype(np.uint8)


def turns_ms(
    daemon: Daemon, camera: ClipCamera, pictures: Iterator[Image], seconds: float
) -> list[float]:
    """Give the daemon a frame ten times a second; return what each turn took, milliseconds."""
    found = []
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        picture = next(pictures)
        began_s = time.monotonic()
        camera.show(picture, time.monotonic_ns())
        daemon.step()
        found.append(1000.0 * (time.monotonic() - began_s))
        with daemon.resting():
            time.sleep(max(0.1 - (time.monotonic() - began_s), 0.0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.6, help="of a kind in a round")
    arguments = parser.parse_args()
    zone = ZoneConfig(name="door", polygon=((0.3, 0.1), (0.6, 0.1), (0.6, 0.9), (0.3, 0.9)))
    config = Config(
        device="pi",
        mqtt=MqttConfig(host="localhost"),
        samples=SamplesConfig(),
        cameras=(CameraConfig(name="hall", source="file:x.mp4", fixed=False, zones=(zone,)),),
    )
    pictures = moving_pictures()
    with tempfile.TemporaryDirectory() as folder:
        clock, camera = Clock(), ClipCamera("hall")
        recorder = Recorder(Topics("transom", "pi"), clock, lambda _s, _message: None)
        store = SampleStore(Path(folder) / "samples.sqlite3", config.samples or SamplesConfig())
        daemon = Daemon(
            config,
            serving_bundle(ModelsConfig(bundle="starter")),
            [camera],
            recorder,
            recorder,
            clock,
            Notifier({}),
            samples=store,
            is_shown=True,
        )
        daemon.start()
        server = PageServer(PageConfig(port=0), Path(folder))
        token = (Path(folder) / "page-token").read_text().strip()
        desk = DeviceDesk(config, Path(folder) / "x.toml", daemon, store, clock, lambda: None)
        turns_ms(daemon, camera, pictures, 1.0)
        taken: dict[str, list[float]] = {kind: [] for kind in ASKERS}
        order = np.random.default_rng(1)
        for _ in range(arguments.rounds):
            for kind in order.permutation(list(ASKERS)).tolist():
                if kind != "off":
                    server.start(desk)
                with asking(server.port, token, kind):
                    taken[kind] += turns_ms(daemon, camera, pictures, arguments.seconds)
                if kind != "off":
                    server.stop()
        server.close()
        store.close()
    off = np.array(taken["off"])
    print(f"{'':28} turns   median   against off   p95   against off")
    for kind, values in taken.items():
        median, late = np.median(values), np.percentile(values, 95)
        print(
            f"{kind:28} {len(values):5}  {median:6.1f} ms  {median / np.median(off):8.2f}"
            f"   {late:6.1f} ms  {late / np.percentile(off, 95):8.2f}"
        )


if __name__ == "__main__":
    main()
