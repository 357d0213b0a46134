"""Golden vectors: real crops with the answers that a correct device gives to them.

A device tries them before it trusts a new network. On each of them the most probable class is far
enough ahead that a permitted difference cannot change it; they cover every class that has such.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.graph import IMAGE
from transom.crop import Image
from transom.goldens import Goldens, Logits
from transom.tasks import TaskSet

LEAST = 4
_EACH_CLASS = 1  # a crop of 128 pixels is 48 KiB, and every bundle carries them over the air
_BATCH = 16

Answer = Callable[[Image], Logits]


def make_goldens(
    model: bytes,
    answer: Answer,
    tasks: TaskSet,
    crops: Image,
    targets: npt.NDArray[np.int64],
    in_float32: Answer | None = None,
) -> Goldens:
    """Choose crops and measure how far a correct device may differ on them.

    The tolerance is twice the largest difference between the graph as onnxruntime fuses it here
    and the same graph with no optimisation at all: two correct ways to compute it, further apart
    than two processors are. That of an INT8 network run in float32 is twice the largest difference
    that this makes here.

    Args:
        model: The bundle's network.
        answer: Gives its calibrated logits by task, as the device computes them.
        tasks: Its heads.
        crops: (N, S, S, 3) uint8 BGR to choose among, the preferred ones first.
        targets: (N, T) class indices in the order of `tasks`, -1 = not labelled.
        in_float32: Gives the same logits with the network run in float32; None = an INT8 network
            must not be.

    Raises:
        ValueError: There are no crops.
    """
    if len(crops) == 0:
        raise ValueError("goldens need at least one crop, got none")
    logits = answer(crops)
    tolerance = _tolerance(model, crops, logits)
    float32_tolerance = None
    is_sure = _lead(logits, tasks) > 2 * tolerance
    if in_float32 is not None:
        difference = _largest_difference(logits, in_float32(crops))
        float32_tolerance = _rounded_up(2 * difference, logits)
        is_surer = is_sure & (_lead(logits, tasks) > 2 * float32_tolerance)
        if is_surer.any():
            is_sure = is_surer
        else:  # no golden could tell whether the classes are right
            float32_tolerance = None
    chosen = _choose(targets, is_sure)
    picked = {name: np.ascontiguousarray(values[chosen]) for name, values in logits.items()}
    return Goldens(
        np.ascontiguousarray(crops[chosen]),
        picked,
        tolerance,
        float32_tolerance=float32_tolerance,
    )


def _tolerance(model: bytes, crops: Image, logits: Logits) -> float:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for start in range(0, len(crops), _BATCH):
        part = slice(start, start + _BATCH)
        plain = session.run(list(logits), {IMAGE: np.ascontiguousarray(crops[part])})
        some = {name: values[part] for name, values in logits.items()}
        largest = max(largest, _largest_difference(some, dict(zip(logits, plain, strict=True))))
    return _rounded_up(2 * largest, logits)


def _largest_difference(logits: Logits, others: Logits) -> float:
    return max(float(np.abs(values - others[name]).max()) for name, values in logits.items())


def _rounded_up(tolerance: float, logits: Logits) -> float:
    """Return at least a share of the values: float32 networks may differ here by nothing at all."""
    size = max(float(np.abs(values).max()) for values in logits.values())
    return float(np.float32(max(tolerance, 1e-3 * size, 1e-6)))


def _lead(logits: Logits, tasks: TaskSet) -> npt.NDArray[np.float32]:
    """How far the first class is ahead of the second, the least over tasks, (N,)."""
    leads = []
    for task in tasks:
        ordered = np.sort(logits[task.name], axis=1)
        leads.append(ordered[:, -1] - ordered[:, -2])
    return np.asarray(np.min(leads, axis=0), np.float32)


def _choose(
    targets: npt.NDArray[np.int64], is_sure: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Pick some of every class of every task, and at least `LEAST` in all, as far as there are any.

    Only sure ones, where there are any: of another a correct device may say another class.
    """
    order = np.flatnonzero(is_sure if is_sure.any() else ~is_sure)
    chosen: list[int] = []
    for column in targets.T:
        for label in np.unique(column[order][column[order] >= 0]):
            # A crop that was chosen for another task counts: each one weighs on the bundle.
            wanting = _EACH_CLASS - int((column[chosen] == label).sum())
            free = [row for row in order[column[order] == label].tolist() if row not in chosen]
            chosen += free[: max(0, wanting)]
    rest = [row for row in order.tolist() if row not in chosen]
    chosen += rest[: max(0, LEAST - len(chosen))]
    return np.sort(np.asarray(chosen, np.int64))
