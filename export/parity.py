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

from transom.errors import ExportError
from transom.goldens import Logits
from transom.prediction import softmax
from transom.tasks import TaskSet

Share = Annotated[float, Meta(ge=0.0, le=1.0)]

_RESAMPLES = 1000
_EVIDENCE = 0.05
"""Probability below which something is no longer put down to chance."""
_NORMAL_95 = 1.959964
"""What a normal variable stays within, in standard deviations, 95 times of 100."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an export must reach.

    Attributes:
        agreement: Least share of held-out crops to which INT8 and float32 give the same class
            (see `most_flips` for samples too small to have such a share).
        confidence: Float32 probability from which a crop counts as a confident one.
        confident_agreement: Least share of the confident crops with the same class.
        drop: Largest loss of accuracy, as a share. A larger one passes only where chance explains
            it: its interval, paired by crop and resampled by group, reaches 0, and the exact
            McNemar test by crop finds nothing at 5 %.
        float_difference: Largest difference of an output of torch and of ONNX float32, as a share
            of the output's largest magnitude, or of 1 where that is smaller.
        float_convolutions: How many convolutions may stay in float in an INT8 graph, beside those
            that a fallback has taken out on purpose.
        quantize_linear: How many tensors may be quantised while it runs, beside one for each
            convolution taken out; more mean that integer and float layers alternate.
    """

    agreement: Share = 0.97
    confidence: Share = 0.8
    confident_agreement: Share = 0.995
    drop: Share = 0.005
    float_difference: Share = 1e-4
    float_convolutions: Annotated[int, Meta(ge=0)] = 0
    quantize_linear: Annotated[int, Meta(ge=0)] = 2


class TaskParity(msgspec.Struct, frozen=True, kw_only=True):
    """How INT8 compares with float32 on one task, over the same held-out crops.

    Attributes:
        task: Its name.
        n: Crops compared.
        agreement: Share of them with the same class.
        agreement_interval: Its 95 % interval, by crop (Wilson).
        confident_n: Crops of which float32 is confident.
        confident_agreement: Share of those with the same class; 1 where there are none.
        confident_interval: Its 95 % interval, likewise; 0 to 1 where there are none.
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
    agreement_interval: tuple[float, float]
    confident_n: int
    confident_agreement: float
    confident_interval: tuple[float, float]
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
        raise ExportError(f"export stopped: {'; '.join(failures)}")


def check_fused(operators: Mapping[str, int], limits: Limits, *, excluded: int = 0) -> None:
    """Pass, or say what the INT8 graph still computes in float.

    A graph that is quantised here and there is slower than one that is not at all.

    Args:
        operators: How often each is in the graph as it runs (`export.quantize.count_operators`).
        limits: How many are too many.
        excluded: Convolutions that a fallback has left in float on purpose.

    Raises:
        ExportError: There are more than allowed.
    """
    counts = {
        "float_convolutions": (operators.get("Conv", 0) + operators.get("FusedConv", 0)),
        "quantize_linear": operators.get("QuantizeLinear", 0),
    }
    for name, count in counts.items():
        most = getattr(limits, name) + excluded
        if count > most:
            raise ExportError(
                f"export stopped: the INT8 graph has {count} {name.replace('_', ' ')}, {most} "
                "allowed; take a backbone of convolutions, ReLU and additions (docs/backbones.md), "
                f"--precision float32, or --set limits.{name}={count}"
            )


def most_flips(count: int, share: float) -> int:
    """Return how many of `count` crops may change their class where `share` must keep it.

    As many as the share allows. A sample so small that it allows none may still have one, unless
    even one would be evidence against a network that keeps exactly this share: unless the exact
    binomial probability of any flip is below 5 %. So 10 crops that must agree to 99.5 % may have
    none, 11 to 399 one, 400 two.

    Examples:
        >>> [most_flips(count, 0.995) for count in (10, 11, 399, 400, 2000)]
        [0, 1, 1, 2, 10]
    """
    allowed = math.floor((1.0 - share) * count + 1e-9)
    is_no_evidence = 1.0 - share**count >= _EVIDENCE
    return max(allowed, int(is_no_evidence))


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
        agreement_interval=_wilson(same),
        confident_n=int(confident.sum()),
        confident_agreement=float(same[confident].mean()) if confident.any() else 1.0,
        confident_interval=_wilson(same[confident]),
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


def _wilson(same: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 22, 1927): in bounds, and of some width at 100 %."""
    count = same.size
    if count == 0:
        return 0.0, 1.0
    share, square = float(same.mean()), _NORMAL_95**2 / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _failures(parity: TaskParity, limits: Limits) -> list[str]:
    failures = []
    shares = (
        ("", parity.n, parity.agreement, parity.agreement_interval, limits.agreement),
        (
            f" where float32 is at least {limits.confidence:.0%} sure",
            parity.confident_n,
            parity.confident_agreement,
            parity.confident_interval,
            limits.confident_agreement,
        ),
    )
    for where, count, share, (low, high), least in shares:
        if round((1.0 - share) * count) > most_flips(count, least):
            failures.append(
                f"INT8 agrees with float32 on {share:.1%} of `{parity.task}`{where} ({count} "
                f"crops, 95 % interval {100 * low:.1f} to {100 * high:.1f}), {least:.1%} required"
            )
    is_chance = parity.drop_interval[0] <= 0.0 and parity.mcnemar_p >= _EVIDENCE
    if parity.drop > limits.drop and not is_chance:
        low, high = parity.drop_interval
        failures.append(
            f"INT8 loses {100 * parity.drop:.1f} points of accuracy on `{parity.task}` "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), {100 * limits.drop:.1f} allowed"
        )
    return [failure.replace("%", " %").replace("  %", " %") for failure in failures]
