"""Networks side by side: every combination of some recipe keys, over seeds, and what each is worth.

A comparison is a folder of runs, one for each combination and seed, and one for each task alone:
the single-task networks that a multi-task network must stand up to. A run that is finished is
kept, so a comparison goes on where it was interrupted and can be widened later.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from train.corpus import Corpus
from train.cost import NetworkCost, network_cost
from train.fit import fit, learnable
from train.history import EpochRecord
from train.network import build_network
from train.noise import Draws, Interval, Scores, draw_scores
from train.progress import Progress
from train.recipe import Recipe
from train.run import METRICS, RECIPE, Run, read_run
from train.weighting import WEIGHTINGS
from transom.errors import ConfigurationError, DatasetError, RunError
from transom.tasks import TaskSet

LoadCorpus = Callable[[Recipe], Corpus]
"""Returns the corpus of a recipe: its size, margin and steps decide the crops."""

_JUDGES = ("val", "test")


@dataclass(frozen=True)
class Variant:
    """One combination of the varied keys.

    Attributes:
        settings: The varied keys and their values; empty where nothing is varied.
        recipe: The whole recipe, with the first seed.
        is_single: A network for each task, in place of one for all.
    """

    settings: Mapping[str, object]
    recipe: Recipe
    is_single: bool = False

    @property
    def name(self) -> str:
        """The varied values as a person says them."""
        said = ", ".join(_said(key, value) for key, value in self.settings.items())
        if self.is_single:
            return f"a network per task ({said})" if said else "a network per task"
        return said or "as the recipe says"


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
        bases: For each row the place of the single-task networks it stands against, or None.
        draws: Of the rows' accuracies.
        groups: Groups judged on.
        n: Rows judged on, by task.
    """

    tasks: tuple[str, ...]
    split: str
    rows: tuple[Row, ...]
    bases: tuple[int | None, ...]
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

    def delta(self, place: int) -> tuple[float, Interval | None] | None:
        """Return the mean relative gain over single-task networks, percent, and its interval.

        References:
            Maninis, Radosavovic and Kokkinos, Attentive Single-Tasking of Multiple Tasks, CVPR
            2019, equation 4.
        """
        base = self.bases[place]
        if base is None:
            return None
        mine, theirs = self.draws.means[place], self.draws.means[base]
        if not theirs.all():
            return None
        drawn = self.draws.by_task
        gains = _gain(drawn[:, place], np.maximum(drawn[:, base], 1e-9))
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


def plan_variants(
    recipe: Recipe, varied: Mapping[str, Sequence[object]], *, has_singles: bool = True
) -> tuple[Variant, ...]:
    """Return every combination of the varied keys, and the single-task networks for them.

    Args:
        recipe: What is not varied.
        varied: Values by recipe key, dotted where it is in a table.
        has_singles: Whether to compare with single-task networks.

    Raises:
        ConfigurationError: There is no such key, or a value is not one it can have.
    """
    if "seed" in varied:
        raise ConfigurationError("seed cannot be varied as a key; --seeds says how many there are")
    combinations = [
        dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
    ]
    variants = [Variant(settings, recipe.with_values(settings)) for settings in combinations]
    if not has_singles:
        return tuple(variants)
    singles: dict[str, Variant] = {}
    for variant in variants:
        alone = _alone(variant.recipe)
        settings = {k: v for k, v in variant.settings.items() if k not in _BETWEEN_TASKS}
        singles.setdefault(alone.digest, Variant(settings, alone, is_single=True))
    return (*variants, *singles.values())


_BETWEEN_TASKS = ("weighting", "task_weights", "fusion")
"""Recipe keys that mean nothing where a network has one task."""


def compare(
    variants: Sequence[Variant],
    load: LoadCorpus,
    folder: Path,
    *,
    seeds: int,
    split: str = "val",
    datasets: Sequence[Path] = (),
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> Comparison:
    """Train what is not trained yet, and put it side by side.

    Args:
        variants: What to compare.
        load: Gives the data of a recipe.
        folder: Gets a run for each combination, seed and task alone, in `runs/`.
        seeds: How many trainings of each.
        split: On which rows to compare: `val`, and `test` is left for the one that is chosen.
        datasets: Folders that the data came from, to be noted in the runs.
        progress: Told how many thousandths of the trainings are done.
        report: Told a line after each training.

    Raises:
        ConfigurationError: A combination cannot be built; nothing has been trained then.
        DatasetError: There are no rows to learn from or to judge on.
        RunError: A run in the folder is damaged.
    """
    trainer = _Trainer(folder, datasets, progress, report)
    tasks = [learnable(load(variant.recipe))[0] for variant in variants]
    costs = [
        _checked_cost(variant, mine, load(variant.recipe), split)
        for variant, mine in zip(variants, tasks, strict=True)
    ]
    cells = [
        (place, seed, task)
        for seed in range(seeds)
        for place, variant in enumerate(variants)
        for task in (tasks[place].names if variant.is_single else (None,))
    ]
    runs: dict[tuple[int, int], list[Run]] = {}
    for number, (place, seed, task) in enumerate(cells):
        variant = variants[place]
        recipe = msgspec.structs.replace(variant.recipe, seed=variant.recipe.seed + seed)
        corpus = load(recipe) if task is None else only_task(load(recipe), task)
        run = trainer.run(recipe, corpus, (number, len(cells)))
        trainer.tell(number, len(cells), variant, seed, run, split)
        runs.setdefault((place, seed), []).append(run)
    rows = []
    for place, variant in enumerate(variants):
        mine = tuple(tuple(runs[place, seed]) for seed in range(seeds))
        rows.append(_row(variant, mine, costs[place], split))
    return _comparison(rows, split)


def only_task(corpus: Corpus, task: str) -> Corpus:
    """Return a corpus that knows one task.

    Raises:
        KeyError: The corpus has no such task.
    """
    column = corpus.tasks.names.index(task)
    return replace(
        corpus,
        tasks=TaskSet([corpus.tasks[task]]),
        targets=corpus.targets[:, [column]],
        digest=hashlib.sha256(f"{corpus.digest}/{task}".encode()).hexdigest(),
    )


def held_out(comparison: Comparison, place: int, split: str) -> dict[str, dict[str, Any]] | None:
    """Return what another split says of a row, by task: accuracy and its interval.

    None where some run has not been judged on it.
    """
    rows = comparison.rows
    runs = [run for row in rows for seed in row.runs for run in seed]
    if any(split not in run.results.evaluations for run in runs):
        return None
    if any(_judged_tasks(row.runs[0][0], split) == [] for row in rows):
        return None
    draws = draw_scores([_scores(row.runs, split) for row in rows])
    names = [task for run in rows[place].runs[0] for task in _judged_tasks(run, split)]
    return {
        task: {
            "accuracy": float(draws.means[place, column]),
            "interval": draws.interval_of_share(draws.by_task[:, place, column]),
        }
        for column, task in enumerate(names)
    }


class _Trainer:
    """Trains into a folder, or finds what is there."""

    def __init__(
        self,
        folder: Path,
        datasets: Sequence[Path],
        progress: Progress | None,
        report: Callable[[str], None] | None,
    ) -> None:
        self._folder, self._datasets = folder / "runs", tuple(datasets)
        self._progress = progress or (lambda done, total: None)
        self._report = report or (lambda line: None)

    def run(self, recipe: Recipe, corpus: Corpus, place: tuple[int, int]) -> Run:
        key = hashlib.sha256(f"{recipe.digest}/{corpus.digest}".encode()).hexdigest()
        folder = self._folder / key[:16]
        if (folder / METRICS).is_file():
            run = read_run(folder)
            if run.recipe != recipe or run.facts.corpus != corpus.digest:
                raise RunError(f"{folder}: holds another training; remove it and compare again")
            return run
        steps = _Share(self._progress, *place)
        resume = (folder / RECIPE).is_file()
        folder.parent.mkdir(parents=True, exist_ok=True)
        return fit(recipe, corpus, folder, resume=resume, progress=steps, datasets=self._datasets)

    def tell(
        self, number: int, total: int, variant: Variant, seed: int, run: Run, split: str
    ) -> None:
        tasks = run.results.evaluations[split]["tasks"]
        right = ", ".join(f"{name} {found['accuracy']:.1%}" for name, found in tasks.items())
        self._progress(1000 * (number + 1), 1000 * total)
        self._report(f"{number + 1}/{total}  {variant.name}, seed {seed}: {right}")


class _Share:
    """Passes the progress of one training on as a part of all of them."""

    def __init__(self, progress: Progress, number: int, total: int) -> None:
        self._progress, self._number, self._total = progress, number, total

    def step(self, done: int, total: int) -> None:
        """Move on within the training's part."""
        self._progress(1000 * self._number + 1000 * done // total, 1000 * self._total)

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Say nothing: an epoch is a detail here."""


def _alone(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, weighting="equal", task_weights={}, fusion="hard")


def _checked_cost(variant: Variant, tasks: TaskSet, corpus: Corpus, split: str) -> NetworkCost:
    """Build what a variant describes before hours are spent on others."""
    if split not in _JUDGES or not (corpus.splits == split).any():
        raise DatasetError(
            f"the data have no row of split `{split}` to compare on; transom data split makes one"
        )
    recipe = variant.recipe
    WEIGHTINGS[recipe.weighting](tasks, recipe.task_weights)
    networks = [TaskSet([task]) for task in tasks] if variant.is_single else [tasks]
    costs = [network_cost(build_network(recipe, mine), recipe.size) for mine in networks]
    return NetworkCost(
        macs=sum(cost.macs for cost in costs), parameters=sum(cost.parameters for cost in costs)
    )


def _row(variant: Variant, runs: tuple[tuple[Run, ...], ...], cost: NetworkCost, split: str) -> Row:
    seconds = float(np.mean([sum(run.results.seconds for run in seed) for seed in runs]))
    return Row(variant, runs, _scores(runs, split), cost, seconds)


def _scores(runs: Sequence[Sequence[Run]], split: str) -> Scores:
    """Accuracies of one network for all tasks, or of one for each side by side."""
    parts = [
        Scores.of(
            [seed[number].results.evaluations[split]["groups"] for seed in runs],
            _judged_tasks(runs[0][number], split),
        )
        for number in range(len(runs[0]))
    ]
    return Scores.side_by_side(parts)


def _judged_tasks(run: Run, split: str) -> list[str]:
    tasks = run.results.evaluations[split]["tasks"]
    return [name for name, found in tasks.items() if found["n"]]


def _comparison(rows: Sequence[Row], split: str) -> Comparison:
    first = rows[0].runs[0][0].results.evaluations[split]
    tasks = tuple(_judged_tasks(rows[0].runs[0][0], split))
    alone = {r.variant.recipe.digest: i for i, r in enumerate(rows) if r.variant.is_single}
    bases = [
        None if row.variant.is_single else alone.get(_alone(row.variant.recipe).digest)
        for row in rows
    ]
    return Comparison(
        tasks=tasks,
        split=split,
        rows=tuple(rows),
        bases=tuple(bases),
        draws=draw_scores([row.scores for row in rows]),
        groups=len(first["groups"]),
        n={name: int(first["tasks"][name]["n"]) for name in tasks},
    )


def _gain(mine: Any, theirs: Any) -> Any:
    return 100 * ((mine - theirs) / theirs).mean(-1)


def _said(key: str, value: object) -> str:
    # Names of parts speak for themselves: `tiny`, `dwa`; numbers do not.
    return value if isinstance(value, str) else f"{key} {value}"
