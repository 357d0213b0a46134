"""Leaves that are shut in photographs: what is opened, and where in the picture it is."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from transom.dataset import Dataset, Row

Picture = npt.NDArray[np.uint8]
Corners = npt.NDArray[np.float32]

_LEAST_SIDES = {"door": (28, 80), "window": (40, 40)}
"""Of a zone, least width and height, pixels."""
_DOORS_ASPECT = (0.22, 0.85)
"""Width by height of a zone; others are parts of doors, or doors seen from aside."""
_RIM = 4
"""Pixels that a zone must keep from the picture's left and right, so that its frame is seen."""


@dataclass(frozen=True)
class Leaf:
    """A door or window that is shut in a photograph.

    Attributes:
        picture: (H, W, 3) uint8, BGR.
        corners: (4, 2) float32, pixels: top left, top right, bottom right, bottom left.
        kind: `door` or `window`.
        group: Of the photograph.
    """

    picture: Picture
    corners: Corners
    kind: str
    group: str

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Whole pixels of the corners' upright box: left, top, right, bottom."""
        left, top = self.corners.min(0).round().astype(int)
        right, bottom = self.corners.max(0).round().astype(int)
        return int(left), int(top), int(right), int(bottom)


def box_corners(left: float, top: float, right: float, bottom: float) -> Corners:
    """Return the corners of an upright box, (4, 2) float32."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def bare_leaves(dataset: Dataset, split: str) -> Iterator[Leaf]:
    """Yield leaves of a data set whose zones go around the leaf or the window itself."""
    for row in _shut(dataset, split):
        if leaf := _found(read_picture(dataset, row), row, (0.0, 0.0, 0.0)):
            yield leaf


def framed_leaves(dataset: Dataset, split: str) -> Iterator[Leaf]:
    """Yield leaves of a data set whose zones go around the frame, one of each `source`.

    Of the copies of one photograph the most upright is taken: those that were turned have black
    corners.
    """
    sources: dict[str, list[Row]] = {}
    for row in _shut(dataset, split):
        sources.setdefault(row.extra["source"], []).append(row)
    for rows in sources.values():
        pictures = [read_picture(dataset, row) for row in rows]
        best = int(np.argmax([_darkest_corner(picture) for picture in pictures]))
        if leaf := _found(pictures[best], rows[best], (0.08, 0.05, 0.01)):
            yield leaf


def _shut(dataset: Dataset, split: str) -> list[Row]:
    return [r for r in dataset.rows if r.split == split and r.labels.get("state") == "closed"]


def _found(picture: Picture, row: Row, inset: tuple[float, float, float]) -> Leaf | None:
    """Return the leaf of a row if it can be used; `inset` are shares: sides, top, bottom."""
    height, width = picture.shape[:2]
    points = np.array(row.zone.points) * (width, height)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    wide, high = right - left, bottom - top
    kind = row.labels["kind"]
    least_wide, least_high = _LEAST_SIDES[kind]
    if wide < least_wide or high < least_high or left < _RIM or right > width - _RIM or top < 1:
        return None
    if kind == "door" and not _DOORS_ASPECT[0] < wide / high < _DOORS_ASPECT[1]:
        return None
    sides, above, below = inset
    corners = box_corners(
        left + sides * wide, top + above * high, right - sides * wide, bottom - below * high
    )
    return Leaf(picture, corners, kind, row.group_key)


def read_picture(dataset: Dataset, row: Row) -> Picture:
    """Return the picture of a row, (H, W, 3) uint8, BGR; the program ends if it cannot be read."""
    picture = cv2.imread(str(dataset.folder / row.image))
    if picture is None:
        raise SystemExit(f"{dataset.folder / row.image}: is no picture that can be read")
    return np.asarray(picture, np.uint8)


def _darkest_corner(picture: Picture) -> float:
    side = max(2, picture.shape[0] // 30)
    ends = (slice(None, side), slice(-side, None))
    return min(float(picture[rows, columns].mean()) for rows in ends for columns in ends)
