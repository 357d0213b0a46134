"""Stands where picamera2 stands on a Pi, with what Transom calls of it.

What a camera does follows from its number: 0 works, 1 is not there, 2 leaks slowly, 3 leaks all
at once, 4 fails after ten pictures, 5 hangs after ten pictures, 6 finds no memory after ten, 7 does
not start at the first time.
"""

import threading
import time

import numpy as np

WORKS, MISSING, LEAKS, BURSTS, FAILS, HANGS, STARVES, STALLS = range(8)
FRAME_RATE_LIMITS = (1.0, 60.0)

released = threading.Event()
"""Set to let a camera that hangs go on."""

_held: set[int] = set()
_stalled: set[int] = set()


class Picamera2:
    """A camera that shows a bright red top half and a dark bottom half, and noise."""

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num == MISSING:
            raise IndexError("list index out of range")
        if camera_num in _held:
            try:
                raise RuntimeError("Failed to acquire camera: Device or resource busy")
            except RuntimeError:
                raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904 - so
        _held.add(camera_num)
        self._number = camera_num
        self._size = (0, 0)
        self._is_started = False
        self._pictures = 0
        self._leaked: list[np.ndarray] = []

    def create_video_configuration(self, main: dict, controls: dict) -> dict:
        low, high = FRAME_RATE_LIMITS
        if main["format"] != "RGB888" or not low <= controls["FrameRate"] <= high:
            raise ValueError(f"a real camera would refuse {main} {controls}")
        return {"main": main, "controls": controls}

    def configure(self, configuration: dict) -> None:
        self._size = configuration["main"]["size"]
        self._pause_s = 1.0 / configuration["controls"]["FrameRate"]

    def start(self) -> None:
        if self._number == STALLS and STALLS not in _stalled:
            _stalled.add(STALLS)
            raise RuntimeError("Failed to start camera: Cannot allocate memory")
        self._is_started = True

    def capture_array(self, name: str = "main") -> np.ndarray:
        if name != "main" or not self._is_started:
            raise RuntimeError("camera is not started")
        time.sleep(self._pause_s)
        self._pictures += 1
        if self._pictures > 10 and self._number == FAILS:
            raise RuntimeError("camera frontend has timed out")
        if self._pictures > 10 and self._number == STARVES:
            raise MemoryError("no memory for rtsp://me:geheim@cam.lan")
        if self._pictures > 10 and self._number == HANGS:
            released.wait()
        if self._number == LEAKS:
            self._leaked.append(np.ones(1 << 19, np.uint8))
        if self._number == BURSTS:
            self._leaked.append(np.ones(1 << 30, np.uint8))
        width, height = self._size
        picture = np.full((height, width, 3), 20, np.uint8)
        picture[: height // 2] = (30, 30, 200)  # libcamera's RGB888: blue, green, red in memory
        picture[::8, ::8] += np.uint8(self._pictures % 5)
        return picture

    def close(self) -> None:
        self._is_started = False
        _held.discard(self._number)
