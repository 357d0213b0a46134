"""What a few examples of one camera are worth: the head that a device learns, on labelled data.

Each group of a data set stands for a camera. k pictures of each class of a group are drawn and
learnt from, as a device learns from corrections (`transom.few_shot`), and the rest of the group is
judged; that is repeated, and averaged over draws, then over groups. On the same pictures stand the
network alone; a frozen probe, learnt from the same examples without the network's own answers; and
what the head reaches with four fifths of the group, as far as this embedding goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from train.corpus import MISSING
from train.evaluate import Evaluation, TaskEvaluation
from train.metrics import Floats, Indices, group_indices, mean_interval
from train.progress import Progress
from transom.few_shot import Examples, learn
from transom.guard import UNLABELLED, Guard
from transom.prediction import softmax

DRAWS = 10
"""How often examples are drawn of each group."""

MOST = 0.8
"""Share of a group that is learnt from for the last row of a curve."""

_LEAST_OF_A_CLASS = 5  # for that row: one of five is judged


class Reached(msgspec.Struct, frozen=True):
    """Balanced accuracy within a group, mean over draws and groups.

    Attributes:
        value: 0 to 1.
        interval: 95 %, over groups; None with fewer than two.
    """

    value: float
    interval: tuple[float, float] | None


class Shots(msgspec.Struct, frozen=True):
    """One row of a few-shot curve.

    Attributes:
        shots: Examples of each class; None = four fifths of the group.
        groups: Groups that have more than that of two classes at least.
        judged: Pictures that are judged in one draw of each group.
        alone: The network alone.
        head: With the head that a device learns; the network alone where there is none.
        probe: A linear probe on the frozen embedding.
        gain: The head less the network alone, paired.
        refused: Share of draws of which there is no head.
    """

    shots: int | None
    groups: int
    judged: int
    alone: Reached
    head: Reached
    probe: Reached
    gain: Reached
    refused: float


@dataclass(frozen=True)
class _Group:
    """The labelled pictures of one group: their answers, and what is true, of all C classes."""

    embedding: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    targets: Indices

    def examples(self, rows: Indices, probabilities: npt.NDArray[np.float32]) -> Examples:
        truth = np.eye(probabilities.shape[1], dtype=bool)[self.targets[rows]]
        return Examples(self.embedding[rows], probabilities[rows], truth)


def few_shots(
    evaluation: Evaluation,
    guard: Guard | None,
    counts: Sequence[int],
    *,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> dict[str, list[Shots]]:
    """Return the few-shot curve of each task that the evaluation judges.

    Args:
        evaluation: Of labelled pictures.
        guard: Of the bundle; None = a run's, which has none.
        counts: Numbers of examples of each class, at least 1 each.
        draws: How often examples are drawn of each group.
        progress: Told how many rows of curves are done.
    """
    curves: dict[str, list[Shots]] = {}
    judged = {name: task for name, task in evaluation.tasks.items() if task.n}
    wanted = [*counts, None]
    for done, (name, task) in enumerate(judged.items()):
        groups = _groups(evaluation, task)
        kept = _guard_examples(guard, name, task, evaluation.embedding.shape[1])
        curves[name] = []
        for place, shots in enumerate(wanted):
            found = _row(groups, kept, shots, draws)
            curves[name] += [] if found is None else [found]
            if progress:
                progress(done * len(wanted) + place + 1, len(judged) * len(wanted))
    return curves


def shot_lines(curves: Mapping[str, Sequence[Shots]]) -> list[str]:
    """Return curves as text for a terminal."""
    lines = []
    for name, rows in curves.items():
        lines += ["", f"{name}, learnt from examples of a group, judged on the rest of it"]
        lines.append("  examples  groups      alone       head      probe  gain (95 %)")
        for row in rows:
            shots = f"{MOST:.0%}" if row.shots is None else str(row.shots)
            reached = "".join(
                f"{100 * found.value:9.1f} %" for found in (row.alone, row.head, row.probe)
            )
            low_high = row.gain.interval
            between = (
                "" if low_high is None else f" ({100 * low_high[0]:.1f} to {100 * low_high[1]:.1f})"
            )
            gain = f"{100 * row.gain.value:+.1f}{between}"
            lines.append(f"  {shots:>8} {row.groups:>7}{reached}  {gain}")
        if not rows:
            lines.append("  no group has two pictures each of two classes")
    return lines


def _row(groups: Sequence[_Group], guard: Examples, shots: int | None, draws: int) -> Shots | None:
    found, judged, refused = [], 0, []
    for number, group in enumerate(groups):
        classes = _classes(group, shots)
        if len(classes) < 2:
            continue
        random = np.random.default_rng([number, shots or 0])
        tries = []
        for _ in range(draws):
            taught, rest = _drawn(group, classes, shots, random)
            reached, is_refused = _try(group, guard, taught, rest)
            tries.append(reached)
            refused.append(is_refused)
        judged += len(rest)
        found.append(np.mean(tries, axis=0))
    if not found:
        return None
    alone, head, probe = (_reached(values) for values in np.transpose(found))
    gain = _reached(np.array([values[1] - values[0] for values in found]))
    return Shots(shots, len(found), judged, alone, head, probe, gain, float(np.mean(refused)))


def _classes(group: _Group, shots: int | None) -> list[int]:
    least = _LEAST_OF_A_CLASS if shots is None else shots + 1
    names, counts = np.unique(group.targets, return_counts=True)
    return [int(name) for name in names[counts >= least]]


def _drawn(
    group: _Group, classes: Sequence[int], shots: int | None, random: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return rows to learn from and rows to judge, of the same classes."""
    taught, rest = [], []
    for name in classes:
        rows = random.permutation(np.flatnonzero(group.targets == name))
        count = int(MOST * len(rows)) if shots is None else shots
        taught.append(rows[:count])
        rest.append(rows[count:])
    return np.concatenate(taught), np.concatenate(rest)


def _try(
    group: _Group, guard: Examples, taught: Indices, rest: Indices
) -> tuple[tuple[float, float, float], bool]:
    said = group.probabilities[rest]
    alone = _balanced(said, group.targets[rest])
    head = learn(group.examples(taught, group.probabilities), guard)
    even = np.full_like(group.probabilities, 1.0 / group.probabilities.shape[1])
    probe = learn(group.examples(taught, even), _nothing(guard))
    with_head = with_probe = alone
    if not isinstance(head, str):
        with_head = _balanced(head(said, group.embedding[rest]), group.targets[rest])
    if not isinstance(probe, str):
        with_probe = _balanced(probe(even[rest], group.embedding[rest]), group.targets[rest])
    return (alone, with_head, with_probe), isinstance(head, str)


def _balanced(probabilities: npt.NDArray[np.float32], targets: Indices) -> float:
    right = probabilities.argmax(axis=1) == targets
    return float(np.mean([right[targets == name].mean() for name in np.unique(targets)]))


def _reached(values: Floats) -> Reached:
    return Reached(float(values.mean()), mean_interval(values, np.arange(len(values))))


def _groups(evaluation: Evaluation, task: TaskEvaluation) -> list[_Group]:
    numbers = group_indices(evaluation.corpus.groups)
    groups = []
    for number in range(int(numbers.max()) + 1):
        rows = np.flatnonzero((numbers == number) & (task.targets != MISSING))
        groups.append(
            _Group(
                evaluation.embedding[rows],
                task.prediction.probabilities[rows],
                task.targets[rows],
            )
        )
    return groups


def _guard_examples(guard: Guard | None, name: str, task: TaskEvaluation, size: int) -> Examples:
    width = len(task.spec.classes)
    if guard is None:
        none = np.zeros((0, width), np.float32)
        return Examples(np.zeros((0, size), np.float32), none, none.astype(bool))
    rows = np.flatnonzero(guard.targets[name] != UNLABELLED)
    truth = np.eye(width, dtype=bool)[guard.targets[name][rows]]
    return Examples(guard.embedding[rows], softmax(guard.logits[name][rows]), truth)


def _nothing(guard: Examples) -> Examples:
    return Examples(guard.embedding[:0], guard.probabilities[:0], guard.truth[:0])
