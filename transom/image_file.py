"""Pictures as they lie in a data set: read whole and upright, or said why not."""

from pathlib import Path

import cv2
import numpy as np

from transom.crop import Image


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
        raise ImageError(f"image {path} cannot be read: {error.strerror}") from error
    if _is_cut_off(data):
        raise ImageError(f"image {path} is cut off; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise ImageError(f"image {path} cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"image {path} is no image that OpenCV reads")
    return np.asarray(image, np.uint8)


def _is_cut_off(data: bytes) -> bool:
    """Whether the end is missing; OpenCV fills what it does not find with grey and says nothing."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return data.startswith(b"\x89PNG") and b"IEND" not in data[-1024:]
