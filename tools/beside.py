"""Pieces of photographs that are neither door nor window: walls, furniture, sky, people, trees.

    python -m tools.beside build/starter/beside --kinds DATA/kinds --eye build/starter/eye

Of each photograph of `kinds` zones are drawn by chance that touch nothing which has a row there or
in `labelled_by_eye.csv`; their kind is `other`. A door or window that nobody gave a row may be
among them, seldom. The same seed draws the same zones; each stays in its picture's group and split.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from tools.linked import write_linked
from transom.dataset import Row, read_dataset
from transom.geometry import Zone

_EACH, _TRIES = 2, 20
"""Zones of a picture, and how often one is drawn before there is none."""
_SIDES = (0.15, 0.55)
"""Least and largest side of a zone, as a share of the picture's."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the picture."""


def main() -> None:
    """Write the data set that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.beside", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="data set to write; it links to the pictures")
    parser.add_argument("--kinds", type=Path, required=True, help="photographs")
    parser.add_argument("--eye", type=Path, required=True, help="what was labelled by eye of them")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = read_dataset(chosen.kinds).rows + read_dataset(chosen.eye).rows
    found = beside(rows, chosen.seed)
    write_linked(chosen.out, "beside", found, chosen.kinds)
    print(f"{chosen.out}: {len(found)} zones")


def beside(rows: tuple[Row, ...], seed: int) -> list[Row]:
    """Return rows of kind `other` in the same pictures that touch none of these."""
    taken: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        taken[row.image].append(row)
    found = []
    for number, image in enumerate(sorted(taken)):
        first = taken[image][0]
        boxes = [_box(row.zone) for row in taken[image]]
        random = np.random.default_rng((seed, number))
        for _ in range(_EACH):
            if (free := _free_box(boxes, random)) is None:
                break
            zone = Zone.rectangle(*free)
            labels = {"kind": "other"}
            found.append(Row(image, zone, first.group_key, first.split, labels))
    return found


def _free_box(boxes: list[Box], random: np.random.Generator) -> Box | None:
    for _ in range(_TRIES):
        wide, high = random.uniform(*_SIDES, 2)
        left, top = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
        box = (float(left), float(top), float(left + wide), float(top + high))
        if not any(_touch(box, other) for other in boxes):
            return box
    return None


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _box(zone: Zone) -> Box:
    points = np.asarray(zone.points)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


if __name__ == "__main__":
    main()
