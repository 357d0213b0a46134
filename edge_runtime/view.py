"""What a camera looked at when it was set up, and where that is in a later picture.

Kept are some dozens of places with sharp corners, as the strength of the edges around each: that
is the same by day and by lamp, whichever side of an edge is the brighter one, and it is no picture.
In a later picture each place is looked for near where it should be. Those that are found agree on
one small shift, turn and zoom, or the camera looks elsewhere: whatever changes in a room, some
corners of it stay, while in another view hardly any two agree.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from transom.crop import Image
from transom.geometry import Zone

MOST_SHIFT = 0.04
"""Part of the frame's width by which a corner of the picture may drift and be followed."""
LEAST_PLACES = 12
"""Places below which a reference can judge nothing."""
AGREEING = 6
AGREEING_SHARE = 0.15
"""Places, at least and of all, that must agree on a shift."""

_WIDTH = 240
_PLACES = 40
_HALF = 8  # a patch is 17 x 17
_APART_PX = 14  # so that something large in front does not hide them all
_NEAR, _FAR = 3, 14
"""Pixels around the expected place: as a camera shakes, as it may drift."""
_LIKE = 0.6  # correlation of a place that is found
_SPREAD_PX = 1.5
_BORDER = _FAR + _HALF
_ZONE_GROWTH_PX = 4
_LEAST_CORNER = 0.01  # of the strongest one
_LEAST_EDGES = 2.0  # mean around a place; less may be noise
_LEAST_VARIATION = 1.0  # their standard deviation there; on a smooth ramp all places are alike
_LEAST_LEFT = 0.5
_REGROWTH = 1.05
_LOST_CONTRAST = 0.3
_COVERED_SHARE = 0.7

Edges = npt.NDArray[np.float32]
Shift = npt.NDArray[np.float64]
"""(2, 3): turns, zooms and moves pixels of the small picture, as cv2.warpAffine has it."""


def no_shift() -> Shift:
    """Return the shift that leaves everything where it is."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def inverse(shift: Shift) -> Shift:
    """Return the shift back."""
    return np.asarray(cv2.invertAffineTransform(shift), np.float64)


def chained(first: Shift, second: Shift) -> Shift:
    """Return the shift that does one after the other."""
    turned = second[:, :2] @ first
    turned[:, 2] += second[:, 2]
    return np.asarray(turned, np.float64)


@dataclass(frozen=True, slots=True)
class Look:
    """A picture as this module sees it.

    Attributes:
        edges: (h, w) float32: strength of edges, 0 to 255; w is 240.
        grey: (h, w) uint8.
    """

    edges: Edges
    grey: npt.NDArray[np.uint8]

    @classmethod
    def at(cls, image: Image) -> "Look":
        """Return the look of a picture, (H, W, 3) uint8 BGR."""
        height = max(round(image.shape[0] * _WIDTH / image.shape[1]), 1)
        small = cv2.resize(image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (3, 3), 0)
        across, down = (
            np.asarray(cv2.Sobel(grey, cv2.CV_32F, *axis, scale=0.25)) for axis in ((1, 0), (0, 1))
        )
        strength = np.minimum(cv2.magnitude(across, down), 255.0)
        return cls(np.asarray(strength, np.float32), np.asarray(grey, np.uint8))


@dataclass(frozen=True, slots=True)
class Found:
    """Where a reference was found.

    Attributes:
        shift: From the reference to the picture.
        agreeing: (N,) bool: the places that say so.
    """

    shift: Shift
    agreeing: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reference:
    """Places of a view.

    Attributes:
        size: Width and height of the small picture.
        points: (N, 2) float32: x, y in it.
        patches: (N, 17, 17) uint8: edges around each.
        contrasts: (N,) float32: their mean, as a part of the brightness there.
    """

    size: tuple[int, int]
    points: npt.NDArray[np.float32]
    patches: npt.NDArray[np.uint8]
    contrasts: npt.NDArray[np.float32]

    @classmethod
    def of(cls, look: Look, zones: Iterable[Zone], shift: Shift | None = None) -> "Reference":
        """Take a reference.

        Args:
            look: The picture.
            zones: What moves in it by itself, where the camera was set up; places lie elsewhere.
            shift: From where the camera was set up to this picture; None = none.
        """
        shift = no_shift() if shift is None else shift
        height, width = look.grey.shape
        free = np.zeros_like(look.grey)
        free[_HALF:-_HALF, _HALF:-_HALF] = 255
        for zone in zones:
            corners = _apply(shift, zone.pixels(height, width)).round().astype(np.int32)
            cv2.fillConvexPoly(free, corners, (0,))
            cv2.polylines(free, [corners], True, (0,), 2 * _ZONE_GROWTH_PX)
        found = cv2.goodFeaturesToTrack(look.grey, _PLACES, _LEAST_CORNER, _APART_PX, mask=free)
        around = [
            (point, _patch(look.edges, point))
            for point in (() if found is None else found.reshape(-1, 2).round())
        ]
        kept = [
            (point, patch)
            for point, patch in around
            if patch.mean() >= _LEAST_EDGES and patch.std() >= _LEAST_VARIATION
        ]
        points = np.array([point for point, _ in kept], np.float32).reshape(-1, 2)
        side = 2 * _HALF + 1
        return cls(
            (width, height),
            np.asarray(_apply(inverse(shift), points), np.float32),
            np.array([patch for _, patch in kept]).round().astype(np.uint8).reshape(-1, side, side),
            np.array([_contrast(look, point) for point in points], np.float32),
        )

    @property
    def can_judge(self) -> bool:
        """Whether there are places enough."""
        return len(self.points) >= LEAST_PLACES

    def find(self, look: Look, expected: Shift) -> Found | None:
        """Look for the reference near `expected`, then further away; None = it is not there."""
        if look.grey.shape != (self.size[1], self.size[0]):
            return None
        bordered = cv2.copyMakeBorder(
            look.edges, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE
        )
        found = self._agree(bordered, expected, _NEAR)
        if found is None:
            found = self._agree(bordered, no_shift(), _FAR)
        return found

    def is_covered(self, look: Look, shift: Shift) -> bool:
        """Return whether most of the places have lost the contrast that they had."""
        if look.grey.shape != (self.size[1], self.size[0]):
            return False
        places = _apply(shift, self.points)
        now = np.array([_contrast(look, place) for place in places], np.float32)
        return float((now < _LOST_CONTRAST * self.contrasts).mean()) >= _COVERED_SHARE

    def renewed(self, look: Look, shift: Shift, which: npt.NDArray[np.bool_]) -> "Reference":
        """Return the reference with the places of `which`, (N,), as they look now."""
        patches, contrasts = self.patches.copy(), self.contrasts.copy()
        for index in np.flatnonzero(which):
            place = _apply(shift, self.points[index : index + 1])[0]
            patches[index] = _patch(look.edges, place).round().astype(np.uint8)
            contrasts[index] = _contrast(look, place)
        return Reference(self.size, self.points, patches, contrasts)

    def _agree(self, bordered: npt.NDArray[Any], expected: Shift, reach: int) -> Found | None:
        places, likeness = self._search(bordered, expected, reach)
        is_like = likeness >= _LIKE
        needed = max(AGREEING, round(AGREEING_SHARE * len(self.points)))
        if int(is_like.sum()) < needed:
            return None
        shift, inliers = cv2.estimateAffinePartial2D(
            self.points[is_like], places[is_like], ransacReprojThreshold=_SPREAD_PX, maxIters=300
        )
        if shift is None or int(inliers.sum()) < needed:
            return None
        agreeing = np.zeros(len(self.points), bool)
        agreeing[np.flatnonzero(is_like)[inliers.ravel() > 0]] = True
        return Found(np.asarray(shift, np.float64), agreeing)

    def _search(
        self, bordered: npt.NDArray[Any], expected: Shift, reach: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return where each place is most like its patch, (N, 2), and how like, (N,)."""
        places = np.zeros_like(self.points)
        likeness = np.full(len(self.points), -1.0, np.float32)
        for index, (x, y) in enumerate(_apply(expected, self.points).round().astype(int)):
            left, top = x + _BORDER - _HALF - reach, y + _BORDER - _HALF - reach
            side = 2 * (_HALF + reach) + 1
            window = bordered[max(top, 0) : top + side, max(left, 0) : left + side]
            if window.shape != (side, side):
                continue  # shifted out of the picture
            patch = self.patches[index].astype(np.float32)
            scores = np.asarray(cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED))
            row, column = np.unravel_index(int(scores.argmax()), scores.shape)
            likeness[index] = scores[row, column]
            places[index] = (
                x - reach + column + _peak(scores[row], int(column)),
                y - reach + row + _peak(scores[:, column], int(row)),
            )
        return places, likeness


def corner_shift(shift: Shift, size: tuple[int, int]) -> float:
    """Return how far the corner of the picture that moves most moves, as a part of its width."""
    width, height = size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return float(np.linalg.norm(_apply(shift, corners) - corners, axis=1).max()) / width


def shifted_zone(zone: Zone, shift: Shift, size: tuple[int, int]) -> Zone | None:
    """Return where a zone is after a shift; the part outside the frame is cut off.

    Args:
        zone: Where the camera was set up.
        shift: From there to now, in pixels of a picture of `size`.
        size: Width and height.

    Returns:
        The zone; None where less than half of it is left in the frame.
    """
    width, height = size
    moved = _apply(shift, zone.pixels(height, width)) / np.array([width, height])
    left = np.clip(moved, 0.0, 1.0)
    if _area(left) < _LEAST_LEFT * _area(moved):
        return None
    centre = left.mean(axis=0)
    for growth in (1.0, _REGROWTH):  # rounding may leave less than the least area of a zone
        p = [(float(x), float(y)) for x, y in np.clip(centre + growth * (left - centre), 0.0, 1.0)]
        try:
            return Zone((p[0], p[1], p[2], p[3]))
        except ValueError:
            continue
    return None


def _area(corners: npt.NDArray[np.float64]) -> float:
    return float(cv2.contourArea(corners.astype(np.float32)))


def _apply(shift: Shift, points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(points @ shift[:, :2].T + shift[:, 2], np.float64)


def _patch(edges: Edges, place: npt.NDArray[Any]) -> Edges:
    side = 2 * _HALF + 1
    centre = (float(place[0]), float(place[1]))
    return np.asarray(cv2.getRectSubPix(edges, (side, side), centre), np.float32)


def _contrast(look: Look, place: npt.NDArray[Any]) -> float:
    x, y = (int(value) for value in place.round())
    across = slice(max(x - _HALF, 0), max(x + _HALF + 1, 1))
    down = slice(max(y - _HALF, 0), max(y + _HALF + 1, 1))
    if look.edges[down, across].size == 0:
        return 0.0
    return float(look.edges[down, across].mean()) / (float(look.grey[down, across].mean()) + 8.0)


def _peak(scores: npt.NDArray[Any], index: int) -> float:
    """Return where the top of a parabola through a peak and its neighbours is, -0.5 to 0.5."""
    if not 0 < index < len(scores) - 1:
        return 0.0
    before, top, after = (float(s) for s in scores[index - 1 : index + 2])
    bend = before - 2.0 * top + after
    return 0.0 if bend >= 0.0 else max(min(0.5 * (before - after) / bend, 0.5), -0.5)
