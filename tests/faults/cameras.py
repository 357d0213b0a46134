"""A real daemon with cameras at real servers that fail, and what it said when."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.capture import CameraProcess, Frame
from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.notify import Notifier
from edge_runtime.replay import Recorder
from tests.edge_runtime.broker import free_port, wait_until
from tests.edge_runtime.conftest import draw_scene
from transom.bundle import Bundle
from transom.config import CameraConfig, Config, MqttConfig, ZoneConfig
from transom.messages import Message, Topics, decode_any

DOOR = ((0.36, 0.17), (0.64, 0.17), (0.64, 0.93), (0.36, 0.93))
OPEN = 217.0
FPS = 5.0
CLIP = "open.avi"
TOPICS = Topics("transom", "pi")


def write_pictures(folder: Path) -> None:
    """Draw what cameras show: a room with an open door, and what a broken stream is decoded to."""
    folder.mkdir()
    rooms = [draw_scene(OPEN, seed=seed, height=240) for seed in range(20)]
    half = [room.copy() for room in rooms]
    for picture in half:
        picture[120:] = 128
    flat = np.full_like(rooms[0], 128)
    green = flat * 0 + np.array([0, 135, 0], np.uint8)
    kinds = {"open": rooms, "half": half, "grey": [flat], "green": [green], "repeated": rooms[:1]}
    for kind, pictures in kinds.items():
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(folder / f"{kind}-{number}.jpg"), picture)
    height, width = rooms[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*"MJPG")
    clip = cv2.VideoWriter(str(folder / CLIP), code, 10.0, (width, height))
    for room in rooms:
        clip.write(room)
    clip.release()


class CameraServer:
    """A camera: a server process that shows an open door until it is told otherwise."""

    def __init__(self, pictures: Path, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, free_port()
        self._pictures = pictures
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._program()], stdin=subprocess.PIPE, start_new_session=True
        )

    def _program(self) -> list[str]:
        return ["tests.faults.camera_server", self.host, str(self.port), str(self._pictures)]

    def wait(self) -> None:
        """Wait until it can be reached."""
        wait_until(self._listens, 30.0)

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=1.0).close()
        except ConnectionRefusedError:
            return False
        return True

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/video"

    def show(self, kind: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n".encode())
        self._process.stdin.flush()

    def freeze(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


class RtspCameraServer(CameraServer):
    """A camera that speaks RTSP, by TCP: a process and its ffmpeg, which show an open door."""

    def _program(self) -> list[str]:
        return ["tests.edge_runtime.rtsp", self.host, str(self.port), str(self._pictures / CLIP)]

    @property
    def url(self) -> str:
        return f"rtsp://{self.host}:{self.port}/clip"


class CountedCamera(CameraProcess):
    """A camera whose frames' numbers are written down."""

    def __init__(self, config: CameraConfig) -> None:
        super().__init__(config)
        self.numbers: list[int] = []

    def newest(self) -> Frame | None:
        frame = super().newest()
        if frame is not None:
            self.numbers.append(frame.number)
        return frame


@dataclass(frozen=True)
class Said:
    """A state that was published."""

    at_s: float
    state: str
    reason: str | None


class Watched:
    """A daemon with a camera at each server, in a thread, and the states that it publishes.

    Args:
        bundle: What judges.
        urls: Where the cameras are; the zone of the n-th is `zone_n`.
        fps: Frames a second that are wanted of each.
    """

    def __init__(self, bundle: Bundle, urls: Sequence[str], fps: Sequence[float] = ()) -> None:
        configs = tuple(
            CameraConfig(
                name=f"camera_{number}",
                source=url,
                fps=fps[number] if fps else FPS,
                zones=(ZoneConfig(name=f"zone_{number}", polygon=DOOR),),
            )
            for number, url in enumerate(urls)
        )
        config = Config(device="pi", mqtt=MqttConfig(host="localhost"), cameras=configs)
        self.cameras = [CountedCamera(camera) for camera in configs]
        self._sent: list[tuple[float, Message]] = []
        clock = Clock()
        recorder = Recorder(TOPICS, clock, lambda s, message: self._sent.append((s, message)))
        self._daemon = Daemon(config, bundle, self.cameras, recorder, recorder, clock, Notifier({}))
        self._thread = threading.Thread(target=self._daemon.run, daemon=True)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.ask_to_stop()
        self._thread.join(10.0)

    def states(self, number: int) -> list[Said]:
        """What was said of a camera's zone, oldest first."""
        topic = TOPICS.state(f"zone_{number}")
        told = [(s, decode_any(m.payload)) for s, m in list(self._sent) if m.topic == topic]
        return [Said(s, state["state"], state.get("reason")) for s, state in told]

    def wait_for(self, number: int, state: str, after_s: float, within_s: float) -> float:
        """Return the seconds from `after_s` until a zone was in a state; fail after `within_s`."""

        def found() -> Said | None:
            states = self.states(number)
            before = [said for said in states if said.at_s <= after_s]
            if before and before[-1].state == state:
                return Said(after_s, state, None)
            return next((s for s in states if s.at_s > after_s and s.state == state), None)

        said: Said = wait_until(found, within_s + after_s - time.monotonic())
        return said.at_s - after_s


@contextlib.contextmanager
def servers(
    count: int, pictures: Path, host: str = "127.0.0.1", kind: type[CameraServer] = CameraServer
) -> Iterator[list[CameraServer]]:
    """Start camera servers, and end them whatever happens."""
    started = [kind(pictures, host) for _ in range(count)]
    try:
        for server in started:
            server.wait()
        yield started
    finally:
        for server in started:
            server.kill()
