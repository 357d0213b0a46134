"""Everything that is wrong with a data set, before a training finds it out."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.corpus import Corpus, join_tasks, load_corpus
from train.duplicates import near_duplicates
from train.evaluate import ask
from train.predictor import Predictor
from train.progress import Progress
from train.same_thing import Match, same_things
from train.splits import find_divided_groups
from transom.dataset import SPLITS, Dataset, Mistake, Row, read_dataset
from transom.errors import DatasetError
from transom.geometry import Zone

FEW_GROUPS = 5
"""With fewer groups of a class, a figure for it says little about new doors: a warning."""

_SIZE = 64  # crops whose pixels alone are compared need no more


def check_datasets(
    folders: Sequence[Path],
    *,
    predictor: Predictor | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Mistake]:
    """Check data sets, by themselves and as they would train together.

    Args:
        folders: The data sets.
        predictor: Whose embedding finds pictures of the same thing on two sides of a split; None
            = only copies are found, by their pixels.
        cache: Folder for decoded crops (see `load_corpus`).
        progress: Told how many images are read, then how many are compared by what they show.

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
            size=predictor.input.size if predictor else _SIZE,
            margin=predictor.input.margin if predictor else 0.0,
            steps=predictor.input.preprocess if predictor else (),
            cache=cache,
            report=mistakes.append,
            progress=progress,
            allow_leaks=True,
        )
    except DatasetError as error:
        return [*_sorted(mistakes), Mistake(str(folders[0]), 0, str(error))]
    files = {dataset.name: str(dataset.folder / "labels.csv") for dataset in datasets}
    stated = corpus.select(np.flatnonzero([bool(row.split) for row in corpus.rows]))
    copies = _copies(stated)
    mistakes += _leaking_copies(stated, copies, files) + _assigned_copies(corpus, files)
    if predictor:
        mistakes += _leaking_things(stated, copies, files, predictor, progress)
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


def _copies(stated: Corpus) -> list[tuple[int, int]]:
    """Pairs of nearly the same picture on two sides of the split that the data sets state."""
    if not len(stated):
        return []
    return near_duplicates(stated.crops, _sides(stated))


def _leaking_copies(
    stated: Corpus, copies: Sequence[tuple[int, int]], files: dict[str, str]
) -> list[Mistake]:
    mistakes = []
    for a, b in copies:
        one, two = stated.rows[a], stated.rows[b]
        mistakes.append(
            Mistake(
                files[stated.origins[b]],
                two.line,
                f"{two.image} ({stated.splits[b]}) is nearly the same picture as "
                f"{one.image} ({stated.splits[a]}), {files[stated.origins[a]]}:{one.line}; "
                "give both the same group and split",
            )
        )
    return mistakes


def _assigned_copies(corpus: Corpus, files: dict[str, str]) -> list[Mistake]:
    """Warn once of copies on two sides of the split that rows without one are assigned to.

    A training would take it so; but it may fall otherwise when there are more rows.
    """
    is_stated = [bool(row.split) for row in corpus.rows]
    if all(is_stated):
        return []
    pairs = near_duplicates(corpus.crops, _sides(corpus))
    found = [(a, b) for a, b in pairs if not (is_stated[a] and is_stated[b])]
    if not found:
        return []
    a, b = found[0]
    one, two = corpus.rows[a], corpus.rows[b]
    count = "1 picture is" if len(found) == 1 else f"{len(found):,} pictures are"
    return [
        Mistake(
            files[corpus.origins[b]],
            two.line,
            f"{count} nearly the same as one of another side, as rows without a split are "
            f"assigned: {two.image} ({corpus.splits[b]}) and {one.image} ({corpus.splits[a]}), "
            f"{files[corpus.origins[a]]}:{one.line}; give such pictures the same group. Where "
            "transom data split has written the split, each is named",
            is_error=False,
        )
    ]


def _leaking_things(
    stated: Corpus,
    copies: Sequence[tuple[int, int]],
    files: dict[str, str],
    predictor: Predictor,
    progress: Progress | None,
) -> list[Mistake]:
    """Warn of each held-out group that shows what rows of an earlier side of the split show.

    A warning, because it may be meant: other days of one camera show the same door, too.
    """
    if not len(stated):
        return []
    embedding = ask(predictor, stated).embedding
    found: defaultdict[str, list[Match]] = defaultdict(list)
    matches = same_things(stated.crops, embedding, _sides(stated), progress=progress)
    known = {place for pair in copies for place in pair}
    for match in matches:
        if match.held not in known:
            found[stated.groups[match.held]].append(match)
    sizes = Counter(stated.groups)
    return [
        _leaking_group(stated, matches, sizes[group], files) for group, matches in found.items()
    ]


def _leaking_group(
    stated: Corpus, matches: Sequence[Match], rows: int, files: dict[str, str]
) -> Mistake:
    clearest = max(matches, key=lambda match: match.points)
    held, known = stated.rows[clearest.held], stated.rows[clearest.known]
    return Mistake(
        files[stated.origins[clearest.held]],
        held.line,
        f"group {held.group_key!r} ({stated.splits[clearest.held]}): {len(matches)} of {rows} "
        f"pictures show the same as pictures of another side, most clearly {held.image} and "
        f"{known.image} ({stated.splits[clearest.known]}), "
        f"{files[stated.origins[clearest.known]]}:{known.line}; if figures shall hold for doors "
        "never seen, give both the same group and split",
        is_error=False,
    )


def _sides(stated: Corpus) -> npt.NDArray[np.int64]:
    return np.array([SPLITS.index(split) for split in stated.splits], np.int64)


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
