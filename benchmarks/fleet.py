"""A rollout over many devices at a real broker: how long, how much the broker carries, who fails.

    python benchmarks/fleet.py --devices 1000
    python benchmarks/fleet.py --devices 1000 --failing 10

`transom deploy` runs as a user runs it, in a process of its own, against a mosquitto on loopback.
The devices are clients of one process: each has a connection of its own, fetches every chunk of
the bundle through it as a device does (`download.fetch_chunks`' window), checks the chunks' digests
and the file's, and reports the steps. What a device does after that, trial and shadow, is its own
processor's work and not measured here: a failing one reports that its goldens are wrong.

The bundle is the starter's, or any. The broker's bytes are those that it says itself ($SYS).
"""

import argparse
import hashlib
import json
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_runtime.download import WINDOW
from transom.chunks import read_chunk
from transom.messages import ONLINE, ModelState, Topics
from transom.starter import bundle_path
from transom.updates import Install, ModelReport, Step, depot_topic, read_desired

PREFIX = "transom"
SERVES = 0


class Device:
    """One device's way with a wish, without its network."""

    def __init__(self, name: str, port: int, *, fails: bool) -> None:
        self.topics = Topics(PREFIX, name)
        self.sequence = SERVES
        self._fails = fails
        self._wish: Install | None = None
        self._next = 0
        self._early: dict[int, bytes] = {}
        self._digest = hashlib.sha256()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.on_connect = self._greet
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", port, keepalive=600)

    def _greet(self, *_: Any) -> None:
        self.client.subscribe(self.topics.model_desired, 1)
        state = ModelState(installed_version="0", latest_version="0", title="old")
        self.client.publish(self.topics.model_state, msgspec.json.encode(state), 1, retain=True)
        self.client.publish(self.topics.status, ONLINE, 1, retain=True)

    def _take(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic == self.topics.model_desired:
            wish = read_desired(message.payload, message.topic)
            self._begin(wish if isinstance(wish, Install) else None)
        elif self._wish is not None and message.payload:
            self._take_chunk(self._wish, message)

    def _begin(self, wish: Install | None) -> None:
        self._wish = wish
        if wish is None:
            return
        self._tell(wish, "accepted")
        self._next, self._early, self._digest = 0, {}, hashlib.sha256()
        for chunk in range(min(WINDOW, wish.chunks)):
            self.client.subscribe(depot_topic(PREFIX, wish.digest, chunk), 1)

    def _take_chunk(self, wish: Install, message: paho.MQTTMessage) -> None:
        chunk = int(message.topic.rpartition("/")[2])
        size = min(65536, wish.size_bytes - chunk * 65536)
        self._early[chunk] = read_chunk(message.payload, size, message.topic)
        self.client.unsubscribe(message.topic)
        while (data := self._early.pop(self._next, None)) is not None:
            self._digest.update(data)
            self._next += 1
            ahead = self._next + WINDOW - 1
            if ahead < wish.chunks:
                self.client.subscribe(depot_topic(PREFIX, wish.digest, ahead), 1)
        if self._next == wish.chunks:
            self._decide(wish)

    def _decide(self, wish: Install) -> None:
        self._wish = None
        if self._digest.hexdigest() != wish.digest:
            raise AssertionError("chunks do not make the file")
        self._tell(wish, "verified")
        if self._fails:
            self._tell(wish, "refused", "golden vectors: another class (simulated)")
        else:
            self.sequence = wish.sequence
            self._tell(wish, "committed")

    def _tell(self, wish: Install, step: Step, reason: str = "") -> None:
        report = ModelReport(
            request=wish.request,
            step=step,
            name=wish.name,
            sequence=wish.sequence,
            digest=wish.digest,
            at="",
            reason=reason,
        )
        self.client.publish(self.topics.model_report, msgspec.json.encode(report), 1)


def move(devices: list[Device], poll: select.poll, by_descriptor: dict[int, Device]) -> None:
    """Move what bytes there are, of all devices."""
    for device in devices:
        if device.client.want_write():
            device.client.loop_write()
    for descriptor, _ in poll.poll(20):
        by_descriptor[descriptor].client.loop_read()


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "sys_interval 1", "user root"]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            ["mosquitto", "-c", folder / "mosquitto.conf"], stdout=log, stderr=log
        )
    until_s = time.monotonic() + 10.0
    while time.monotonic() < until_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def broker_says(port: int, topic: str) -> int:
    """Return a figure of the broker's own."""
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-C", "1"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return int(said.stdout)


def run(count: int, failing_percent: float, bundle: Path, folder: Path) -> dict[str, Any]:
    """Return what a rollout over so many devices took."""
    marks = random.Random(1)
    with broker(folder) as port:
        devices = [
            Device(f"pi-{n:04}", port, fails=marks.random() * 100 < failing_percent)
            for n in range(count)
        ]
        by_descriptor = {device.client.socket().fileno(): device for device in devices}
        poll = select.poll()
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        until_s = time.monotonic() + 2.0  # everybody connects and says so
        while time.monotonic() < until_s:
            move(devices, poll, by_descriptor)
        before = broker_says(port, "$SYS/broker/bytes/sent")
        command = [sys.executable, "-m", "transom", "deploy", str(bundle), "--all", "--json"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--no-tls"]
        with (folder / "told.json").open("wb") as output:  # more than a pipe holds
            process = subprocess.Popen(command, stdout=output)
            while process.poll() is None:
                move(devices, poll, by_descriptor)
        told = json.loads((folder / "told.json").read_text())
        time.sleep(1.5)  # the broker counts once a second
        sent = broker_says(port, "$SYS/broker/bytes/sent") - before
    return {
        "devices": count,
        "failing": sum(device._fails for device in devices),
        "bundle_bytes": bundle.stat().st_size,
        "aborted": told["aborted"],
        "counts": told["counts"],
        "new": sum(device.sequence != SERVES for device in devices),
        "seconds": told["seconds"],
        "sent_mb": round(sent / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--failing", type=float, default=0.0, help="per cent")
    parser.add_argument("--bundle", type=Path, default=bundle_path("starter"))
    arguments = parser.parse_args()
    if shutil.which("mosquitto") is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto mosquitto-clients")
    with tempfile.TemporaryDirectory() as folder:
        told = run(arguments.devices, arguments.failing, arguments.bundle, Path(folder))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
