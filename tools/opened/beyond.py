"""What is seen through an opening: pieces of other photographs, darker, brighter or plain."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tools.opened.leaves import Picture, read_picture
from transom.dataset import Dataset

Floats = npt.NDArray[np.float32]

_DARK, _BRIGHT, _PLAIN = 0.3, 0.15, 0.15
"""Shares: a dark room, light outdoors, a wall; the rest is as it was photographed."""


def through_doors(dataset: Dataset, split: str) -> list[Picture]:
    """Return what is seen through open doors, the middle of their zones, one of each `source`."""
    found = {}
    for row in dataset.rows:
        source = row.extra["source"]
        if row.split != split or row.labels.get("state") != "open" or source in found:
            continue
        picture = read_picture(dataset, row)
        height, width = picture.shape[:2]
        points = np.array(row.zone.points) * (width, height)
        (left, top), (right, bottom) = np.maximum(points.min(0), 0), points.max(0)
        wide, high = right - left, bottom - top
        piece = picture[
            int(top + 0.08 * high) : int(bottom), int(left + 0.2 * wide) : int(right - 0.2 * wide)
        ]
        if min(piece.shape[:2]) > 24:
            found[source] = piece
    return list(found.values())


def without_doors(dataset: Dataset, split: str, prefix: str) -> list[Picture]:
    """Return whole pictures whose names begin with `prefix` and that have no row of a door."""
    doors = {row.image for row in dataset.rows if row.labels.get("kind") == "door"}
    rows = {
        row.image: row
        for row in dataset.rows
        if row.split == split and row.image.startswith(prefix) and row.image not in doors
    }
    return [read_picture(dataset, rows[image]) for image in sorted(rows)]


def draw_beyond(
    pictures: Sequence[Picture],
    size: tuple[int, int],
    random: np.random.Generator,
    *,
    is_day: bool = False,
) -> Floats:
    """Return (H, W, 3) float32, not yet cut to 0 to 255, of a width and a height in pixels.

    Args:
        pictures: Pieces of one of them are taken.
        size: Width and height.
        random: Decides which, and how bright it is.
        is_day: Daylight is behind the opening, so that it is bright.
    """
    width, height = size
    picture = pictures[random.integers(len(pictures))]
    rows = int(picture.shape[0] * random.uniform(0.6, 1.0))
    columns = int(np.clip(rows * width / height * random.uniform(0.8, 1.3), 8, picture.shape[1]))
    y = int(random.integers(picture.shape[0] - rows + 1))
    x = int(random.integers(picture.shape[1] - columns + 1))
    piece = picture[y : y + rows, x : x + columns]
    drawn = cv2.resize(piece, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if random.random() < 0.5:
        drawn = np.ascontiguousarray(drawn[:, ::-1])
    style = random.random()
    gain = 2 ** random.uniform(-1.2, 0.8)
    if style < _DARK:
        gain = 2 ** random.uniform(-4.0, -1.5)
    elif style < _DARK + _BRIGHT:
        gain = 2 ** random.uniform(0.8, 2.2)
    elif style < _DARK + _BRIGHT + _PLAIN:
        tint = (random.uniform(0.85, 1.1), 1.0, random.uniform(0.9, 1.15))
        wall = np.array(tint, np.float32) * random.uniform(60, 235)
        ends = random.uniform(0.6, 1.2, 2)
        shade = np.linspace(ends[0], ends[1], width, dtype=np.float32)[None, :, None]
        drawn = (0.15 * drawn + 0.85 * wall) * shade
    drawn = drawn * np.float32(gain)
    if is_day:
        drawn *= np.float32(random.uniform(140, 260) / (float(drawn.mean()) + 1))
    if random.random() < 0.3:
        drawn = cv2.GaussianBlur(drawn, (0, 0), random.uniform(1.0, 4.0))
    return np.asarray(drawn, np.float32)
