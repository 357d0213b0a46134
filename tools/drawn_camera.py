"""A camera that shows a drawn room, and its door when somebody opens or shuts it.

`with DrawnCamera(folder) as camera`: MJPEG over HTTP, 640 x 480, five pictures a second, each with
the noise of a sensor. Nothing in it moves but the door.
"""

import threading
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from tests.edge_runtime.cameras import MjpegServer, whole
from train.scenes import generate_clip
from train.scenes.clip import Move
from transom.geometry import Zone

FPS = 5
SIZE = (640, 480)
SWINGS_AFTER_S, SWINGS_S = 1.0, 1.6
SEED = 3
"""Of a room whose door the starter proposes by itself, and whose states it tells apart."""


class DrawnCamera:
    """Serves pictures until the block ends; the door is shut at first.

    Args:
        folder: Where the room is drawn.
        port: Where it listens; 0 = any that is free.
        host: Where it listens.
        seed: Another number, another room.

    Attributes:
        zones: Where door and window are.
        url: Where its pictures are.
    """

    def __init__(
        self, folder: Path, port: int = 0, host: str = "127.0.0.1", seed: int = SEED
    ) -> None:
        self._frames, self.zones = draw_swing(folder / f"room-{seed}.mp4", seed)
        self._place, self._goal = 0, 0
        self._lock = threading.Lock()
        self._noise = np.random.default_rng(seed)
        self._server = MjpegServer(port, host)
        self._server.interval_s = 1.0 / FPS
        self._server.part = self._part
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def open_door(self) -> None:
        """Swing the door open, in as long as a person takes."""
        self._goal = len(self._frames) - 1

    def shut_door(self) -> None:
        """Swing it shut."""
        self._goal = 0

    def _part(self, _: int) -> bytes:
        with self._lock:
            self._place += int(np.sign(self._goal - self._place))
            grain = self._noise.normal(0.0, 1.5, self._frames[0].shape)
            frame = np.clip(self._frames[self._place] + grain, 0, 255).astype(np.uint8)
        return whole(bytes(cv2.imencode(".jpg", frame)[1].tobytes()))


def draw_swing(path: Path, seed: int) -> tuple[list[npt.NDArray[Any]], dict[str, Zone]]:
    """Draw a door that swings open; return its pictures, shut to open, and the zones.

    Each picture is (480, 640, 3) uint8, BGR.
    """
    script = (Move("door", SWINGS_AFTER_S, SWINGS_S, "open"),)
    seconds = SWINGS_AFTER_S + SWINGS_S + 2.0 / FPS
    truth = generate_clip(path, seed=seed, seconds=seconds, fps=FPS, size=SIZE, script=script)
    reader = cv2.VideoCapture(str(path))
    frames = [reader.read()[1] for _ in range(truth.frames)]
    reader.release()
    return frames[round(SWINGS_AFTER_S * FPS) - 1 :], truth.zones
