"""Training what a comparison compares: every variant, over seeds.

A comparison is a folder of runs, one for each combination and seed, and one for each task alone.
A run that is finished is kept, so a comparison goes on where it was interrupted and can be widened
later.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from train.comparison import Comparison, judged_tasks, row_of, side_by_side
from train.corpus import Corpus, judged_rows, learnable
from train.cost import NetworkCost, network_cost
from train.fit import fit
from train.history import EpochRecord
from train.network import build_network
from train.progress import Progress
from train.recipe import Recipe
from train.run import METRICS, RECIPE, Run, read_run
from train.start import begin_from
from train.variants import Variant
from train.weighting import WEIGHTINGS
from transom.errors import ConfigurationError, DatasetError, RunError
from transom.tasks import TaskSet

LoadCorpus = Callable[[Recipe], Corpus]
"""Returns the corpus of a recipe: its size, margin and steps decide the crops."""

RUNS = "runs"

_JUDGES = ("val", "test")


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
        ConfigurationError: A combination cannot be built; nothing has been trained then. Or one
            cannot be trained, as with a learning rate that is far too high.
        DatasetError: There are no rows to learn from or to judge on.
        RunError: A run in the folder is damaged.
    """
    trainer = _Trainer(folder, datasets, progress, report)
    tasks = [learnable(load(variant.recipe))[0] for variant in variants]
    costs = [
        _checked_cost(variant, mine, load(variant.recipe), split)
        for variant, mine in zip(variants, tasks, strict=True)
    ]
    total = seeds * sum(
        len(mine) if variant.is_single else 1 for variant, mine in zip(variants, tasks, strict=True)
    )
    number = 0
    runs: dict[tuple[int, int], list[Run]] = {}
    for seed, (place, variant) in itertools.product(range(seeds), enumerate(variants)):
        for recipe, corpus in _trainings(variant, load, seed):
            try:
                run = trainer.run(recipe, corpus, (number, total))
            except ConfigurationError as error:
                raise ConfigurationError(f"{variant.name}, seed {seed}: {error}") from error
            trainer.tell(number, total, variant, seed, run, split)
            runs.setdefault((place, seed), []).append(run)
            number += 1
    rows = []
    for place, variant in enumerate(variants):
        mine = tuple(tuple(runs[place, seed]) for seed in range(seeds))
        rows.append(row_of(variant, mine, costs[place], split))
    return side_by_side(rows, split)


def find_runs(
    variant: Variant, load: LoadCorpus, folder: Path, *, seeds: int
) -> tuple[tuple[Run, ...], ...] | None:
    """Return the finished runs of a variant, by seed; None where one is missing.

    Args:
        variant: What was trained.
        load: Gives the data of a recipe.
        folder: The comparison's.
        seeds: How many there shall be.

    Raises:
        RunError: A run in the folder is damaged.
    """
    found = []
    for seed in range(seeds):
        folders = [
            _folder_of(folder / RUNS, recipe, corpus)
            for recipe, corpus in _trainings(variant, load, seed)
        ]
        if not all((run / METRICS).is_file() for run in folders):
            return None
        found.append(tuple(read_run(run) for run in folders))
    return tuple(found)


def cost_of(variant: Variant, tasks: TaskSet) -> NetworkCost:
    """Build what a variant describes and count what it costs, all its networks together.

    Raises:
        ConfigurationError: It cannot be built.
    """
    recipe = variant.recipe
    WEIGHTINGS[recipe.weighting](tasks, recipe.task_weights)
    networks = [TaskSet([task]) for task in tasks] if variant.is_single else [tasks]
    costs = []
    for mine in networks:
        network = build_network(recipe, mine)
        if recipe.start:
            begin_from(network, recipe.start)
        costs.append(network_cost(network, recipe.size))
    return NetworkCost(
        macs=sum(cost.macs for cost in costs), parameters=sum(cost.parameters for cost in costs)
    )


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


class _Trainer:
    """Trains into a folder, or finds what is there."""

    def __init__(
        self,
        folder: Path,
        datasets: Sequence[Path],
        progress: Progress | None,
        report: Callable[[str], None] | None,
    ) -> None:
        self._folder, self._datasets = folder / RUNS, tuple(datasets)
        self._progress = progress or (lambda done, total: None)
        self._report = report or (lambda line: None)

    def run(self, recipe: Recipe, corpus: Corpus, place: tuple[int, int]) -> Run:
        folder = _folder_of(self._folder, recipe, corpus)
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
        right = [f"{name} {tasks[name]['accuracy']:.1%}" for name in judged_tasks(run, split)]
        self._progress(1000 * (number + 1), 1000 * total)
        self._report(
            f"{number + 1}/{total}  {variant.name}, seed {seed}: "
            f"{', '.join(right) or 'no labelled row to judge by'}"
        )


class _Share:
    """Passes the progress of one training on as a part of all of them."""

    def __init__(self, progress: Progress, number: int, total: int) -> None:
        self._progress, self._number, self._total = progress, number, total

    def step(self, done: int, total: int) -> None:
        """Move on within the training's part."""
        self._progress(1000 * self._number + 1000 * done // total, 1000 * self._total)

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Say nothing: an epoch is a detail here."""


def _checked_cost(variant: Variant, tasks: TaskSet, corpus: Corpus, split: str) -> NetworkCost:
    """Build what a variant describes before hours are spent on others."""
    if split not in _JUDGES or not judged_rows(corpus, split):
        raise DatasetError(
            f"the data have no labelled row of split `{split}` to compare on; transom data split "
            "makes one, and transom label labels it"
        )
    return cost_of(variant, tasks)


def _trainings(variant: Variant, load: LoadCorpus, seed: int) -> Iterator[tuple[Recipe, Corpus]]:
    """Yield what is trained for a seed of a variant: one network, or one for each task."""
    recipe = msgspec.structs.replace(variant.recipe, seed=variant.recipe.seed + seed)
    corpus = load(recipe)
    if not variant.is_single:
        yield recipe, corpus
        return
    for task in learnable(corpus)[0].names:
        yield recipe, only_task(corpus, task)


def _folder_of(runs: Path, recipe: Recipe, corpus: Corpus) -> Path:
    key = hashlib.sha256(f"{recipe.digest}/{corpus.digest}".encode()).hexdigest()
    return runs / key[:16]
