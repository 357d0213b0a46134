"""Which rows train, which choose (val) and which judge (test): by group, never by picture.

Copies of one photograph, or frames of one camera, on two sides of a split make a network look
20 to 30 points better than it is. So a group is never divided.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transom.dataset import SPLITS, Dataset, Mistake, Row
from transom.errors import DatasetError
from transom.label_cells import write_cells

SHARES: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}

Names = npt.NDArray[np.str_]


def assign_splits(
    datasets: Sequence[Dataset],
    *,
    seed: int = 0,
    shares: Mapping[str, float] = SHARES,
    allow_leaks: bool = False,
) -> tuple[Names, ...]:
    """Give every row a split.

    A split that the data set states is kept, and the rest of its group follows it. The other
    groups are shared out so that each class comes as near to `shares` as whole groups allow, for
    each data set by itself: adding a second data set never moves a row of the first.

    Args:
        datasets: As read.
        seed: Decides between equally good assignments; the same seed gives the same answer.
        shares: Of the rows, by split; must sum to 1.
        allow_leaks: Keep stated splits even where they divide a group.

    Returns:
        For each data set an array (number of its rows,) of `train`, `val` or `test`.

    Raises:
        DatasetError: A group is stated on two sides of a split.
        ValueError: `shares` does not name the three splits or does not sum to 1.
    """
    _check_shares(shares)
    if not allow_leaks:
        leaks = [mistake for dataset in datasets for mistake in find_divided_groups(dataset)]
        if leaks:
            raise DatasetError("\n".join(str(leak) for leak in leaks[:20]))
    return tuple(_assign(dataset, seed, shares) for dataset in datasets)


def find_divided_groups(dataset: Dataset) -> list[Mistake]:
    """Name each group that the data set itself puts on two sides of a split."""
    first: dict[str, Row] = {}
    mistakes: list[Mistake] = []
    named: set[str] = set()
    for row in dataset.rows:
        if not row.split:
            continue
        other = first.setdefault(row.group_key, row)
        if other.split != row.split and row.group_key not in named:
            named.add(row.group_key)
            mistakes.append(
                Mistake(
                    str(dataset.folder / "labels.csv"),
                    row.line,
                    f"group {row.group_key!r} must be on one side of a split, is {row.split} here "
                    f"and {other.split} in line {other.line}; give both the same split",
                )
            )
    return mistakes


def write_splits(folder: Path, dataset: Dataset, splits: Names) -> None:
    """Write splits into the column `split` of `labels.csv`; all else stays as it is.

    Args:
        folder: The data set's folder.
        dataset: As read from it.
        splits: (number of rows,), as `assign_splits` gives them.

    Raises:
        DatasetError: The file has rows that cannot be read; mend them first.
    """
    unread = [mistake for mistake in dataset.mistakes if mistake.is_error]
    if unread:
        raise DatasetError(
            f"{unread[0]}\n{folder}: has {len(unread)} rows that cannot be used; mend them first "
            "(transom data check)"
        )
    by_line = {row.line: str(split) for row, split in zip(dataset.rows, splits, strict=True)}
    write_cells(folder, "split", by_line)


def _check_shares(shares: Mapping[str, float]) -> None:
    if set(shares) != set(SPLITS) or min(shares.values()) < 0 or shares["train"] == 0:
        raise ValueError(f"shares must name {', '.join(SPLITS)}, train above 0, got {shares}")
    if abs(sum(shares.values()) - 1.0) > 1e-6:
        raise ValueError(f"shares must sum to 1, got {sum(shares.values()):g}")


def _assign(dataset: Dataset, seed: int, shares: Mapping[str, float]) -> Names:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(dataset.rows):
        members[row.group_key].append(index)
    stated = {row.group_key: row.split for row in reversed(dataset.rows) if row.split}
    counts = _label_counts(dataset, members)
    chosen = {group: stated[group] for group in members if group in stated}
    free = _in_order([group for group in members if group not in stated], counts, seed)
    have = {s: np.zeros(counts.width) for s in SPLITS}
    for group, split in chosen.items():
        have[split] += counts.of[group]
    for group in free:
        chosen[group] = _best_split(counts.of[group], have, counts.total, shares)
        have[chosen[group]] += counts.of[group]
    _fill_empty_splits(chosen, free, shares)
    return np.array(
        [row.split or chosen[row.group_key] for row in dataset.rows],
        dtype="<U5",
    )


class _Counts:
    """Rows and labels of each group as a vector: all rows, then one entry a class of a task."""

    def __init__(self, of: dict[str, npt.NDArray[np.float64]], width: int) -> None:
        self.of = of
        self.width = width
        self.total = np.sum(list(of.values()), axis=0) if of else np.zeros(width)


def _label_counts(dataset: Dataset, members: Mapping[str, Sequence[int]]) -> _Counts:
    labels = [(task.name, name) for task in dataset.tasks for name in task.classes]
    place = {label: index + 1 for index, label in enumerate(labels)}
    of: dict[str, npt.NDArray[np.float64]] = {}
    for group, indices in members.items():
        vector = np.zeros(len(labels) + 1)
        vector[0] = len(indices)
        for index in indices:
            for label in dataset.rows[index].labels.items():
                vector[place[label]] += 1
        of[group] = vector
    return _Counts(of, len(labels) + 1)


def _in_order(groups: list[str], counts: _Counts, seed: int) -> list[str]:
    """Large groups first, because small ones can still even out; equals in an order by seed."""
    groups = sorted(groups)
    shuffled = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    return sorted(shuffled, key=lambda group: -float(counts.of[group][0]))


def _best_split(
    group: npt.NDArray[np.float64],
    have: Mapping[str, npt.NDArray[np.float64]],
    total: npt.NDArray[np.float64],
    shares: Mapping[str, float],
) -> str:
    """The split whose counts come nearest to its share by taking this group (chi-square)."""

    def worsening(split: str) -> float:
        wanted = np.maximum(shares[split] * total, 1e-9)
        before = have[split] - wanted
        return float((((before + group) ** 2 - before**2) / wanted)[total > 0].sum())

    return min((s for s in SPLITS if shares[s] > 0), key=worsening)


def _fill_empty_splits(
    chosen: dict[str, str], free: Sequence[str], shares: Mapping[str, float]
) -> None:
    """Give val, then test, the smallest group of train where whole groups left it none."""
    for split in ("val", "test"):
        in_train = [group for group in free if chosen[group] == "train"]
        trained = sum(1 for s in chosen.values() if s == "train")
        if shares[split] > 0 and split not in chosen.values() and in_train and trained > 1:
            chosen[in_train[-1]] = split
