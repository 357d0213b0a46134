"""How well a network tells pictures of anything else from those it was made for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.corpus import MISSING
from train.evaluate import Evaluation, TaskEvaluation
from train.metrics import group_indices, interval, mean_interval, resamples
from transom.prediction import UNKNOWN_INDEX, Prediction

ANSWERED = 0.95
"""Share of known pictures that must be answered where scores are compared."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Separation:
    """How far a score holds two sorts of pictures apart.

    Attributes:
        auroc: Probability that a picture of anything else has a higher score than a known one, 0 to
            1; 0.5 is chance.
        interval: Its 95 % interval, over groups of both sorts; None with fewer than 2 of one.
        missed: Share of the others that a limit lets pass which `ANSWERED` of the known stay below.
    """

    auroc: float
    interval: tuple[float, float] | None
    missed: float


@dataclass(frozen=True)
class Unlike:
    """What a task says of pictures that it was not made for.

    Attributes:
        known: Labelled pictures of what it was made for.
        n: Pictures of anything else.
        answered: Share of the others on which it believes a class all the same, with the
            thresholds and the rule that a device has.
        answered_interval: Its 95 % interval, over groups; None with fewer than 2.
        rejected: Share of the others that the rule for the unknown alone rejects.
        scores: By name, how far each score holds them apart: `max_probability`, `energy`, and
            `distance` where the network gives one.
    """

    known: int
    n: int
    answered: float
    answered_interval: tuple[float, float] | None
    rejected: float
    scores: Mapping[str, Separation]


def tell_apart(evaluation: Evaluation, others: Evaluation) -> dict[str, Unlike]:
    """Return by task how well a network tells other pictures from those that it is judged on.

    Args:
        evaluation: Of pictures that it was made for; those that are labelled for a task count.
        others: Of pictures of anything else, whatever their labels.
    """
    other_groups = group_indices(others.corpus.groups)
    return {
        name: _unlike(
            task,
            others.tasks[name].prediction,
            group_indices(evaluation.corpus.groups),
            other_groups,
        )
        for name, task in evaluation.tasks.items()
        if task.n
    }


def separation(
    known: npt.NDArray[np.floating],
    others: npt.NDArray[np.floating],
    known_groups: Indices,
    other_groups: Indices,
) -> Separation:
    """Return how far a score holds known pictures and others apart.

    Args:
        known: (N,) score of known pictures, at least one; high = unlike.
        others: (M,) of the others, at least one.
        known_groups: (N,) int64, from 0 without gaps.
        other_groups: (M,) int64, likewise.

    References:
        Fawcett, An Introduction to ROC Analysis, 2006; ties count half.
    """
    values = np.concatenate([known, others]).astype(np.float64)
    is_other = np.repeat([False, True], [len(known), len(others)])
    _, levels = np.unique(values, return_inverse=True)
    once = _auroc(levels, is_other, np.ones((1, len(values))))
    drawn = [
        _auroc(levels, is_other, np.concatenate([w[:, known_groups], v[:, other_groups]], axis=1))
        for w, v in zip(
            resamples(int(known_groups.max()) + 1),
            resamples(int(other_groups.max()) + 1, seed=1),
            strict=False,  # none of the one, none of the other
        )
    ]
    limit = np.sort(known)[math.ceil(ANSWERED * len(known) - 1e-9) - 1]
    return Separation(
        auroc=float(once[0]),
        interval=interval(np.concatenate(drawn)) if drawn else None,
        missed=float((others <= limit).mean()),
    )


def _auroc(levels: Indices, is_other: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """AUROC, (B,), of rows counted (B, N) times; `levels` are ranks, equal where scores are."""
    count = int(levels.max()) + 1
    by_level = np.zeros((2, len(weights), count))
    for side, rows in enumerate((~is_other, is_other)):
        np.add.at(by_level[side].T, levels[rows], weights[:, rows].T)
    known, others = by_level
    below = np.cumsum(known, axis=1) - known
    won = (others * (below + known / 2.0)).sum(axis=1)
    return np.asarray(won / (known.sum(axis=1) * others.sum(axis=1)))


def _unlike(
    task: TaskEvaluation, other: Prediction, groups: Indices, other_groups: Indices
) -> Unlike:
    counted = np.flatnonzero(task.targets != MISSING)
    known_groups = np.unique(groups[counted], return_inverse=True)[1].astype(np.int64)
    known_scores, other_scores = _scores(task.prediction), _scores(other)
    believed = (other.classes != UNKNOWN_INDEX).astype(np.float64)
    return Unlike(
        known=len(counted),
        n=len(believed),
        answered=float(believed.mean()),
        answered_interval=mean_interval(believed, other_groups),
        rejected=float(other.unlike.mean()),
        scores={
            name: separation(
                known_scores[name][counted], other_scores[name], known_groups, other_groups
            )
            for name in known_scores
        },
    )


def _scores(prediction: Prediction) -> dict[str, npt.NDArray[np.float32]]:
    """The scores that there are, high = unlike."""
    scores = {
        "max_probability": np.asarray(-prediction.probabilities.max(axis=1), np.float32),
        "energy": prediction.energy,
    }
    return scores if prediction.distance is None else {**scores, "distance": prediction.distance}
