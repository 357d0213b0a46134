"""A device with a door that opens and shuts without end, run as `transom run`."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.outbox import FILE_NAME, Outbox
from tests.edge_runtime.broker import Broker, Subscriber
from tests.edge_runtime.conftest import TinyBundle, draw_scene
from transom.config import OutboxConfig

ROOT = "transom/hall-pi"
ZONES = 6
_CONFIG = """
device = "hall-pi"
state_directory = "{folder}/state"
[mqtt]
host = "{host}"
port = {port}
tls = false
[models]
store = "{folder}/store"
trusted_keys = "{keys}"
[updates]
shadow_decisions = {shadow_decisions}
healthy_s = {healthy_s}
[[cameras]]
name = "hall"
source = "file:{folder}/clip.avi"
loop = true
fps = {fps}
"""
_ZONE = """
[[cameras.zones]]
name = "{name}"
polygon = [[0.36, 0.17], [0.64, 0.17], [0.64, 0.93], [0.36, 0.93]]
"""


def configuration(
    folder: Path,
    port: int,
    keys: Path,
    *zones: str,
    host: str = "localhost",
    shadow_decisions: int = 0,
    healthy_s: int = 600,
    fps: int = 5,
) -> str:
    """Return the configuration of a device that takes bundles, with a clip in place of a camera.

    Args:
        folder: Of its files.
        port: Of its broker.
        keys: Folder of the keys that it trusts.
        zones: Their names; all are the same door.
        host: Of its broker.
        shadow_decisions: As in `[updates]`.
        healthy_s: As in `[updates]`.
        fps: Of the clip.
    """
    text = _CONFIG.format(folder=folder, host=host, port=port, keys=keys, healthy_s=healthy_s,
                          shadow_decisions=shadow_decisions, fps=fps)  # fmt: skip
    return text + "".join(_ZONE.format(name=name) for name in zones)


class Place:
    """A device's files, its broker, a door that is opened and shut without end.

    Args:
        folder: Where the device's files go.
        tiny: The bundle that serves first.
        aside: Where the log and the broker's files go; None = into the folder.
        broker: Its broker; None = one of its own.
        host: Of the broker.
    """

    def __init__(
        self,
        folder: Path,
        tiny: TinyBundle,
        aside: Path | None = None,
        *,
        broker: Broker | None = None,
        host: str = "localhost",
    ) -> None:
        self.folder, self._aside = folder, aside or folder
        self.broker = broker or Broker(self._aside / "broker")
        (folder / "store").mkdir()
        shutil.copy(tiny.path, folder / "store" / "mine.bundle")
        write_clip(folder / "clip.avi")
        zones = (f"door_{number}" for number in range(ZONES))
        text = configuration(folder, self.broker.port, tiny.keys, *zones, host=host)
        (folder / "transom.toml").write_text(text)

    @contextmanager
    def daemon(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Run it; it is killed when the block ends."""
        command = [sys.executable, "-m", "transom", "run", "--config"]
        with (self._aside / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, str(self.folder / "transom.toml")], stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def waiting(self, refused: str = "") -> list[str]:
        """Return the events that a killed daemon had accepted and not delivered.

        Args:
            refused: A topic whose events the broker does not take: they are not among them.
        """
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "state"
            shutil.copytree(self.folder / "state", copy)
            outbox = Outbox(copy / FILE_NAME, OutboxConfig())
            waiting = [(entry.event_id, entry.message.topic) for entry in outbox.pending(10_000)]
            assert outbox.counts().dropped == 0
            outbox.close()
        return [one for one, topic in waiting if topic.endswith("/event") and topic != refused]

    def log_size(self) -> int:
        """Return a number that grows when the outbox takes something."""
        written = (self.folder / "state" / f"{FILE_NAME}-wal").stat()
        return written.st_mtime_ns


def write_clip(path: Path) -> None:
    """Write a door that is shut for two and a half seconds, and then open for as long."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    for number in range(50):
        brightness = 40.0 if number < 25 else 217.0
        writer.write(np.ascontiguousarray(draw_scene(brightness, seed=number, height=240)))
    writer.release()


def payloads(heard: Subscriber, end: str) -> list[dict[str, Any]]:
    texts = [c.payload for c in heard.copies() if c.topic.endswith(end) and c.payload]
    return [json.loads(text) if isinstance(text, str) else text for text in texts]


def event_ids(heard: Subscriber) -> list[str]:
    return [event["event_id"] for event in payloads(heard, "/event")]
