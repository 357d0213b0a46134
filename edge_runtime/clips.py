"""Clips, and folders of pictures, read by their own time."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from transom.crop import Image
from transom.errors import CameraError

NOTHING = (
    "holds no picture that can be read; a clip of another codec is converted by "
    "ffmpeg -i CLIP -c:v libx264 NEW.mp4"
)
"""What an error says of a clip none of whose pictures can be decoded."""

_LONGEST_GAP_S = 60.0
_JUMP_S = 1.0
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


class FilePicture(NamedTuple):
    """One picture of a clip.

    Attributes:
        clip_s: Seconds since the clip's start, growing.
        image: (H, W, 3) uint8 BGR.
        key_frames: How many key frames the clip has had so far; None = its pictures stand each
            for itself.
    """

    clip_s: float
    image: Image
    key_frames: int | None = None


def read_file(path: Path, folder_fps: float = 5.0) -> Iterator[FilePicture]:
    """Read a clip, or a folder of pictures in the order of their names, as fast as it goes.

    Args:
        path: Video file or folder.
        folder_fps: Pictures of a folder per second of its time.

    Yields:
        The pictures, in the order of their time.

    Raises:
        CameraError: There is nothing that can be read.
    """
    frames = _read_folder(path, folder_fps) if path.is_dir() else _read_clip(path)
    first = next(frames, None)
    if first is None:
        kinds = f"holds no picture ({', '.join(sorted(_PICTURES))})"
        raise CameraError(f"{path}: {kinds if path.is_dir() else NOTHING}")
    yield first
    yield from frames


def _read_folder(path: Path, fps: float) -> Iterator[FilePicture]:
    # A name that begins with a dot is no picture: macOS leaves such beside each that it copies.
    names = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in _PICTURES and not entry.name.startswith(".")
    )
    for index, name in enumerate(names):
        image = cv2.imread(str(name), cv2.IMREAD_COLOR)
        if image is None:
            raise CameraError(f"{name}: is not a picture that can be read")
        yield FilePicture(index / fps, np.asarray(image, np.uint8))


def _read_clip(path: Path) -> Iterator[FilePicture]:
    capture = open_clip(path, str(path))
    try:
        times = MediaTime(capture)
        key_frames = 0
        while capture.grab():
            seconds = times.of_grabbed()
            key_frames += frame_type(capture) == "I"
            done, image = capture.retrieve()
            if done:
                yield FilePicture(seconds, np.asarray(image, np.uint8), key_frames)
    finally:
        capture.release()


class MediaTime:
    """Time of a file's pictures: their own where it grows, counted by the frame rate otherwise.

    Attributes:
        interval_s: Between two pictures, by the frame rate.
    """

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.interval_s = 1.0 / fps if 0.1 <= fps <= 1000.0 else 0.04
        self._first_s: float | None = None
        self._last_s = 0.0

    def of_grabbed(self) -> float:
        """Return seconds since the first picture."""
        stated_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        if self._first_s is None:
            self._first_s = stated_s
        elif self._last_s < stated_s - self._first_s < self._last_s + _LONGEST_GAP_S:
            self._last_s = stated_s - self._first_s
        else:
            is_elsewhere = abs(stated_s - self._first_s - self._last_s) >= _JUMP_S
            self._last_s += self.interval_s
            if is_elsewhere:  # recordings joined, or a pause: from here on it grows again
                self._first_s = stated_s - self._last_s
        return self._last_s


def open_clip(path: Path, shown: str) -> cv2.VideoCapture:
    """Open a video file.

    Args:
        path: The file.
        shown: What an error calls it.

    Raises:
        CameraError: It is not there, or cannot be read.
    """
    if not path.is_file():
        raise CameraError(f"{shown}: there is no such file")
    # Absolute: before a colon in a recording's name, FFmpeg would take it for a protocol's.
    place = str(path.absolute())
    capture = cv2.VideoCapture(place, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise CameraError(f"{shown}: is not a video that can be read")
    return capture


def frame_type(capture: cv2.VideoCapture) -> str:
    """Return what the picture that was grabbed last builds on.

    `I`, a key frame: on nothing; `P`: on earlier pictures; `B`: on later ones, too; `?`: not known.
    """
    return chr(int(capture.get(cv2.CAP_PROP_FRAME_TYPE)))
