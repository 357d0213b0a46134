"""Everything that is wrong with a data set, before a training finds it out."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.corpus import Corpus, join_tasks, load_corpus
from train.duplicates import near_duplicates
from train.progress import Progress
from train.splits import find_divided_groups
from transom.dataset import Dataset, Mistake, Row, read_dataset
from transom.errors import DatasetError
from transom.geometry import Zone

FEW_GROUPS = 5
"""With fewer groups of a class, a figure for it says little about new doors: a warning."""

_SIZE = 64  # crops for comparing pictures need no more


def check_datasets(
    folders: Sequence[Path], *, cache: Path | None = None, progress: Progress | None = None
) -> list[Mistake]:
    """Check data sets, by themselves and as they would train together.

    Args:
        folders: The data sets.
        cache: Folder for decoded crops (see `load_corpus`).
        progress: Told how many images are read.

    Returns:
        Errors and warnings, by file and line.

    Raises:
        DatasetError: A folder is no data set at all, or the data sets contradict each other.
    """
    datasets = [read_dataset(folder) for folder in folders]
    join_tasks(datasets)
    mistakes: list[Mistake] = []
    for dataset in datasets:
        mistakes += find_divided_groups(dataset) + _contradictions(dataset)
    if not any(dataset.rows for dataset in datasets):
        mistakes += [found for dataset in datasets for found in dataset.mistakes]
        mistakes += [
            Mistake(str(d.folder / "labels.csv"), 0, "has no usable row") for d in datasets
        ]
        return _sorted(mistakes)
    try:
        corpus = load_corpus(
            folders,
            size=_SIZE,
            margin=0.0,
            cache=cache,
            report=mistakes.append,
            progress=progress,
            allow_leaks=True,
        )
    except DatasetError as error:
        return [*_sorted(mistakes), Mistake(str(folders[0]), 0, str(error))]
    files = {dataset.name: str(dataset.folder / "labels.csv") for dataset in datasets}
    mistakes += _leaking_pictures(corpus, files)
    mistakes += _rare_classes(corpus, [str(d.folder / "dataset.toml") for d in datasets])
    return _sorted(mistakes)


def _contradictions(dataset: Dataset) -> list[Mistake]:
    """Name each row that labels a zone of an image a second time."""
    first: dict[tuple[str, Zone], Row] = {}
    mistakes: list[Mistake] = []
    for row in dataset.rows:
        other = first.setdefault((row.image, row.zone), row)
        if other is row:
            continue
        differing = [
            f"{task} is {row.labels[task]} here and {label} there"
            for task, label in other.labels.items()
            if row.labels.get(task, label) != label
        ]
        mistakes.append(
            Mistake(
                str(dataset.folder / "labels.csv"),
                row.line,
                f"labels the same zone of {row.image} as line {other.line}"
                + (f": {', '.join(differing)}" if differing else "; remove one"),
                is_error=bool(differing),
            )
        )
    return mistakes


def _leaking_pictures(corpus: Corpus, files: dict[str, str]) -> list[Mistake]:
    """Name each picture that is nearly the same as one on another side of the split.

    Only splits that the data sets state themselves: an assigned one may still fall otherwise.
    """
    stated = np.flatnonzero([bool(row.split) for row in corpus.rows])
    if len(stated) == 0:
        return []
    splits, sides = np.unique(corpus.splits[stated], return_inverse=True)
    mistakes = []
    for a, b in near_duplicates(corpus.crops[stated], sides.astype(np.int64)):
        one, two = corpus.rows[stated[a]], corpus.rows[stated[b]]
        other_file = files[corpus.origins[stated[a]]]
        mistakes.append(
            Mistake(
                files[corpus.origins[stated[b]]],
                two.line,
                f"{two.image} ({splits[sides[b]]}) is nearly the same picture as "
                f"{one.image} ({splits[sides[a]]}), {other_file}:{one.line}; "
                "give both the same group and split",
            )
        )
    return mistakes


def _rare_classes(corpus: Corpus, files: Sequence[str]) -> list[Mistake]:
    """Name each class that too few groups show."""
    where = files[0] if len(files) == 1 else ", ".join(files)
    mistakes = []
    for column, task in enumerate(corpus.tasks):
        groups: defaultdict[int, set[str]] = defaultdict(set)
        for target, group in zip(corpus.targets[:, column].tolist(), corpus.groups, strict=True):
            groups[target].add(group)
        if not any(groups[index] for index in range(len(task.classes))):
            continue
        for index, name in enumerate(task.classes):
            count = len(groups[index])
            if count < FEW_GROUPS:
                what = _rarity(f"class {name!r} of task {task.name!r}", count)
                mistakes.append(Mistake(where, 0, what, is_error=count == 1))
    return mistakes


def _rarity(what: str, groups: int) -> str:
    if groups == 0:
        return f"{what} has no picture here; it can only be learnt from another data set"
    if groups == 1:
        return (
            f"{what} has pictures of 1 group only, so it cannot both be trained and judged; "
            "label it in at least one other group (another door, camera or day)"
        )
    return (
        f"{what} has pictures of {groups} groups only; figures for it will say little about new "
        f"doors below {FEW_GROUPS}"
    )


def _sorted(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda m: (m.file, m.line, not m.is_error))
