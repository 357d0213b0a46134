"""Figures of a classifier, and how sure they are.

Every figure follows from sums over the rows (a `Tally`). Sums are kept for each group, so that
the bootstrap draws whole groups: rows of one door are no independent evidence.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transom.prediction import UNKNOWN_INDEX

CALIBRATION_BINS = 15
FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "group_accuracy",
    "ece",
    "coverage",
    "accuracy_covered",
)

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Figures = Mapping[str, float | None]

_REPEATS = 1000
_BLOCK = 100  # repeats at a time, so that the memory stays bounded with many groups


@dataclass(frozen=True)
class Tally:
    """Sums over rows; the leading axes `...` are none, or one entry a group or repeat.

    Attributes:
        confusion: (..., C, C) float64, rows = truth, columns = the most probable class.
        bins: (..., CALIBRATION_BINS, 3) float64: rows, sum of confidence, rows that were right,
            by confidence.
        covered: (..., 2) float64: rows that were not `unknown`, and those of them that were right.
        groups: (..., 2) float64: groups that have a row, and the sum of their accuracies.
    """

    confusion: Floats
    bins: Floats
    covered: Floats
    groups: Floats

    def total(self) -> "Tally":
        """Return the sum over the leading axis."""
        return Tally(
            self.confusion.sum(0), self.bins.sum(0), self.covered.sum(0), self.groups.sum(0)
        )

    def weighted(self, weights: Floats) -> "Tally":
        """Return one tally a row of `weights`, float64 (B, G), from one tally a group."""
        return Tally(
            np.tensordot(weights, self.confusion, 1),
            np.tensordot(weights, self.bins, 1),
            np.tensordot(weights, self.covered, 1),
            np.tensordot(weights, self.groups, 1),
        )


def tally_groups(
    probabilities: npt.NDArray[np.float32], believed: Indices, targets: Indices, groups: Indices
) -> Tally:
    """Sum rows by group.

    Args:
        probabilities: (N, C) float32, rows sum to 1.
        believed: (N,) int64, the class that is believed or `UNKNOWN_INDEX`.
        targets: (N,) int64, 0 to C - 1; every row counts.
        groups: (N,) int64, 0 to G - 1.

    Returns:
        A tally with leading axis G.
    """
    count, classes = int(groups.max(initial=-1)) + 1, probabilities.shape[1]
    guess, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0.0)
    right = guess == targets
    confusion = np.zeros((count, classes, classes))
    np.add.at(confusion, (groups, targets, guess), 1.0)
    bins = np.zeros((count, CALIBRATION_BINS, 3))
    # Bins are open below and closed above, as is usual for this figure.
    place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    np.add.at(bins, (groups, place), np.stack([np.ones_like(confidence), confidence, right], 1))
    covered = np.zeros((count, 2))
    known = believed != UNKNOWN_INDEX
    np.add.at(covered, groups, np.stack([known, known & (believed == targets)], 1))
    rows, correct = np.zeros(count), np.zeros(count)
    np.add.at(rows, groups, 1.0)
    np.add.at(correct, groups, right.astype(np.float64))
    each = np.stack([rows > 0, correct / np.maximum(rows, 1.0)], 1)
    return Tally(confusion, bins, covered, each)


def figures(tally: Tally) -> dict[str, Floats]:
    """Return each of `FIGURES`, float64 of the tally's leading shape; NaN where no row counts.

    Balanced accuracy is the mean recall of the classes that occur; macro F1 the mean over classes
    that occur or were said; group accuracy the mean of the groups' accuracies, so that a much
    photographed door counts like any other; ECE the mean distance of confidence and accuracy by
    confidence.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (ECE).
    """
    confusion = tally.confusion
    n = confusion.sum((-2, -1))
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    truths, guesses = confusion.sum(-1), confusion.sum(-2)
    f1 = _ratio(2 * right, truths + guesses)
    rows, confidence, correct = np.moveaxis(tally.bins, -1, 0)
    known, known_right = np.moveaxis(tally.covered, -1, 0)
    groups, group_right = np.moveaxis(tally.groups, -1, 0)
    return {
        "accuracy": _ratio(right.sum(-1), n),
        "balanced_accuracy": _mean_where_given(_ratio(right, truths)),
        "macro_f1": _mean_where_given(f1),
        "group_accuracy": _ratio(group_right, groups),
        "ece": _ratio(np.abs(confidence - correct).sum(-1), rows.sum(-1)),
        "coverage": _ratio(known, n),
        "accuracy_covered": _ratio(known_right, known),
    }


def bootstrap_intervals(
    tally: Tally, *, level: float = 0.95, repeats: int = _REPEATS, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Return an interval for each of `FIGURES` by drawing whole groups with replacement.

    Args:
        tally: With one entry a group.
        level: Share of the repeats inside the interval, 0 to 1.
        repeats: How often to draw.
        seed: Of the draw.

    Returns:
        Low and high end by figure; None with fewer than 2 groups, from which nothing can be said
        (see `share_interval`).

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile).
    """
    drawn: dict[str, list[Floats]] = {name: [] for name in FIGURES}
    for weights in resamples(len(tally.confusion), repeats=repeats, seed=seed):
        for name, values in figures(tally.weighted(weights)).items():
            drawn[name].append(values)
    groups = len(tally.confusion)
    return {
        name: share_interval(np.concatenate(values), groups, level) if values else None
        for name, values in drawn.items()
    }


def resamples(groups: int, *, repeats: int = _REPEATS, seed: int = 0) -> Iterator[Floats]:
    """Draw groups with replacement, again and again.

    Args:
        groups: How many there are.
        repeats: How often to draw as many as there are.
        seed: Of the draw.

    Yields:
        (B, groups) float64, how often each group was drawn, B repeats at a time; nothing with
        fewer than 2 groups, from which no interval can be had.
    """
    if groups < 2:
        return
    generator = np.random.default_rng(seed)
    for start in range(0, repeats, _BLOCK):
        block = min(_BLOCK, repeats - start)
        drawn = generator.multinomial(groups, np.full(groups, 1 / groups), size=block)
        yield drawn.astype(np.float64)


def interval(values: Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the middle `level` of drawn values (B,); None where none of them is a number."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_interval(values: Floats, groups: int, level: float = 0.95) -> tuple[float, float] | None:
    """Return the middle `level` of drawn shares, and what may be where all groups are the same.

    Where not one of the groups has a mistake, every draw says 1, and so it would with two groups as
    with a thousand. How many other groups may have one is then known from their number.

    Args:
        values: (B,) drawn, 0 to 1.
        groups: How many were drawn from.
        level: Of the interval.

    References:
        Clopper and Pearson, The Use of Confidence or Fiducial Limits, Biometrika 1934.
    """
    found = interval(values, level)
    if found is None:
        return None
    low, high = found
    unseen = 1.0 - ((1.0 - level) / 2) ** (1.0 / groups)
    if low == 1.0:
        return 1.0 - unseen, 1.0
    return (0.0, unseen) if high == 0.0 else found


def mean_interval(
    values: Floats, groups: Indices, level: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of a mean over rows, drawing whole groups; None with fewer than 2.

    Args:
        values: (N,) float64.
        groups: (N,) int64, 0 to G - 1.
        level: How probably it holds the mean, 0 to 1.
    """
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    drawn = [weights @ sums / (weights @ counts) for weights in resamples(len(counts))]
    return interval(np.concatenate(drawn), level) if drawn else None


def few_groups_interval(
    values: Floats, groups: Indices, level: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of a mean over rows of few groups; None with fewer than 2.

    Drawing from three groups gives 27 draws, none of them beyond the three: what is not among
    them is thought impossible. Here the groups' spread is an estimate itself, as in Student's t
    with one degree of freedom less than there are groups. Rows vary at least as independent ones
    do, so that groups which happen to agree are no proof.

    Args:
        values: (N,) float64.
        groups: (N,) int64, 0 to G - 1.
        level: How probably it holds the mean, 0 to 1.

    References:
        Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015, section VI.
    """
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    if len(counts) < 2:
        return None
    mean = float(values.mean())
    between = len(counts) / (len(counts) - 1) * float(((sums - mean * counts) ** 2).sum())
    among = float(((values - mean) ** 2).sum())
    error = math.sqrt(max(between, among)) / len(values)
    half = _student(level, len(counts) - 1) * error
    return mean - half, mean + half


def _student(level: float, freedom: int) -> float:
    """Return within what Student's t lies with a probability.

    With T = sqrt(freedom) * tan(angle), the angle's density is cos(angle) ** (freedom - 1).
    """
    angles = np.linspace(0.0, np.pi / 2, 20_001)
    middles = (angles[1:] + angles[:-1]) / 2
    mass = np.append(0.0, np.cumsum(np.cos(middles) ** (freedom - 1)))
    return float(np.sqrt(freedom) * np.tan(np.interp(level, mass / mass[-1], angles)))


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share of n rows, 0 to 1.

    References:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def plain(values: Mapping[str, Floats]) -> dict[str, float | None]:
    """Return single figures as floats; None in place of NaN, which JSON does not have."""
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}


def group_indices(groups: Sequence[str]) -> Indices:
    """Return (N,) int64, equal where the groups are equal, from 0 without gaps."""
    return np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def _mean_where_given(values: Floats) -> Floats:
    given = ~np.isnan(values)
    return _ratio(np.where(given, values, 0.0).sum(-1), given.sum(-1).astype(np.float64))
