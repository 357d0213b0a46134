"""Doors and windows that are shut in photographs, opened: real leaves and rooms in all states.

    python -m tools.opened build/starter/opened --doors DATA/doors --kinds DATA/kinds \
        --eye build/starter/eye

Of each leaf that the photographs of a split show shut, pictures are made in which it is shut,
ajar and open: turned about its hinge, or slid, as a camera would see it; behind it are pieces of
other photographs. Shut leaves are painted anew too, and in every state some have another leaf's
face, so that traces of the painting say little of the state. `--eye` is what
`tools.labelled_by_eye` writes. The same seed makes the same pictures.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tools.opened.beyond import through_doors, without_doors
from tools.opened.leaves import Leaf, Picture, bare_leaves, framed_leaves
from tools.opened.turn import turn_leaf
from tools.opened.windows import open_window
from train.scenes.dataset import scene_tasks
from train.scenes.opening import STATES
from transom.dataset import Row, read_dataset, write_dataset
from transom.geometry import Zone

_TIMES = {"framed": 1, "door": 3, "window": 2}
"""How often each leaf is made in all states: those of the web are more different."""
_OTHERS_FACE = 0.4
"""Of the doors, the share that get another door's face."""
_AROUND = (0.3, 0.2)
"""What is kept of the photograph at each side of the zone, as shares of the leaf's size."""
_ROOMS = "images/dd"
"""Names in `kinds` of pictures that show more than a thing: rooms and houses."""


def main() -> None:
    """Make the data set that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.opened", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="data set to write")
    parser.add_argument("--doors", type=Path, required=True, help="zones are around frames")
    parser.add_argument(
        "--kinds",
        type=Path,
        required=True,
        help="photographs of which pieces are seen behind opened leaves",
    )
    parser.add_argument("--eye", type=Path, required=True, help="photographs labelled by eye")
    parser.add_argument("--split", default="train", help="whose photographs are opened (train)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    doors = read_dataset(chosen.doors)
    framed = list(framed_leaves(doors, chosen.split))
    bare = list(bare_leaves(read_dataset(chosen.eye), chosen.split))
    beyond = through_doors(doors, chosen.split)
    beyond += without_doors(read_dataset(chosen.kinds), chosen.split, _ROOMS)
    count = make(chosen.out, chosen.split, framed, bare, beyond, chosen.seed)
    print(f"{chosen.out}: {count} pictures of {len(framed) + len(bare)} leaves")


def make(
    out: Path,
    split: str,
    framed: Sequence[Leaf],
    bare: Sequence[Leaf],
    beyond: Sequence[Picture],
    seed: int,
) -> int:
    """Write the data set; return how many pictures it has."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    of_kind = {
        kind: [leaf for leaf in (*framed, *bare) if leaf.kind == kind]
        for kind in ("door", "window")
    }
    todo = [(leaf, _TIMES["framed"]) for leaf in framed]
    todo += [(leaf, _TIMES[leaf.kind]) for leaf in bare]
    rows: list[Row] = []
    for number, (leaf, times) in enumerate(todo):
        for again, state in itertools.product(range(times), STATES):
            random = np.random.default_rng((seed, number, again, STATES.index(state)))
            picture = _draw(leaf, state, of_kind[leaf.kind], beyond, random)
            name = f"images/opened-{len(rows):05d}.jpg"
            zone = _write_part(out / name, leaf, picture, random)
            labels = {"kind": leaf.kind, "state": state}
            rows.append(Row(name, zone, leaf.group, split, labels))
    write_dataset(out, name="opened", tasks=scene_tasks(), rows=rows)
    return len(rows)


def _draw(
    leaf: Leaf,
    state: str,
    alike: Sequence[Leaf],
    beyond: Sequence[Picture],
    random: np.random.Generator,
) -> Picture:
    if leaf.kind == "window":
        return open_window(leaf, state, alike, beyond, random)
    other = alike[random.integers(len(alike))] if random.random() < _OTHERS_FACE else None
    degrees = {"closed": 0.0, "ajar": random.uniform(8, 58), "open": random.uniform(76, 112)}
    return turn_leaf(leaf, degrees[state], beyond, random, other=other)


def _write_part(path: Path, leaf: Leaf, picture: Picture, random: np.random.Generator) -> Zone:
    """Write what is around the leaf, and return its zone there, a little off as people draw it."""
    height, width = picture.shape[:2]
    (left, top), (right, bottom) = leaf.corners.min(0), leaf.corners.max(0)
    wide, high = right - left, bottom - top
    aside, above, below = (
        random.uniform(0, 0.14, 2),
        random.uniform(0, 0.08),
        random.uniform(-0.01, 0.04),
    )
    x0, x1 = max(left - aside[0] * wide, 0), min(right + aside[1] * wide, width)
    y0, y1 = max(top - above * high, 0), min(bottom + below * high, height)
    x, y = int(max(x0 - _AROUND[0] * wide, 0)), int(max(y0 - _AROUND[1] * high, 0))
    part = picture[y : int(y1 + _AROUND[1] * high) + 1, x : int(x1 + _AROUND[0] * wide) + 1]
    cv2.imwrite(str(path), part, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(75, 95))])
    rows, columns = part.shape[:2]
    return Zone.rectangle((x0 - x) / columns, (y0 - y) / rows, (x1 - x) / columns, (y1 - y) / rows)


if __name__ == "__main__":
    main()
