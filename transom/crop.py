"""From a zone of a frame to the network's input. The only such code in Transom.

Training, export, the daemon and every tool call `crop_zone`, so that a network sees on the
device byte for byte what it saw in training.
"""

import cv2
import numpy as np
import numpy.typing as npt

from transom.geometry import Zone

Image = npt.NDArray[np.uint8]

_AXIS_TOLERANCE_PX = 0.51


def crop_zone(frame: Image, zone: Zone, size: int, margin: float = 0.0) -> Image:
    """Rectify a zone to a square.

    Args:
        frame: (H, W, 3) uint8, BGR as OpenCV delivers.
        zone: What to cut, in fractions of the frame.
        size: Side of the result in pixels, at least 8.
        margin: How much of the zone's own width and height is added on each side, 0 to 1. What
            lies outside the frame repeats its border.

    Returns:
        (size, size, 3) uint8 BGR. Shrinking averages areas (`INTER_AREA`), so that fine texture
        does not alias; enlarging is bilinear.

    Raises:
        TypeError: `frame` is not an array; `cv2.imread` returns None for what it cannot read.
        ValueError: `frame`, `size` or `margin` is not as described.
    """
    _check(frame, size, margin)
    height, width = frame.shape[:2]
    return _rectified(frame, _with_margin(zone.pixels(height, width), margin), size)


def grey_zone(frame: Image, zone: Zone, size: int, margin: float = 0.0) -> Image:
    """Rectify a zone to a square in grey: the same place as `crop_zone`, at half its cost.

    Args:
        frame: As for `crop_zone`.
        zone: As for `crop_zone`.
        size: As for `crop_zone`.
        margin: As for `crop_zone`.

    Returns:
        (size, size) uint8.

    Raises:
        TypeError: As for `crop_zone`.
        ValueError: As for `crop_zone`.
    """
    _check(frame, size, margin)
    height, width = frame.shape[:2]
    corners = _with_margin(zone.pixels(height, width), margin)
    # One pixel more on each side, between which a warp interpolates.
    left, top = np.clip(np.floor(corners.min(axis=0)) - 1, 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
    part = cv2.cvtColor(frame[top : max(bottom, 1), left : max(right, 1)], cv2.COLOR_BGR2GRAY)
    return _rectified(
        np.asarray(part, np.uint8), np.asarray(corners - (left, top), np.float32), size
    )


def _rectified(frame: Image, corners: npt.NDArray[np.float32], size: int) -> Image:
    """Return what lies between corners, in pixels, as a square of a frame's channels."""
    upright = _upright(corners)
    patch = (
        _cut(frame, upright)
        if upright is not None
        else _warp(frame, corners, _natural_size(corners, size))
    )
    shrinks = patch.shape[0] > size and patch.shape[1] > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if not shrinks and max(patch.shape[:2]) > size:
        # One side shrinks while the other grows: area-average the long side first, because
        # INTER_AREA falls back to nearest-neighbour-like blocks on the side that grows.
        patch = np.asarray(
            cv2.resize(
                patch,
                (min(patch.shape[1], size), min(patch.shape[0], size)),
                interpolation=cv2.INTER_AREA,
            ),
            np.uint8,
        )
    return np.ascontiguousarray(
        cv2.resize(patch, (size, size), interpolation=interpolation), np.uint8
    )


def cut_around(frame: Image, zone: Zone, margin: float) -> tuple[Image, Zone]:
    """Return the upright part of a frame around a zone, for people to look at and to keep.

    Args:
        frame: (H, W, 3) uint8 BGR.
        zone: The zone.
        margin: What is added on each side, as a share of the part; it ends at the frame's border.

    Returns:
        (h, w, 3) uint8, a view of the frame, and the zone in fractions of it.
    """
    height, width = frame.shape[:2]
    # Not `pixels`: rounded to single precision, a corner that hardly is one turns the other way.
    corners = np.asarray(zone.points, np.float64) * (width, height)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    across, down = margin * (right - left), margin * (bottom - top)
    x, y = max(int(left - across), 0), max(int(top - down), 0)
    part = frame[y : int(bottom + down) + 1, x : int(right + across) + 1]
    inside = np.clip((corners - (x, y)) / (part.shape[1], part.shape[0]), 0.0, 1.0)
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = inside.tolist()
    return part, Zone(((x1, y1), (x2, y2), (x3, y3), (x4, y4)))


def _check(frame: Image, size: int, margin: float) -> None:
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"frame must be an array (H, W, 3) uint8, got {type(frame).__name__}")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"frame must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
    if size < 8:
        raise ValueError(f"crop size must be at least 8 px, got {size}")
    if not 0.0 <= margin <= 1.0:
        raise ValueError(f"crop margin must be 0 to 1 of the zone, got {margin:g}")


def _with_margin(corners: npt.NDArray[np.float32], margin: float) -> npt.NDArray[np.float32]:
    """Push the corners outwards along the zone's own sides; float32 (4, 2) pixels."""
    if margin == 0.0:
        return corners
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    grown = np.array(
        [
            [-margin, -margin],
            [1 + margin, -margin],
            [1 + margin, 1 + margin],
            [-margin, 1 + margin],
        ],
        np.float32,
    )
    if _upright(corners) is None:
        # Bilinear, not projective: a projective continuation can pass the horizon and flip.
        u, v = grown[:, :1], grown[:, 1:]
        top = corners[0] * (1 - u) + corners[1] * u
        bottom = corners[3] * (1 - u) + corners[2] * u
        return np.asarray(top * (1 - v) + bottom * v, np.float32)
    span = corners[2] - corners[0]
    return np.asarray(corners + (grown - unit) * span, np.float32)


def _upright(corners: npt.NDArray[np.float32]) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom in whole pixels when the corners are a plain rectangle."""
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = corners.tolist()
    skew = max(abs(x1 - x4), abs(x2 - x3), abs(y1 - y2), abs(y3 - y4))
    if skew > _AXIS_TOLERANCE_PX or x3 < x1 or y3 < y1:  # the latter: turned by half a turn
        return None
    left, top = int(np.floor(x1 + 0.5)), int(np.floor(y1 + 0.5))
    right, bottom = int(np.floor(x3 + 0.5)), int(np.floor(y3 + 0.5))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _cut(frame: Image, box: tuple[int, int, int, int]) -> Image:
    height, width = frame.shape[:2]
    left, top, right, bottom = box
    inner = frame[
        min(max(top, 0), height - 1) : max(min(bottom, height), 1),
        min(max(left, 0), width - 1) : max(min(right, width), 1),
    ]
    outside = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if not any(outside):
        return inner
    return np.asarray(cv2.copyMakeBorder(inner, *outside, cv2.BORDER_REPLICATE), np.uint8)


def _natural_size(corners: npt.NDArray[np.float32], size: int) -> tuple[int, int]:
    """Width and height that keep every pixel of the zone, for the averaging that follows."""
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    width, height = max(sides[0], sides[2]), max(sides[1], sides[3])
    longest = 8 * size  # beyond this, averaging gains nothing and a warp costs
    return (
        int(np.clip(round(float(width)), 2, longest)),
        int(np.clip(round(float(height)), 2, longest)),
    )


def _warp(frame: Image, corners: npt.NDArray[np.float32], target: tuple[int, int]) -> Image:
    width, height = target
    square = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # OpenCV samples at pixel centres, corners are pixel edges: shift by half a pixel.
    matrix = cv2.getPerspectiveTransform(corners - 0.5, square - 0.5)
    return np.asarray(
        cv2.warpPerspective(
            frame,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )
