"""Pictures as they lie in a data set: read whole and upright, or said why not."""

import re
from pathlib import Path

import cv2
import numpy as np

from transom.crop import Image

# Not those without a length, nor what would be damage in the data behind a start of scan.
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xdf\xe0-\xef\xfe]")
_JPEG_END = 0xD9
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class ImageError(Exception):
    """An image that cannot be read; the message says why."""


def read_image(path: Path) -> Image:
    """Read an image file upright, (H, W, 3) uint8 BGR.

    Raises:
        ImageError: The file is missing, cut off, or no image that OpenCV reads.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        # As programs on Windows write a path into a table.
        advice = "; folders are separated by /" if "\\" in path.name else ""
        raise ImageError(f"image {path} cannot be read: {error.strerror}{advice}") from error
    if _is_cut_off(data):
        raise ImageError(f"image {path} is cut off; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise ImageError(f"image {path} cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"image {path} {_unreadable(data)}")
    return np.asarray(image, np.uint8)


def _is_cut_off(data: bytes) -> bool:
    """Whether the end is missing; OpenCV fills what it does not find with grey and says nothing."""
    if data.startswith(b"\xff\xd8"):
        return not _has_jpeg_end(data)
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _has_jpeg_end(data: bytes) -> bool:
    """Whether the picture ends in this file; a phone may have put a film behind its end."""
    place = 2
    while found := _JPEG_MARKER.search(data, place):
        kind = found.group()[-1]
        if kind == _JPEG_END:
            return True
        # What a segment holds may look like a marker: it is passed over by its length.
        size = data[found.end() : found.end() + 2]
        place = found.end() + int.from_bytes(size, "big")
    return False


def _unreadable(data: bytes) -> str:
    """What a file is that OpenCV does not read, and what to do."""
    if not data:
        return "is empty; copy it again"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return "is HEIC, whatever its name, and OpenCV does not read that; save it as JPEG"
    return "is no image that OpenCV reads"
