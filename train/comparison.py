"""What networks side by side are worth: accuracies as they might have been, gains, the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.cost import NetworkCost
from train.noise import Draws, Interval, Scores, draw_scores
from train.run import Run
from train.variants import Variant, affordable, alone

_LEAST_SHARE = 0.01
"""Of right answers that single-task networks are taken to give, where a draw has next to none."""


@dataclass(frozen=True)
class Row:
    """A combination with what its runs say.

    Attributes:
        variant: What was trained.
        runs: By seed, the runs: one, or one for each task.
        scores: What they got right.
        cost: Of the network, or of all of them together.
        seconds: Mean wall time of a training, of all tasks together.
    """

    variant: Variant
    runs: tuple[tuple[Run, ...], ...]
    scores: Scores
    cost: NetworkCost
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What was compared, on which rows.

    Attributes:
        tasks: Names, in order.
        split: `val` or `test`.
        rows: The combinations, multi-task ones first.
        bases: For each row the place of the single-task networks it stands against, each as large
            as itself, or None.
        budget_bases: The same, of those that together cost what it costs.
        draws: Of the rows' accuracies.
        groups: Groups judged on.
        n: Rows judged on, by task.
    """

    tasks: tuple[str, ...]
    split: str
    rows: tuple[Row, ...]
    bases: tuple[int | None, ...]
    budget_bases: tuple[int | None, ...]
    draws: Draws
    groups: int
    n: dict[str, int]

    @property
    def best(self) -> int:
        """The place of the multi-task row with the highest mean accuracy, as it was measured."""
        return max(self.contenders, key=lambda place: float(self.draws.means_of_tasks[place]))

    @property
    def contenders(self) -> list[int]:
        """The places of the multi-task rows."""
        return [place for place, row in enumerate(self.rows) if not row.variant.is_single]

    def delta(self, place: int, *, is_budget: bool = False) -> tuple[float, Interval | None] | None:
        """Return the mean relative gain over single-task networks, percent, and its interval.

        Args:
            place: The row's.
            is_budget: Over those that together cost what the row costs, not over those that are
                each as large.

        References:
            Maninis, Radosavovic and Kokkinos, Attentive Single-Tasking of Multiple Tasks, CVPR
            2019, equation 4.
        """
        base = (self.budget_bases if is_budget else self.bases)[place]
        if base is None:
            return None
        mine, theirs = self.draws.means[place], self.draws.means[base]
        if not theirs.all():
            return None
        drawn = self.draws.by_task
        gains = _gain(drawn[:, place], np.maximum(drawn[:, base], _LEAST_SHARE))
        return float(_gain(mine, theirs)), self.draws.interval(gains)

    def lead(self, place: int, other: int) -> tuple[float, Interval | None]:
        """Return by how much one row's mean accuracy is above another's, and its interval.

        The interval is widened for the number of rows: with twenty, one pair in twenty would
        differ by chance.
        """
        level = 1 - 0.05 / max(len(self.contenders) - 1, 1)
        drawn = self.draws.of_tasks
        found = self.draws.means_of_tasks[place] - self.draws.means_of_tasks[other]
        return float(found), self.draws.interval(drawn[:, place] - drawn[:, other], level)

    def is_as_good(self, place: int) -> bool:
        """Whether a row cannot be told from the best one, or is it."""
        if place == self.best:
            return True
        _, interval = self.lead(self.best, place)
        return interval is None or interval[0] <= 0


def row_of(
    variant: Variant, runs: tuple[tuple[Run, ...], ...], cost: NetworkCost, split: str
) -> Row:
    """Return a combination with what its runs say.

    Args:
        variant: What was trained.
        runs: By seed, the runs: one, or one for each task.
        cost: Of the network, or of all of them together.
        split: What the accuracies are of.
    """
    seconds = float(np.mean([sum(run.results.seconds for run in seed) for seed in runs]))
    return Row(variant, runs, _scores(runs, split), cost, seconds)


def side_by_side(rows: Sequence[Row], split: str) -> Comparison:
    """Put rows side by side that were judged on the same rows of a split.

    Args:
        rows: The combinations.
        split: `val` or `test`.

    Raises:
        ValueError: They were judged on other groups or rows.
    """
    first = rows[0].runs[0][0].results.evaluations[split]
    tasks = tuple(judged_tasks(rows[0].runs[0][0], split))
    singles = {r.variant.recipe.digest: i for i, r in enumerate(rows) if r.variant.is_single}
    bases: list[int | None] = []
    budget_bases: list[int | None] = []
    for row in rows:
        own = alone(row.variant.recipe)
        small = affordable(own, len(tasks)) if len(tasks) > 1 else None
        is_shared = not row.variant.is_single
        bases.append(singles.get(own.digest) if is_shared else None)
        budget_bases.append(singles.get(small.digest) if is_shared and small else None)
    return Comparison(
        tasks=tasks,
        split=split,
        rows=tuple(rows),
        bases=tuple(bases),
        budget_bases=tuple(budget_bases),
        draws=draw_scores([row.scores for row in rows]),
        groups=len(first["groups"]),
        n={name: int(first["tasks"][name]["n"]) for name in tasks},
    )


def held_out(comparison: Comparison, place: int, split: str) -> dict[str, dict[str, Any]] | None:
    """Return what another split says of a row, by task: accuracy and its interval.

    None where some run has not been judged on it.
    """
    rows = comparison.rows
    runs = [run for row in rows for seed in row.runs for run in seed]
    if any(split not in run.results.evaluations for run in runs):
        return None
    if not all(any(judged_tasks(run, split) for run in row.runs[0]) for row in rows):
        return None
    draws = draw_scores([_scores(row.runs, split) for row in rows])
    names = [task for run in rows[place].runs[0] for task in judged_tasks(run, split)]
    return {
        task: {
            "accuracy": float(draws.means[place, column]),
            "interval": draws.interval_of_share(draws.by_task[:, place, column]),
        }
        for column, task in enumerate(names)
    }


def _scores(runs: Sequence[Sequence[Run]], split: str) -> Scores:
    """Accuracies of one network for all tasks, or of one for each side by side."""
    judged = [judged_tasks(run, split) for run in runs[0]]
    parts = [
        Scores.of([seed[number].results.evaluations[split]["groups"] for seed in runs], tasks)
        for number, tasks in enumerate(judged)
        if tasks  # a network alone for a task that nobody has labelled there
    ]
    return Scores.side_by_side(parts)


def judged_tasks(run: Run, split: str) -> list[str]:
    """Return the tasks for which a split has labelled rows, in the run's order."""
    tasks = run.results.evaluations[split]["tasks"]
    return [name for name, found in tasks.items() if found["n"]]


def _gain(mine: Any, theirs: Any) -> Any:
    return 100 * ((mine - theirs) / theirs).mean(-1)
