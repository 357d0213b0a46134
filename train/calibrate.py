"""What makes a probability mean what it says, and when the answer is `unknown`.

Everything here works on plain arrays, so that a float32 network and its INT8 export are
calibrated by the same rules, each on its own logits.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from transom.manifest import TaskSpec, UnknownRule
from transom.prediction import energy, softmax
from transom.tasks import Task

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 10.0
"""Outside these a few hundred pictures do not bear the claim."""
TARGET_PRECISION = 0.95
"""How often a class that is believed must be right, where coverage allows it."""

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_STEPS = 60  # of the golden section: the interval shrinks to 1e-12 of itself


def fit_temperature(logits: Floats, targets: Indices) -> float:
    """Return the temperature T at which softmax(logits / T) is likeliest.

    Args:
        logits: (N, C) float32 of held-out pictures.
        targets: (N,) int64; rows with a negative target do not count.

    Returns:
        `MIN_TEMPERATURE` to `MAX_TEMPERATURE`; 1.0 where no row counts.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017. The likelihood is concave
        in 1 / T, so a golden-section search finds its one maximum.
    """
    counted = targets >= 0
    if not counted.any():
        return 1.0
    scores, truth = logits[counted].astype(np.float64), targets[counted]
    scores -= scores[np.arange(len(scores)), truth][:, None]

    def loss(inverse: float) -> float:
        return float(np.logaddexp.reduce(scores * inverse, axis=1).mean())

    return 1.0 / _minimise(loss, 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE)


def fit_thresholds(
    logits: Floats,
    targets: Indices,
    *,
    precision: float = TARGET_PRECISION,
    coverage: float = 0.95,
) -> tuple[float, ...]:
    """Return for each class the least probability at which it is believed.

    It is the least at which the class is right as often as `precision` asks, but never so high
    that less than `coverage` of the pictures on which the class is said are still answered.

    Args:
        logits: (N, C) float32, calibrated, of held-out pictures.
        targets: (N,) int64; rows with a negative target do not count.
        precision: Share of right answers asked for, 0 to 1.
        coverage: Share of answers to keep, 0 to 1.

    Returns:
        C probabilities, rounded down to a ten-thousandth; 0 where a class was never said.
    """
    probabilities = softmax(logits[targets >= 0]) if len(logits) else np.zeros_like(logits)
    truth = targets[targets >= 0]
    guess = probabilities.argmax(axis=1)
    thresholds = []
    for index in range(logits.shape[1]):
        said = guess == index
        threshold = _threshold(
            probabilities[said, index], truth[said] == index, precision, coverage
        )
        thresholds.append(math.floor(threshold * 1e4) / 1e4)
    return tuple(thresholds)


def fit_limit(values: Floats, coverage: float = 0.95) -> float | None:
    """Return the value that `coverage` of pictures like these stay below.

    Args:
        values: (N,) float32, energy or distance of held-out pictures.
        coverage: Share of new pictures of the same kind that must pass, 0 to 1.

    Returns:
        The split-conformal quantile, the ceil((N + 1) coverage)-th least value, rounded up to a
        ten-thousandth; None where N is too small to promise the coverage with any limit.

    References:
        Angelopoulos and Bates, A Gentle Introduction to Conformal Prediction, 2021, section 1.
    """
    rank = math.ceil((len(values) + 1) * coverage)
    if rank > len(values):
        return None
    return math.ceil(float(np.sort(values)[rank - 1]) * 1e4) / 1e4


def calibrated_spec(
    task: Task,
    logits: Floats,
    targets: Indices,
    coverage: float = 0.95,
    distance: Floats | None = None,
) -> TaskSpec:
    """Return a task with the thresholds and the rule for the unknown that held-out pictures give.

    Half of what `coverage` leaves is spent on thresholds, half on the rule for the unknown, so that
    both together leave at least `coverage` of good pictures answered. The rule is a limit of the
    distance, which tells pictures of anything else apart even where a network has learnt from one
    data set; of the energy where there is none.

    Args:
        task: The task.
        logits: (N, C) float32 of held-out pictures, divided by the temperature already.
        targets: (N,) int64; a negative target = not labelled, does not count.
        coverage: Share of good pictures that must be answered, 0 to 1.
        distance: (N,) float32, from training pictures; None where the network gives none.

    Raises:
        ValueError: The logits do not fit the task or the targets.
    """
    if logits.ndim != 2 or logits.shape != (len(targets), len(task.classes)):
        raise ValueError(
            f"logits of task {task.name!r} must be ({len(targets)}, {len(task.classes)}), "
            f"got {logits.shape}"
        )
    each = 1.0 - (1.0 - coverage) / 2.0
    counted = targets >= 0
    return TaskSpec(
        name=task.name,
        classes=task.classes,
        ordinal=task.ordinal,
        thresholds=fit_thresholds(logits[counted], targets[counted], coverage=each),
        unknown=UnknownRule(max_energy=fit_limit(energy(logits[counted]), each))
        if distance is None
        else UnknownRule(max_distance=fit_limit(distance[counted], each)),
    )


def _threshold(
    confidence: Floats, right: npt.NDArray[np.bool_], precision: float, coverage: float
) -> float:
    if len(confidence) == 0:
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    share_right = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share_right >= precision)
    wanted = float(confidence[order[good[-1]]]) if len(good) else 1.0
    kept = max(math.ceil(coverage * len(order)), 1)
    return min(wanted, float(confidence[order[kept - 1]]))


def _minimise(function: Callable[[float], float], low: float, high: float) -> float:
    """The place of the least value of a function with one minimum (golden section)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2.0
