"""How good a network is on labelled rows: figures for each task, their intervals, each group."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from train.corpus import MISSING, Corpus
from train.metrics import (
    FIGURES,
    Figures,
    Indices,
    Tally,
    bootstrap_intervals,
    figures,
    group_indices,
    plain,
    tally_groups,
    wilson_interval,
)
from train.predictor import Crops, Predictor, Said
from train.progress import Progress
from train.selective import COVERAGES, Selective, selective
from transom.atomic import write_file
from transom.errors import DatasetError
from transom.manifest import TaskSpec
from transom.prediction import UNKNOWN_INDEX, Prediction, predict
from transom.tasks import UNKNOWN, Task, TaskSet

_BATCH = 64


@dataclass(frozen=True)
class TaskEvaluation:
    """One task of an evaluation.

    Attributes:
        spec: The network's task: the classes here are in its order.
        prediction: What the network says of all N rows, labelled or not.
        targets: (N,) int64, index of the true class; `MISSING` where a row is not labelled.
        foreign: (N,) bool, rows whose true class the network does not have; they do not count.
        foreign_classes: Those classes, with how many rows of each.
        tally: Sums by group over the rows that count.
        figures: `FIGURES` by name; None where no row counts.
        intervals: 95 % intervals by figure, over groups; None where nothing can be said.
        selective: Accuracy against the share that is answered; None where no row counts.
    """

    spec: TaskSpec
    prediction: Prediction
    targets: Indices
    foreign: npt.NDArray[np.bool_]
    foreign_classes: Mapping[str, int]
    tally: Tally
    figures: Figures
    intervals: Mapping[str, tuple[float, float] | None]
    selective: Selective | None

    @property
    def n(self) -> int:
        """Rows that count: those labelled with a class that the network has."""
        return int((self.targets != MISSING).sum())

    @property
    def confusion(self) -> Indices:
        """Counts, (C, C) int64, rows = truth, columns = the most probable class."""
        return self.tally.total().confusion.astype(np.int64)


@dataclass(frozen=True)
class Evaluation:
    """A network judged on a corpus.

    Attributes:
        model: What was judged.
        precision: Of its arithmetic, `float32` or `int8`.
        corpus: What it was judged on, N rows.
        tasks: By name, in the order of the network's heads.
        embedding: (N, D) float32.
    """

    model: str
    precision: str
    corpus: Corpus
    tasks: Mapping[str, TaskEvaluation]
    embedding: npt.NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return what `transom evaluate --json` prints."""
        return {
            "model": self.model,
            "precision": self.precision,
            "digest": self.corpus.digest,
            "n": len(self.corpus),
            "tasks": {name: _task_json(task) for name, task in self.tasks.items()},
            "groups": self.groups(),
        }

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return rows, and by task rows that count and accuracy, for each group by name.

        The interval is of other pictures of the same group, as if they were independent; what to
        expect of other groups is in the tasks' own intervals.
        """
        numbers = group_indices(self.corpus.groups)
        table: dict[str, dict[str, Any]] = {
            name: {"n": int(count), "tasks": {}}
            for name, count in zip(*np.unique(self.corpus.groups, return_counts=True), strict=True)
        }
        names = list(table)
        for task, found in self.tasks.items():
            counted = found.targets != MISSING
            right = found.prediction.probabilities.argmax(axis=1) == found.targets
            n = np.bincount(numbers[counted], minlength=len(names))
            correct = np.bincount(numbers[counted & right], minlength=len(names))
            for index in np.flatnonzero(n):
                share, rows = float(correct[index] / n[index]), int(n[index])
                table[names[index]]["tasks"][task] = {
                    "n": rows,
                    "accuracy": share,
                    "interval": wilson_interval(share, rows),
                }
        return {str(name): table[name] for name in names}


def evaluate(
    predictor: Predictor, corpus: Corpus, *, progress: Progress | None = None
) -> Evaluation:
    """Judge a network on every row of a corpus.

    Tasks and classes are matched by name. Rows without a label for a task are predicted, not
    counted; so are rows whose true class the network does not have.

    Args:
        predictor: The network.
        corpus: The rows; its crops must have the size that the network takes.
        progress: Told how many rows are predicted.

    Raises:
        DatasetError: The corpus has no row.
        ValueError: Its crops have another size.
    """
    if not len(corpus):
        raise DatasetError("no row to evaluate; choose another split")
    size = predictor.input.size
    if corpus.crops.shape[1:] != (size, size, 3):
        raise ValueError(f"crops must be (N, {size}, {size}, 3), got {corpus.crops.shape}")
    return judge(predictor, ask(predictor, corpus, progress), corpus)


def ask(predictor: Predictor, corpus: Corpus, progress: Progress | None = None) -> Said:
    """Return what a network says of every row of a corpus; see `ask_crops`."""
    return ask_crops(predictor, corpus.crops, progress)


def ask_crops(predictor: Predictor, crops: Crops, progress: Progress | None = None) -> Said:
    """Return what a network says of crops, a batch at a time.

    Args:
        predictor: The network.
        crops: (N, S, S, 3) uint8 BGR, at least one.
        progress: Told how many have been looked at.
    """
    parts = []
    for start in range(0, len(crops), _BATCH):
        parts.append(predictor(np.array(crops[start : start + _BATCH])))
        if progress:
            progress(min(start + _BATCH, len(crops)), len(crops))
    distances = [part.distance for part in parts if part.distance is not None]
    return Said(
        {name: np.concatenate([part.logits[name] for part in parts]) for name in parts[0].logits},
        np.concatenate([part.embedding for part in parts]),
        np.concatenate(distances) if distances else None,
    )


def judge(predictor: Predictor, said: Said, corpus: Corpus) -> Evaluation:
    """Judge what a network has said of every row of a corpus.

    Args:
        predictor: The network.
        said: Of the N rows.
        corpus: The N rows.

    Raises:
        ValueError: What was said does not fit a task.
    """
    groups = group_indices(corpus.groups)
    tasks = {
        spec.name: _judge(
            spec, predict(said.logits[spec.name], spec, said.distance), corpus, groups
        )
        for spec in predictor.specs
    }
    return Evaluation(predictor.name, predictor.precision, corpus, tasks, said.embedding)


def write_predictions(path: Path, evaluation: Evaluation) -> None:
    """Write one JSON line a row: where it is, and by task what was said and what is true.

    Raises:
        OSError: The file cannot be written.
    """
    corpus = evaluation.corpus
    lines = [
        msgspec.json.encode(
            {
                "dataset": corpus.origins[index],
                "image": row.image,
                "zone": row.zone.to_text(),
                "line": row.line,
                "group": row.group_key,
                "split": str(corpus.splits[index]),
                "tasks": {
                    name: _answer(task, row.labels.get(name), index)
                    for name, task in evaluation.tasks.items()
                },
            }
        )
        for index, row in enumerate(corpus.rows)
    ]
    write_file(path, b"\n".join(lines) + b"\n")


def _judge(
    spec: TaskSpec, prediction: Prediction, corpus: Corpus, groups: Indices
) -> TaskEvaluation:
    targets, foreign = task_targets(spec, corpus)
    counted = np.flatnonzero(targets != MISSING)
    # Numbered again, so that groups without a label for this task are not drawn by the bootstrap.
    counted_groups = np.unique(groups[counted], return_inverse=True)[1].astype(np.int64)
    tally = tally_groups(
        prediction.probabilities[counted],
        prediction.classes[counted],
        targets[counted],
        counted_groups,
    )
    return TaskEvaluation(
        spec=spec,
        prediction=prediction,
        targets=targets,
        foreign=foreign,
        foreign_classes=_foreign_classes(spec, corpus),
        tally=tally,
        figures=plain(figures(tally.total())),
        intervals=bootstrap_intervals(tally),
        selective=selective(
            prediction.probabilities[counted].max(axis=1),
            prediction.probabilities[counted].argmax(axis=1) == targets[counted],
            counted_groups,
        ),
    )


def task_targets(spec: TaskSpec | Task, corpus: Corpus) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Return a corpus's targets in a network's order of classes.

    Args:
        spec: The network's task.
        corpus: N rows, whose classes may be others or in another order.

    Returns:
        (N,) int64, `MISSING` where a row does not count; and (N,) bool, whether it is labelled
        with a class that the network does not have.
    """
    if spec.name not in corpus.tasks:
        return np.full(len(corpus), MISSING), np.zeros(len(corpus), np.bool_)
    theirs = corpus.targets[:, corpus.tasks.names.index(spec.name)]
    place = np.array(
        [
            spec.classes.index(name) if name in spec.classes else MISSING
            for name in corpus.tasks[spec.name].classes
        ]
    )
    targets = np.where(theirs == MISSING, MISSING, place[theirs])
    return targets, (theirs != MISSING) & (targets == MISSING)


def foreign_lines(tasks: Iterable[TaskSpec | Task], corpus: Corpus) -> list[str]:
    """Say of each task which rows do not count because a network does not have their class.

    As where a class was renamed in the data, or added, since it was trained.

    Args:
        tasks: The network's.
        corpus: The rows.
    """
    found = [(task, _foreign_classes(task, corpus)) for task in tasks]
    return [say_foreign(task, foreign) for task, foreign in found if foreign]


def say_foreign(task: TaskSpec | Task, foreign: Mapping[str, int]) -> str:
    """Return a sentence of the rows of a task whose classes the network does not have.

    Args:
        task: The network's.
        foreign: Those classes, with how many rows of each.
    """
    rows = sum(foreign.values())
    each = ", ".join(f"{name} ({count:,})" for name, count in foreign.items())
    what = "row does not count, its" if rows == 1 else "rows do not count, their"
    return (
        f"{task.name}: {rows:,} {what} class is none of the network's: {each}; it has "
        f"{', '.join(task.classes)}"
    )


def _foreign_classes(task: TaskSpec | Task, corpus: Corpus) -> dict[str, int]:
    if task.name not in corpus.tasks:
        return {}
    theirs = corpus.targets[:, corpus.tasks.names.index(task.name)]
    names = corpus.tasks[task.name].classes
    counts = np.bincount(theirs[theirs != MISSING], minlength=len(names)).tolist()
    return {
        name: count
        for name, count in zip(names, counts, strict=True)
        if count and name not in task.classes
    }


def label_classes(tasks: TaskSet, corpus: Corpus) -> Indices:
    """Return (N,) int64, the class of each row by the task that labels most rows.

    A task that tells no two rows apart counts last. Rows without a label are a class of their own.
    """
    targets = [task_targets(task, corpus)[0] for task in tasks]
    return max(
        targets,
        key=lambda truth: (
            len(np.unique(truth[truth != MISSING])) > 1,
            int((truth != MISSING).sum()),
        ),
    )


def _task_json(task: TaskEvaluation) -> dict[str, Any]:
    return {
        "classes": list(task.spec.classes),
        "n": task.n,
        **{name: task.figures[name] for name in FIGURES},
        "confusion": task.confusion.tolist(),
        "intervals": {name: task.intervals[name] for name in FIGURES},
        "selective": _selective_json(task.selective),
        "foreign": int(task.foreign.sum()),
        "foreign_classes": dict(task.foreign_classes),
    }


def _selective_json(found: Selective | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "coverage": list(COVERAGES),
        "accuracy": list(found.at),
        "intervals": list(found.intervals),
        "aurc": found.aurc,
        "aurc_interval": found.aurc_interval,
    }


def _answer(task: TaskEvaluation, truth: str | None, index: int) -> dict[str, Any]:
    believed = int(task.prediction.classes[index])
    probabilities = task.prediction.probabilities[index].tolist()
    return {
        "probabilities": dict(zip(task.spec.classes, probabilities, strict=True)),
        "class": UNKNOWN if believed == UNKNOWN_INDEX else task.spec.classes[believed],
        "truth": truth,
    }
