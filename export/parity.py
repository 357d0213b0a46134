"""The gate: is the exported network the trained one, and is INT8 still the same network?

An INT8 network that was quantised badly still loads, still runs and still gives probabilities.
Only comparing it with its float32 original on real crops shows it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from transom.bundle import Logits
from transom.errors import ExportError
from transom.prediction import softmax
from transom.tasks import TaskSet

Share = Annotated[float, Meta(ge=0.0, le=1.0)]

_RESAMPLES = 1000


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an export must reach.

    Attributes:
        agreement: Least share of held-out crops to which INT8 and float32 give the same class.
        confidence: Float32 probability from which a crop counts as a confident one.
        confident_agreement: Least share of the confident crops with the same class. Below 100
            confident crops one may differ: such a sample cannot tell 99 % from 98 %.
        drop: Largest loss of accuracy, as a share. A larger one passes where its interval, paired
            by crop and resampled by group, reaches 0: it is then not told apart from none.
        float_difference: Largest difference of an output of torch and of ONNX float32, as a share
            of the output's largest magnitude, or of 1 where that is smaller.
    """

    agreement: Share = 0.95
    confidence: Share = 0.8
    confident_agreement: Share = 0.99
    drop: Share = 0.01
    float_difference: Share = 1e-4


class TaskParity(msgspec.Struct, frozen=True, kw_only=True):
    """How INT8 compares with float32 on one task, over the same held-out crops.

    Attributes:
        task: Its name.
        n: Crops compared.
        agreement: Share of them with the same class.
        confident_n: Crops of which float32 is confident.
        confident_agreement: Share of those with the same class; 1 where there are none.
        labelled_n: Crops with a label; accuracies are of these, and 0 where there are none.
        float32_accuracy: Share that float32 has right.
        int8_accuracy: Share that INT8 has right.
        drop: `float32_accuracy` - `int8_accuracy`.
        drop_interval: Its 95 % interval, paired by crop, resampled by group.
        worse: Crops that only float32 has right.
        better: Crops that only INT8 has right.
        mcnemar_p: Probability of a split of `worse` and `better` at least as uneven, if
            quantisation did nothing.
    """

    task: str
    n: int
    agreement: float
    confident_n: int
    confident_agreement: float
    labelled_n: int
    float32_accuracy: float
    int8_accuracy: float
    drop: float
    drop_interval: tuple[float, float]
    worse: int
    better: int
    mcnemar_p: float


def check_float(
    reference: Mapping[str, npt.NDArray[np.float32]],
    exported: Mapping[str, npt.NDArray[np.float32]],
    limits: Limits,
) -> float:
    """Compare the outputs of torch and of ONNX float32 on the same crops.

    Args:
        reference: By output (tasks and embedding), float32 (N, C) or (N, D), from torch.
        exported: The same, from the graph.
        limits: What must be reached.

    Returns:
        The largest difference, as a share of its output's largest magnitude.

    Raises:
        ExportError: It is above the limit.
    """
    largest = 0.0
    for name, values in reference.items():
        size = max(1.0, float(np.abs(values).max()))
        difference = float(np.abs(values - exported[name]).max()) / size
        if not difference <= limits.float_difference:
            raise ExportError(
                f"export stopped: ONNX differs from torch by {difference:.2g} of the largest value "
                f"of `{name}`, {limits.float_difference:g} is the most; "
                "export with other versions of torch and onnxscript"
            )
        largest = max(largest, difference)
    return largest


def compare(
    tasks: TaskSet,
    float32: Logits,
    int8: Logits,
    targets: npt.NDArray[np.int64],
    groups: Sequence[str],
    limits: Limits,
) -> tuple[TaskParity, ...]:
    """Compare INT8 with float32 on the same held-out crops, task by task.

    Args:
        tasks: The heads.
        float32: By task, calibrated logits (N, C).
        int8: By task, logits (N, C).
        targets: (N, T) class indices in the order of `tasks`, -1 = not labelled.
        groups: N group names, for the interval of the drop.
        limits: Which crops are confident ones.

    Raises:
        ValueError: There are no crops.
    """
    if len(groups) == 0:
        raise ValueError("parity needs at least one held-out crop, got none")
    return tuple(
        _compare_task(task.name, float32[task.name], int8[task.name], truth, groups, limits)
        for task, truth in zip(tasks, targets.T, strict=True)
    )


def check_parity(parities: Sequence[TaskParity], limits: Limits) -> None:
    """Pass, or say by which limit on which task INT8 fails.

    Raises:
        ExportError: A limit is not reached.
    """
    failures = [failure for parity in parities for failure in _failures(parity, limits)]
    if failures:
        raise ExportError(
            f"export stopped: {'; '.join(failures)}; "
            "calibrate with more images, or export with --precision float32"
        )


def _compare_task(
    task: str,
    float32: npt.NDArray[np.float32],
    int8: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    groups: Sequence[str],
    limits: Limits,
) -> TaskParity:
    before, after = float32.argmax(axis=1), int8.argmax(axis=1)
    same = before == after
    confident = softmax(float32).max(axis=1) >= limits.confidence
    labelled = truth >= 0
    right_before = (before == truth)[labelled]
    right_after = (after == truth)[labelled]
    lost = right_before.astype(np.int64) - right_after
    worse, better = int((lost > 0).sum()), int((lost < 0).sum())
    return TaskParity(
        task=task,
        n=len(same),
        agreement=float(same.mean()),
        confident_n=int(confident.sum()),
        confident_agreement=float(same[confident].mean()) if confident.any() else 1.0,
        labelled_n=int(labelled.sum()),
        float32_accuracy=_mean(right_before),
        int8_accuracy=_mean(right_after),
        drop=_mean(lost),
        drop_interval=_interval(lost, np.asarray(groups)[labelled]),
        worse=worse,
        better=better,
        mcnemar_p=_mcnemar(worse, better),
    )


def _mean(values: npt.NDArray[np.generic]) -> float:
    return float(values.astype(np.float64).mean()) if values.size else 0.0


def _interval(lost: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]) -> tuple[float, float]:
    """95 % percentile bootstrap over groups of the mean of `lost`; over rows if there is one."""
    if lost.size == 0:
        return 0.0, 0.0
    names, member = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        member = np.arange(lost.size)
    sums = np.bincount(member, weights=lost)
    counts = np.bincount(member)
    count = len(counts)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    low, high = np.percentile((draws @ sums) / (draws @ counts), [2.5, 97.5])
    return float(low), float(high)


def _mcnemar(worse: int, better: int) -> float:
    """Exact two-sided McNemar test."""
    changed, fewer = worse + better, min(worse, better)
    tail = sum(math.comb(changed, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**changed))


def _failures(parity: TaskParity, limits: Limits) -> list[str]:
    failures = []
    if parity.agreement < limits.agreement:
        failures.append(
            f"INT8 agrees with float32 on {parity.agreement:.1%} of `{parity.task}`, "
            f"{limits.agreement:.1%} required"
        )
    flips = round((1.0 - parity.confident_agreement) * parity.confident_n)
    if flips > max(1.0, (1.0 - limits.confident_agreement) * parity.confident_n):
        failures.append(
            f"INT8 agrees with float32 on {parity.confident_agreement:.1%} of `{parity.task}` "
            f"where float32 is sure, {limits.confident_agreement:.1%} required"
        )
    if parity.drop > limits.drop and parity.drop_interval[0] > 0.0:
        failures.append(
            f"INT8 loses {100 * parity.drop:.1f} points of accuracy on `{parity.task}` "
            f"(95 % interval {100 * parity.drop_interval[0]:.1f} to "
            f"{100 * parity.drop_interval[1]:.1f}), {100 * limits.drop:.1f} allowed"
        )
    return [failure.replace("%", " %").replace("  %", " %") for failure in failures]
