"""MultiMNIST: two digits over each other in one picture, and two tasks that ask for each.

The usual yardstick for how a network shares: both tasks need all of the picture, and what helps
one is in the way of the other. Written as a data set like any other.

References:
    Sabour, Frosst and Hinton, Dynamic Routing Between Capsules, NIPS 2017 (digits overlaid on 36
    pixels); Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018
    (top left and bottom right, one task each).
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from train.importers import new_folder, read_idx
from train.progress import Progress
from transom.dataset import Dataset, Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.tasks import Task, TaskSet

SIDE = 36
DIGIT = 28
SHIFT = SIDE - DIGIT
"""How far the right digit lies below and right of the left one, pixels."""

TASKS = TaskSet(
    Task(name=name, classes=tuple(f"class_{digit}" for digit in range(10)))
    for name in ("left", "right")
)

Images = npt.NDArray[np.uint8]


def import_multimnist(
    source: Path,
    out: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Pair the digits of MNIST's idx files, those of each split among themselves.

    Every digit is used once on the left and once on the right, so there are as many pictures as
    digits, and no digit is on two sides of a split. A tenth of the training digits become `val`.

    Args:
        source: Folder with `*images-idx3-ubyte[.gz]` and `*labels-idx1-ubyte[.gz]`.
        out: The data set's folder; must not exist.
        limit: Most digits of each file; None = all.
        seed: Of the pairing.
        progress: Told how many pictures are written.

    Raises:
        DatasetError: A file is missing or not of this format.
    """
    files = read_idx(source)
    random = np.random.default_rng(seed)
    total = sum(len(digits.images[:limit]) for digits in files)
    with new_folder(out) as folder:
        rows: list[Row] = []
        for digits in files:
            for split, images, labels in digits.splits(limit):
                if images.shape[1:] != (DIGIT, DIGIT):
                    raise DatasetError(
                        f"{source}: digits must be {DIGIT} by {DIGIT} pixels, are "
                        f"{images.shape[2]} by {images.shape[1]}"
                    )
                target = folder / "images" / split
                target.mkdir(parents=True, exist_ok=True)
                for left, right in _pairs(len(images), random):
                    name = f"{split}/{len(rows):06d}.png"
                    picture = overlay(images[left], images[right])
                    coded = cv2.imencode(".png", picture)[1]
                    (folder / "images" / name).write_bytes(coded.tobytes())
                    rows.append(_row(name, split, int(labels[left]), int(labels[right])))
                    if progress and len(rows) % 100 == 0:
                        progress(len(rows), total)
        write_dataset(folder, name=out.absolute().name, tasks=TASKS, rows=rows)
    return read_dataset(out)


def overlay(left: Images, right: Images) -> Images:
    """Lay two digits over each other, the right one lower; of each pixel the brighter stays.

    Args:
        left: (28, 28) uint8, dark ground.
        right: As `left`.

    Returns:
        (36, 36) uint8.

    Examples:
        >>> overlay(np.full((28, 28), 9, np.uint8), np.full((28, 28), 5, np.uint8))[[0, 20, 35], 20]
        array([9, 9, 5], dtype=uint8)
    """
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[:DIGIT, :DIGIT] = left
    below = picture[SHIFT:, SHIFT:]
    np.maximum(below, right, out=below)
    return picture


def _pairs(count: int, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    return zip(range(count), random.permutation(count).tolist(), strict=True)


def _row(name: str, split: str, left: int, right: int) -> Row:
    labels = {"left": f"class_{left}", "right": f"class_{right}"}
    return Row(image=f"images/{name}", split=split, labels=labels)
