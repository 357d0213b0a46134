"""Whether a picture can be judged at all: dark, blown out, covered, corrupt, frozen.

Works on samples of the picture: a thumbnail of 80 x 60, a hundred or so of its rows.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.frozen import FreezeWatch
from transom.crop import Image
from transom.messages import Reason

HEAL_S = 1.5
"""How long pictures must be good again before they are believed."""

_THUMB = (80, 60)
_SAMPLED_ROWS = 120
_SAMPLED_COLUMNS = 64
_MIN_BLANK_ROWS = 0.08
"""Share of rows without content of their own that makes a picture half decoded."""
_SATURATED = 250
_BLANK_SHARE = 0.95
"""Share of a row's pixels that are filling in a blank one."""
_SMEARED_CONTRAST = 8.0
"""Deviation along a row, grey levels, above which no second row is like it by chance."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """Grey levels, 0 to 255, and shares of the thumbnail."""

    dark_level: float  # 95 % of the picture is darker
    bright_share: float  # share that is saturated
    washed_level: float  # 95 % of the picture is brighter
    flat_contrast: float  # the strongest 2 % of edges are weaker, levels per pixel


# What makes a picture bad, and what must hold for it to be good again: a picture at the border
# must not flicker between the two.
_ENTER = _Limits(dark_level=22.0, bright_share=0.85, washed_level=225.0, flat_contrast=4.0)
_LEAVE = _Limits(dark_level=30.0, bright_share=0.75, washed_level=215.0, flat_contrast=5.5)


class PictureHealth:
    """Judges the pictures of one camera, one after another.

    A bad picture is bad at once; after it, pictures must be good for `HEAL_S`.
    """

    def __init__(self) -> None:
        self._reason: Reason | None = None
        self._good_since_s: float | None = None
        self._freeze = FreezeWatch()

    def judge(self, image: Image, now_s: float, key_frames: int | None = None) -> Reason | None:
        """Return why a picture cannot be used, or None.

        Args:
            image: (H, W, 3) uint8 BGR, in the order in which the camera took them.
            now_s: When it was taken, monotonic seconds.
            key_frames: How many key frames the stream has had up to this picture; None = each
                picture stands for itself.

        Raises:
            ValueError: `image` is not as described.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        rows = np.ascontiguousarray(image[:: max(image.shape[0] // _SAMPLED_ROWS, 1)])
        is_frozen = self._freeze.is_frozen(rows, now_s, key_frames)
        limits = _ENTER if self._reason is None else _LEAVE
        found = "corrupt" if _is_corrupt(rows) else _exposure(image, limits)
        if found is None and is_frozen:
            found = "frozen"
        if found is not None:
            self._reason, self._good_since_s = found, None
            return found
        return self._healed(now_s)

    def _healed(self, now_s: float) -> Reason | None:
        if self._reason is None:
            return None
        if self._good_since_s is None:
            self._good_since_s = now_s
        if now_s - self._good_since_s >= HEAL_S:
            self._reason = None
        return self._reason


def _exposure(image: Image, limits: _Limits) -> Reason | None:
    """Return `dark`, `bright` or `covered` for a picture without content to judge."""
    thumb = _thumbnail(image)
    grey = np.asarray(cv2.cvtColor(thumb, cv2.COLOR_BGR2GRAY), np.uint8)
    below = np.bincount(grey.ravel(), minlength=256).cumsum() / grey.size
    if below.searchsorted(0.95) < limits.dark_level:
        return "dark"
    is_washed_out = below.searchsorted(0.05) > limits.washed_level
    if is_washed_out or 1.0 - below[_SATURATED - 1] > limits.bright_share:
        return "bright"
    if _contrast(grey) < limits.flat_contrast:
        return "covered"
    return None


def _thumbnail(image: Image) -> Image:
    """Return (60, 80, 3): a few pixels of each cell are enough to average noise away."""
    sampled = cv2.resize(image, (2 * _THUMB[0], 2 * _THUMB[1]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(sampled, _THUMB, interpolation=cv2.INTER_AREA), np.uint8)


def _contrast(grey: npt.NDArray[np.uint8]) -> float:
    """Return the strength that 2 % of the picture's edges exceed, levels per pixel.

    Smoothed first, so that a sensor's noise behind a covered lens does not pass for edges.
    """
    across, down = cv2.spatialGradient(cv2.GaussianBlur(grey, (5, 5), 0))
    edges = np.maximum(np.abs(np.asarray(across)), np.abs(np.asarray(down)))
    index = int(0.98 * (edges.size - 1))
    strength = np.partition(edges, index, axis=None)[index]
    return float(strength) / 8.0  # the weights of one side of a Sobel kernel, twice


def _is_corrupt(rows: Image) -> bool:
    """Return whether a decoder had too little data: rows of its filling, or no colour planes.

    Args:
        rows: (R, W, 3) uint8 BGR, some of the picture's rows.
    """
    pixels = np.ascontiguousarray(rows[::2, :: max(rows.shape[1] // _SAMPLED_COLUMNS, 1)])
    if float(_blank_rows(pixels, rows[::2]).mean()) >= _MIN_BLANK_ROWS:
        return True
    blue, green, red = cv2.split(pixels)
    # Subtraction and addition that stop at 0 and 255.
    without_colour = (cv2.subtract(green, cv2.max(red, blue)) >= 60) & (cv2.min(red, blue) <= 16)
    return float(without_colour.mean()) >= 0.6


def _blank_rows(pixels: Image, rows: Image) -> npt.NDArray[np.bool_]:
    """Return which rows are a decoder's filling, (R,).

    Args:
        pixels: (R, C, 3) uint8 BGR, some pixels of `rows`.
        rows: (R, W, 3) uint8 BGR.
    """
    planes: npt.NDArray[np.int16] = np.asarray(cv2.split(pixels), np.int16)
    blue, green, red = planes[0], planes[1], planes[2]
    is_same: npt.NDArray[np.bool_] = np.ones(planes.shape[1:], bool)
    np.equal(green[:, 1:], green[:, :-1], out=is_same[:, 1:])
    blank: npt.NDArray[np.bool_] = is_same.mean(axis=1) >= _BLANK_SHARE
    if blank.any():  # seldom; so only then is the rest worth its time
        # Luma and chroma of zero: what an empty buffer shows.
        is_empty = (np.maximum(blue, red) <= 8) & (green >= 70) & (green <= 180)
        # Luma and chroma of 128: where the picture that this one builds on is missing.
        is_grey = (np.abs(green - 129) <= 3) & (blue == green) & (red == green)
        blank = ((is_empty | is_grey) & is_same).mean(axis=1) >= _BLANK_SHARE
    # The last row that arrived, drawn down to the bottom.
    flat = np.asarray(pixels).reshape(len(pixels), -1)
    is_like_above = (flat[1:] == flat[:-1]).all(axis=1)
    for row in np.flatnonzero(is_like_above) + 1:
        if green[row].std() >= _SMEARED_CONTRAST and (rows[row] == rows[row - 1]).all():
            blank[row] = True
    return blank
