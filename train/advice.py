"""What an evaluation says should be done next, in sentences."""

from collections.abc import Mapping
from html import escape

import numpy as np

from train.charts import percent
from train.corpus import MISSING
from train.evaluate import Evaluation, TaskEvaluation
from train.metrics import group_indices

_WIDE = 0.10  # an interval wider than this says little
_GAP = 0.08  # by so much training rows may be better than held-out ones
_ECE = 0.08
_FEW_GROUPS = 10
_LOW_COVERAGE = 0.90
_GOOD = 0.97
_MOST = 5


def advice(evaluations: Mapping[str, Evaluation], split: str) -> list[str]:
    """Return what to do next, the most useful first, as HTML sentences.

    Args:
        evaluations: By split.
        split: The one that judges.
    """
    found: list[tuple[float, str]] = []
    for name, task in evaluations[split].tasks.items():
        if task.n:
            trained = evaluations["train"].tasks.get(name) if "train" in evaluations else None
            found += _of_task(escape(name), task, evaluations[split], trained)
    if not found:
        found = [(0.0, "Nothing stands out. Run it on the device and label what it is unsure of.")]
    found.sort(key=lambda item: -item[0])
    return [text for _, text in found[:_MOST]]


def _of_task(
    name: str, task: TaskEvaluation, evaluation: Evaluation, trained: TaskEvaluation | None
) -> list[tuple[float, str]]:
    return [
        item
        for item in (
            _rare_class(name, task, evaluation),
            _confused(name, task),
            _memorised(name, task, trained),
            _uncertain(name, task),
            _miscalibrated(name, task),
            _silent(name, task),
        )
        if item is not None
    ]


def _rare_class(
    name: str, task: TaskEvaluation, evaluation: Evaluation
) -> tuple[float, str] | None:
    groups = group_indices(evaluation.corpus.groups)
    counts = [
        len(np.unique(groups[task.targets == index])) for index in range(len(task.spec.classes))
    ]
    rarest = int(np.argmin(counts))
    if counts[rarest] >= _FEW_GROUPS:
        return None
    label = escape(task.spec.classes[rarest])
    few = {0: "No group here shows", 1: "Only 1 group here shows"}
    shown = few.get(counts[rarest], f"Only {counts[rarest]} groups here show")
    return (
        0.9 if counts[rarest] else 0.5,
        f"<b>Label more <em>{label}</em>.</b> {shown} it for "
        f"<em>{name}</em>, so its figures mean little: pictures of other doors, cameras and days "
        "help, more pictures of the same ones do not.",
    )


def _confused(name: str, task: TaskEvaluation) -> tuple[float, str] | None:
    wrong = task.confusion.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return None
    truth, said = np.unravel_index(int(wrong.argmax()), wrong.shape)
    count, share = int(wrong[truth, said]), wrong[truth, said] / max(wrong.sum(), 1)
    lost = count / task.n
    if lost < 1 - _GOOD:
        return None
    true_name, said_name = (escape(task.spec.classes[int(i)]) for i in (truth, said))
    return (
        0.3 + lost,
        f"<b>Look at <em>{true_name}</em> taken for <em>{said_name}</em>.</b> It is {count} of "
        f"{int(wrong.sum())} mistakes of <em>{name}</em> ({percent(share)}). If the pictures below "
        "are labelled wrongly, mend the labels; if they are right, label more like them.",
    )


def _memorised(
    name: str, task: TaskEvaluation, trained: TaskEvaluation | None
) -> tuple[float, str] | None:
    mine = task.figures["accuracy"]
    theirs = trained.figures["accuracy"] if trained is not None else None
    if mine is None or theirs is None or theirs - mine < _GAP:
        return None
    return (
        0.4 + (theirs - mine),
        f"<b>It knows its training doors better than new ones:</b> {percent(theirs)} "
        f"against {percent(mine)} for <em>{name}</em>. Pictures from your "
        "own camera close this gap faster than a larger network.",
    )


def _uncertain(name: str, task: TaskEvaluation) -> tuple[float, str] | None:
    interval = task.intervals["accuracy"]
    groups = len(task.tally.confusion)
    if interval is None:
        return (
            0.8,
            f"<b>Judge on more than one group.</b> All pictures labelled for <em>{name}</em> are "
            "of one group, so nothing can be said about others.",
        )
    if interval[1] - interval[0] < _WIDE:
        return None
    return (
        0.35,
        f"<b>Keep more groups aside for judging.</b> With {groups} groups <em>{name}</em> is only "
        f"known to lie between {percent(interval[0])} and {percent(interval[1])}; a "
        "difference between two networks that is smaller than this may be chance.",
    )


def _miscalibrated(name: str, task: TaskEvaluation) -> tuple[float, str] | None:
    off = task.figures["ece"]
    if off is None or off < _ECE:
        return None
    bins = task.tally.total().bins.sum(0)
    too = "too sure" if bins[1] > bins[2] else "not sure enough"
    return (
        0.25 + off,
        f"<b>Do not take its percentages at their word.</b> For <em>{name}</em> it is {too} by "
        f"{percent(off)} on average. Labels from the place where it will run put this right.",
    )


def _silent(name: str, task: TaskEvaluation) -> tuple[float, str] | None:
    coverage, answered = task.figures["coverage"], task.figures["accuracy_covered"]
    if coverage is None or coverage >= _LOW_COVERAGE:
        return None
    right = "" if answered is None else f" Where it answers, it is right on {percent(answered)}."
    labelled = int((task.targets != MISSING).sum())
    return (
        0.3,
        f"<b>It keeps silent on {percent(1 - coverage)} of {labelled:,} pictures</b> for <em>{name}"
        f"</em>: they are unlike what it was trained on.{right} Label some of these.",
    )
