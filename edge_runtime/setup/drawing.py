"""A picture with zones drawn into it, and rulers to read numbers from."""

from collections.abc import Sequence

import cv2
import numpy as np

from edge_runtime.setup.draft import DraftZone
from transom.crop import Image

_COLOURS = ((60, 200, 60), (240, 160, 40), (60, 140, 255), (200, 80, 220), (40, 220, 230))
_WIDTH_PX = 1280
_TICKS = 20


def draw_zones(image: Image, zones: Sequence[DraftZone]) -> Image:
    """Return a picture for people: each zone with its number and name, rulers in parts of 1.

    Args:
        image: (H, W, 3) uint8 BGR.
        zones: Numbered from 1.

    Returns:
        (h, w, 3) uint8 BGR, w is 1280.
    """
    height = max(round(image.shape[0] * _WIDTH_PX / image.shape[1]), 1)
    canvas = cv2.resize(image, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    _draw_rulers(canvas)
    for number, zone in enumerate(zones, 1):
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        corners = zone.zone.pixels(*canvas.shape[:2]).round().astype(np.int32)
        cv2.polylines(canvas, [corners], True, (0, 0, 0), 5, cv2.LINE_AA)
        cv2.polylines(canvas, [corners], True, colour, 3, cv2.LINE_AA)
        left, top = corners.min(axis=0).tolist()
        _write(canvas, f"{number} {zone.name}", (left + 6, top + 28), 0.8, colour)
    return np.asarray(canvas, np.uint8)


def as_jpeg(image: Image) -> bytes:
    """Return a picture, (H, W, 3) uint8 BGR, as a file."""
    _done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


def _draw_rulers(canvas: cv2.typing.MatLike) -> None:
    height, width = canvas.shape[:2]
    white = (255, 255, 255)
    for tick in range(1, _TICKS):
        is_named = tick % 2 == 0
        length = 16 if is_named else 8
        x, y = width * tick // _TICKS, height * tick // _TICKS
        for thickness, colour in ((3, (0, 0, 0)), (1, white)):
            cv2.line(canvas, (x, 0), (x, length), colour, thickness)
            cv2.line(canvas, (0, y), (length, y), colour, thickness)
        if is_named:
            said = f"{tick / _TICKS:.1f}"
            _write(canvas, said, (x - 14, 34), 0.5, white)
            _write(canvas, said, (20, y + 5), 0.5, white)


def _write(
    canvas: cv2.typing.MatLike,
    text: str,
    place: tuple[int, int],
    scale: float,
    colour: tuple[int, int, int],
) -> None:
    for thickness, ink in ((4, (0, 0, 0)), (1 if scale < 0.6 else 2, colour)):
        cv2.putText(
            canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA
        )
