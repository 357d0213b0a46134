"""Several data sets joined, with every crop decoded once.

The crops lie in a file in the cache folder and are mapped into memory, so that a training larger
than the memory still runs and the second start is immediate. Rows are ordered by split, so that
the rows of a split are one piece of that file and never copied.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from train.cache import default_cache
from train.crop_cache import cached_crops
from train.progress import Progress
from train.splits import assign_splits
from transom.dataset import SPLITS, Dataset, Mistake, Row, read_dataset
from transom.errors import DatasetError
from transom.preprocess import Step
from transom.tasks import TaskSet

_log = logging.getLogger(__name__)

Crops = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

MISSING = -1
"""The target of a row that is not labelled for a task."""


@dataclass(frozen=True)
class Corpus:
    """Labelled crops of one or more data sets.

    Attributes:
        tasks: The union of the data sets' tasks and classes, by name.
        crops: (N, S, S, 3) uint8 BGR, memory-mapped and read-only.
        targets: (N, T) int64, index of the class by task in the order of `tasks`; `MISSING`
            where a row is not labelled.
        groups: N names of what must never be split, each prefixed with its data set's name.
        splits: (N,) of `train`, `val` and `test`.
        rows: N rows as read.
        origins: N names of data sets.
        digest: SHA-256, hexadecimal, of all of it: labels, splits and pixels, wherever they lie.
    """

    tasks: TaskSet
    crops: Crops
    targets: Indices
    groups: tuple[str, ...]
    splits: npt.NDArray[np.str_]
    rows: tuple[Row, ...]
    origins: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, indices: Indices) -> "Corpus":
        """Return the rows at `indices`, in that order.

        Args:
            indices: int64, 0 to N - 1. Consecutive ones share the crops' memory; any others
                copy them.
        """
        indices = np.asarray(indices, np.int64)
        return Corpus(
            tasks=self.tasks,
            crops=self.crops[_as_slice(indices)],
            targets=self.targets[indices],
            groups=tuple(self.groups[i] for i in indices),
            splits=self.splits[indices],
            rows=tuple(self.rows[i] for i in indices),
            origins=tuple(self.origins[i] for i in indices),
            digest=hashlib.sha256(self.digest.encode() + indices.tobytes()).hexdigest(),
        )

    def split(self, name: str) -> "Corpus":
        """Return the rows of one split.

        Args:
            name: `train`, `val`, `test`, or `all`.

        Raises:
            ValueError: There is no such split.
        """
        if name == "all":
            return self
        if name not in SPLITS:
            raise ValueError(f"split must be {', '.join(SPLITS)} or all, got {name!r}")
        return self.select(np.flatnonzero(self.splits == name))


def load_corpus(
    folders: Sequence[Path],
    *,
    size: int,
    margin: float,
    steps: Sequence[Step] = (),
    cache: Path | None = None,
    report: Callable[[Mistake], None] | None = None,
    progress: Progress | None = None,
    allow_leaks: bool = False,
) -> Corpus:
    """Join data sets and decode their crops, or find them decoded in the cache.

    A row that cannot be used, or whose image cannot be read, is reported and left out. Rows
    without a split get the same one in every program (see `assign_splits`, seed 0), so that who
    evaluates later does not meet rows that were trained on; `transom data split` writes another.

    Args:
        folders: The data sets.
        size: Side of the crops in pixels.
        margin: Context around each zone, as a share of its sides (see `crop_zone`).
        steps: What is done to each crop, in this order (see `transom.preprocess`).
        cache: Folder for decoded crops; None = `$TRANSOM_CACHE` or `~/.cache/transom`.
        report: Told of every row that is left out.
        progress: Told how many images are decoded.
        allow_leaks: Keep splits that divide a group, to look at a data set or judge with it.

    Raises:
        DatasetError: A folder is no data set or its name no Unicode, two have one name, their
            tasks contradict each other, a group is on two sides of a split, or no row is left.
    """
    for folder in folders:
        _check_name(folder)
    datasets = [read_dataset(folder) for folder in folders]
    tasks = join_tasks(datasets)
    splits = assign_splits(datasets, allow_leaks=allow_leaks)
    order = _by_split(datasets, splits)
    report = report or (lambda mistake: None)
    for dataset in datasets:
        for mistake in dataset.mistakes:
            report(mistake)
    entries = [(datasets[d], datasets[d].rows[r]) for d, r in order]
    decoded = cached_crops(
        [(dataset.path(row), row.zone) for dataset, row in entries],
        size=size,
        margin=margin,
        steps=steps,
        cache=cache or default_cache(),
        progress=progress,
    )
    for index, what in decoded.failures:
        dataset, row = entries[index]
        report(Mistake(str(dataset.folder / "labels.csv"), row.line, what))
    if not len(decoded.kept):
        raise DatasetError(
            f"{', '.join(map(str, folders))}: no row can be used; transom data check says why"
        )
    kept = [entries[i] for i in decoded.kept]
    rows = tuple(row for _, row in kept)
    groups = tuple(f"{dataset.name}/{row.group_key}" for dataset, row in kept)
    kept_splits = np.array([splits[d][r] for d, r in (order[i] for i in decoded.kept)], "<U5")
    origins = tuple(dataset.name for dataset, _ in kept)
    targets = _targets(tasks, rows)
    return Corpus(
        tasks=tasks,
        crops=decoded.crops,
        targets=targets,
        groups=groups,
        splits=kept_splits,
        rows=rows,
        origins=origins,
        digest=_digest(tasks, targets, groups, kept_splits, decoded.digest),
    )


def learnable(corpus: Corpus) -> tuple[TaskSet, Indices]:
    """Return the tasks that training rows are labelled for, and the rows with such a label.

    A task without a single label is left out: its head would say what chance has put there.

    Raises:
        DatasetError: Fewer than two rows are left.
    """
    is_training = corpus.splits == "train"
    labelled = corpus.targets != MISSING
    has_labels = labelled[is_training].any(axis=0)
    for task, is_labelled in zip(corpus.tasks, has_labels, strict=True):
        if not is_labelled:
            _log.warning("task left out, no training row is labelled task=%s", task.name)
    rows = np.flatnonzero(is_training & labelled.any(axis=1))
    if len(rows) < 2:
        raise DatasetError(
            f"training needs at least 2 labelled rows in the split `train`, there are {len(rows)};"
            " transom data check shows the splits"
        )
    tasks = [task for task, keep in zip(corpus.tasks, has_labels, strict=True) if keep]
    return TaskSet(tasks), rows.astype(np.int64)


def judged_rows(corpus: Corpus, split: str) -> int:
    """Return how many rows of a split are labelled for a task that is learnt (see `learnable`)."""
    labelled = corpus.targets != MISSING
    learnt = labelled[corpus.splits == "train"].any(axis=0)
    return int(labelled[corpus.splits == split][:, learnt].any(axis=1).sum())


def join_tasks(datasets: Sequence[Dataset]) -> TaskSet:
    """Return the tasks of all data sets, joined by name.

    Raises:
        DatasetError: There is no data set, two have one name, or their tasks contradict each
            other.
    """
    if not datasets:
        raise DatasetError("no data set is given; name at least one folder with a dataset.toml")
    tasks, folders = datasets[0].tasks, {datasets[0].name: datasets[0].folder}
    for dataset in datasets[1:]:
        if dataset.name in folders:
            raise DatasetError(
                f"{dataset.folder} and {folders[dataset.name]} are both named {dataset.name!r}; "
                "give one another name in its dataset.toml"
            )
        folders[dataset.name] = dataset.folder
        try:
            tasks = tasks.joined(dataset.tasks)
        except ValueError as error:
            raise DatasetError(f"{dataset.folder / 'dataset.toml'}: {error}") from error
    return tasks


def _check_name(folder: Path) -> None:
    """Refuse a folder whose name is of bytes that are no text: what is noted of it is UTF-8."""
    path = str(folder.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DatasetError(
            f"{path!a}: the names of folders must be UTF-8, as an old disk's may not be; rename it"
        ) from None


def _by_split(
    datasets: Sequence[Dataset], splits: Sequence[npt.NDArray[np.str_]]
) -> list[tuple[int, int]]:
    """Every row as (data set, row), train first, otherwise as read."""
    order = [(d, r) for d, dataset in enumerate(datasets) for r in range(len(dataset.rows))]
    return sorted(order, key=lambda place: SPLITS.index(str(splits[place[0]][place[1]])))


def _targets(tasks: TaskSet, rows: Sequence[Row]) -> Indices:
    targets = np.full((len(rows), len(tasks)), MISSING, np.int64)
    for column, task in enumerate(tasks):
        place = {name: index for index, name in enumerate(task.classes)}
        targets[:, column] = [place.get(row.labels.get(task.name, ""), MISSING) for row in rows]
    return targets


def _digest(
    tasks: TaskSet,
    targets: Indices,
    groups: Sequence[str],
    splits: npt.NDArray[np.str_],
    pixels: str,
) -> str:
    described = msgspec.json.encode(
        [list(tasks), targets.tolist(), groups, splits.tolist(), pixels], order="deterministic"
    )
    return hashlib.sha256(described).hexdigest()


def _as_slice(indices: Indices) -> slice | Indices:
    """The same rows as a slice where they are consecutive: numpy then does not copy."""
    if len(indices) == 0:
        return slice(0, 0)
    first = int(indices[0])
    if np.array_equal(indices, np.arange(first, first + len(indices))):
        return slice(first, first + len(indices))
    return indices
