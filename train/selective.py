"""What a network is worth when it may keep silent: accuracy against the share that it answers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.metrics import interval, resamples, share_interval

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of answered rows at which accuracy and its interval are told."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selective:
    """Accuracy of the surest rows, for every share of rows that may be answered.

    Rows that are equally sure are answered together or not at all.

    Attributes:
        confidence: (K,) float64, falling: the least confidence that is answered.
        coverage: (K,) float64, rising to 1: the share of rows that have at least that.
        accuracy: (K,) float64: the share of right answers among those.
        at: Accuracy at each of `COVERAGES`, where as few rows are answered as reach it.
        intervals: 95 % intervals of `at`, over groups; None with fewer than 2 groups.
        aurc: Area under the curve of errors, 0 to 1: the mean share of wrong answers over all
            shares of rows answered; the lower, the better confidence sorts right from wrong.
        aurc_interval: Its 95 % interval, likewise.

    References:
        Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
        Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019 (AURC).
    """

    confidence: Floats
    coverage: Floats
    accuracy: Floats
    at: tuple[float, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    aurc: float
    aurc_interval: tuple[float, float] | None


def selective(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], groups: Indices
) -> Selective | None:
    """Return how accuracy grows as fewer rows are answered; None without a row.

    Args:
        confidence: (N,) how sure each answer is, the higher the surer.
        right: (N,) bool, whether it is right.
        groups: (N,) int64, 0 to G - 1; whole groups are drawn for the intervals.
    """
    if not len(confidence):
        return None
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, hits = confidence[order].astype(np.float64), right[order].astype(np.float64)
    # Where a run of equal confidence ends: only there may answering stop.
    ends = np.flatnonzero(np.append(np.diff(sorted_confidence) != 0, True))
    once = np.ones((1, len(hits)))
    at, aurc = _at_and_area(once, hits, ends)
    drawn_at, drawn_aurc = [], []
    count = int(groups.max()) + 1
    for weights in resamples(count):
        some_at, some_aurc = _at_and_area(weights[:, groups[order]], hits, ends)
        drawn_at.append(some_at)
        drawn_aurc.append(some_aurc)
    counts = ends + 1.0
    return Selective(
        confidence=sorted_confidence[ends],
        coverage=counts / len(hits),
        accuracy=np.cumsum(hits)[ends] / counts,
        at=tuple(at[0].tolist()),
        intervals=tuple(share_interval(column, count) for column in np.concatenate(drawn_at).T)
        if drawn_at
        else (None,) * len(COVERAGES),
        aurc=float(aurc[0]),
        aurc_interval=interval(np.concatenate(drawn_aurc)) if drawn_aurc else None,
    )


def _at_and_area(weights: Floats, hits: Floats, ends: Indices) -> tuple[Floats, Floats]:
    """Accuracy at each coverage, (B, coverages), and AURC, (B,), of rows counted (B, N) times."""
    answered = np.cumsum(weights, axis=1)[:, ends]
    right = np.cumsum(weights * hits, axis=1)[:, ends]
    total = answered[:, -1:]
    accuracy = right / np.maximum(answered, 1.0)  # none answered comes only before the first row
    share = np.diff(answered, prepend=0.0, axis=1) / total
    wanted = np.asarray(COVERAGES) * (1.0 - 1e-12)
    place = (answered[:, None, :] < wanted[:, None] * total[:, None]).sum(-1)
    return np.take_along_axis(accuracy, place, 1), ((1.0 - accuracy) * share).sum(1)
