"""Real windows and web doors with a state: labels by eye on photographs that others made.

    python -m tools.labelled_by_eye DATA/kinds build/starter/eye

The photographs of `kinds` show curtains where they say window, and say of no door how it stands.
`labelled_by_eye.csv`, beside this file, says of windows and doors in some of them where they are
and how they stand. This writes them as a data set of their own, with the pictures of that folder;
each picture stays in its group and split.
"""

import argparse
import csv
from pathlib import Path

from tools.linked import write_linked
from train.scenes.dataset import scene_tasks
from transom.dataset import Row, read_dataset
from transom.errors import DatasetError
from transom.geometry import Zone

LABELS = Path(__file__).with_suffix(".csv")
"""Columns `image`, `zone`, `kind` and `state` (empty: cannot be told), as in `labels.csv`."""


def main() -> None:
    """Write the data set that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.labelled_by_eye", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("kinds", type=Path, help="data set whose pictures they are")
    parser.add_argument("out", type=Path, help="data set to write; it links to the pictures")
    chosen = parser.parse_args()
    label(chosen.kinds, chosen.out, LABELS)


def label(kinds: Path, out: Path, labels: Path) -> None:
    """Write a data set of the rows of `labels`, in the groups and splits of `kinds`.

    Raises:
        DatasetError: A row names a picture that `kinds` has no row of.
    """
    tasks = scene_tasks()
    known = {row.image: row for row in read_dataset(kinds).rows}
    with labels.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    if strange := sorted({line["image"] for line in lines} - known.keys()):
        raise DatasetError(f"{labels}: {strange[0]}: {kinds} has no row of this picture")
    rows = [
        Row(
            image=line["image"],
            zone=Zone.from_text(line["zone"]),
            group=known[line["image"]].group_key,
            split=known[line["image"]].split,
            labels={task: line[task] for task in tasks.names if line[task]},
        )
        for line in lines
    ]
    write_linked(out, "eye", rows, kinds)


if __name__ == "__main__":
    main()
