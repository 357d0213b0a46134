"""Upright rectangles in a picture that have edges along their sides: where a frame may be."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from transom.crop import Image

_WIDTH = 240
_HEIGHTS = (0.22, 0.3, 0.4, 0.53, 0.7, 0.9)
_ASPECTS = (0.35, 0.5, 0.72, 1.0, 1.45)
"""Width by height, in pixels: from a narrow door to a broad window."""
_STEP = 0.2
"""Of a rectangle's own side."""
_REACH = 0.1
"""Part of a rectangle's own side by which an edge of it is looked for."""
_STRONG = 0.35
"""Part of the picture's strong edges that a pixel must have to count as an edge."""

Boxes = npt.NDArray[np.float64]
"""(N, 4): left, top, right, bottom, in parts of the picture."""


@dataclass(frozen=True)
class Outlines:
    """Rectangles and how well they are outlined.

    Attributes:
        boxes: (N, 4).
        support: (N, 4) float64: the share of the left, top, right and bottom side along which
            there is an edge, 0 to 1.
    """

    boxes: Boxes
    support: npt.NDArray[np.float64]

    def __getitem__(self, which: npt.NDArray[np.intp]) -> "Outlines":
        return Outlines(self.boxes[which], self.support[which])


def find_outlines(image: Image, most: int) -> Outlines:
    """Return the rectangles of a picture that are outlined best, the best first.

    Args:
        image: (H, W, 3) uint8 BGR.
        most: Their number, at most.
    """
    across, down = _edges(image)
    height, width = across.shape
    grid = np.round(_grid(height, width) * (width, height, width, height)).astype(np.intp)
    left, s_left = _snap(across, grid[:, 0], grid[:, 1], grid[:, 3], grid[:, 2] - grid[:, 0])
    right, s_right = _snap(across, grid[:, 2], grid[:, 1], grid[:, 3], grid[:, 2] - grid[:, 0])
    top, s_top = _snap(down.T, grid[:, 1], left, right, grid[:, 3] - grid[:, 1])
    bottom, s_bottom = _snap(down.T, grid[:, 3], left, right, grid[:, 3] - grid[:, 1])
    support = np.stack([s_left, s_top, s_right, s_bottom], axis=1)
    boxes = np.stack([left, top, right, bottom], axis=1)
    _, first = np.unique(boxes, axis=0, return_index=True)
    order = first[np.argsort(-_outlined(support[first]), kind="stable")]
    found = Outlines(boxes / (width, height, width, height), support)[order]
    return found[_apart(found.boxes, most)]


def overlap(box: npt.NDArray[np.float64], boxes: Boxes) -> tuple[npt.NDArray[np.float64], ...]:
    """Return how much a box overlaps others: by the union of the two, and by the smaller one.

    Args:
        box: (4,), left, top, right, bottom.
        boxes: (N, 4), likewise, none without an inside.

    Returns:
        Twice (N,), 0 to 1.
    """
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(size, 0.0, None).prod(axis=1)
    own, theirs = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return common / (own + theirs - common), common / np.minimum(own, theirs)


def _outlined(support: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how well outlined each is; the weakest side counts most; a floor hides a bottom."""
    sides = support[:, :3]
    return np.asarray(sides.mean(axis=1) + sides.min(axis=1) + 0.5 * support[:, 3], np.float64)


def _apart(boxes: Boxes, most: int) -> npt.NDArray[np.intp]:
    """Return which to keep so that none is nearly another."""
    kept: list[int] = []
    for index in range(len(boxes)):
        if len(kept) == most:
            break
        if not kept or overlap(boxes[index], boxes[kept])[0].max() < 0.8:
            kept.append(index)
    return np.array(kept, np.intp)


def _edges(image: Image) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return where a picture has edges that run up, and that run across, a pixel wider."""
    height = max(round(image.shape[0] * _WIDTH / image.shape[1]), 8)
    small = cv2.resize(image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (3, 3), 0)
    x = np.abs(np.asarray(cv2.Sobel(grey, cv2.CV_32F, 1, 0)))
    y = np.abs(np.asarray(cv2.Sobel(grey, cv2.CV_32F, 0, 1)))
    strong = _STRONG * max(float(np.percentile(np.maximum(x, y), 95)), 24.0)
    upright = ((x > strong) & (x > y)).astype(np.uint8)
    flat = ((y > strong) & (y > x)).astype(np.uint8)
    return (
        np.asarray(cv2.dilate(upright, np.ones((1, 3), np.uint8)), np.bool_),
        np.asarray(cv2.dilate(flat, np.ones((3, 1), np.uint8)), np.bool_),
    )


def _grid(height: int, width: int) -> Boxes:
    """Return rectangles of all sizes all over the picture."""
    found = []
    for tall in _HEIGHTS:
        for aspect in _ASPECTS:
            wide = tall * height * aspect / width
            if wide > 1.0 or wide < 0.04:
                continue
            lefts = np.linspace(
                0.0, 1.0 - wide, max(int(np.ceil((1.0 - wide) / (wide * _STEP))), 1) + 1
            )
            tops = np.linspace(
                0.0, 1.0 - tall, max(int(np.ceil((1.0 - tall) / (tall * _STEP))), 1) + 1
            )
            x, y = (axis.ravel() for axis in np.meshgrid(lefts, tops))
            found.append(np.stack([x, y, x + wide, y + tall], axis=1))
    return np.concatenate(found)


def _snap(
    edges: npt.NDArray[np.bool_],
    place: npt.NDArray[np.intp],
    begin: npt.NDArray[np.intp],
    end: npt.NDArray[np.intp],
    side: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Move each line to the strongest edge within reach.

    Args:
        edges: (rows, columns); lines run along the rows of a column.
        place: (N,) column of each line.
        begin: (N,) its first row.
        end: (N,) the row behind its last.
        side: (N,) length of the rectangle's other side, pixels, of which the reach is a part.

    Returns:
        (N,) column, and (N,) share of the line that is an edge.
    """
    rows, columns = edges.shape
    sums = np.zeros((rows + 1, columns), np.int32)
    np.cumsum(edges, axis=0, out=sums[1:])
    begin, end = np.clip(begin, 0, rows - 1), np.clip(end, 1, rows)
    length = np.maximum(end - begin, 1)
    reach = np.maximum((side * _REACH).astype(np.intp), 1)
    best = np.clip(place, 0, columns - 1)
    share = np.full(len(place), -1.0)
    for step in range(-int(reach.max()), int(reach.max()) + 1):
        column = np.clip(place + step, 0, columns - 1)
        now = (sums[end, column] - sums[begin, column]) / length - 0.001 * abs(step)
        is_better = (abs(step) <= reach) & (now > share)
        best, share = np.where(is_better, column, best), np.where(is_better, now, share)
    return best, np.clip(share, 0.0, 1.0)
