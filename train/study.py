"""A search for a recipe as it stands: the trials of an Optuna study, the best, what it gained."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.trial import FrozenTrial, TrialState

from train.noise import Interval, Scores, draw_scores
from train.recipe import Recipe
from train.run import METRICS, Metrics
from train.search_space import Space
from transom.errors import RunError

TRIALS = "trials"
"""Folder, in that of the search, of the trials' folders."""

START, FOLDER, REASON = "is_start", "folder", "reason"
"""Attributes of a trial in the study; see `Trial`."""

_TELLING = 10  # trials that an importance can be told from


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried.

    Attributes:
        number: In the study.
        state: `complete`, `pruned`, `failed` or `running`.
        values: Of the searched keys.
        accuracy: Mean over tasks on `val`, 0 to 1, after the last epoch it had; None before one.
        epochs: How many it had.
        is_start: Whether it is the recipe that the search began with.
        folder: Name of its folder in `trials/`; empty before it has one.
        reason: Why it failed, or empty.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    accuracy: float | None
    epochs: int
    is_start: bool
    folder: str
    reason: str


@dataclass(frozen=True)
class Search:
    """A study as it stands.

    Attributes:
        name: Of the study.
        space: What is searched.
        recipe: What the search began with.
        trials: In their order.
        importances: By key, its share of what decides the accuracy, 0 to 1; empty with too few
            trials.
        gain: Of the best over the recipe it began with, and its interval over groups; None where
            not both were trained here.
    """

    name: str
    space: Space
    recipe: Recipe
    trials: tuple[Trial, ...]
    importances: Mapping[str, float]
    gain: tuple[float, Interval | None] | None

    @property
    def complete(self) -> list[Trial]:
        """The trials that were trained to the end, the best first."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(done, key=lambda trial: -(trial.accuracy or 0.0))

    @property
    def start(self) -> Trial | None:
        """The recipe that the search began with, if it was trained to the end."""
        return next((trial for trial in self.complete if trial.is_start), None)

    @property
    def best_recipe(self) -> Recipe:
        """The recipe of the best trial.

        Raises:
            RunError: No trial was trained to the end.
        """
        if not self.complete:
            raise RunError("no trial was trained to the end; search on with more --trials")
        return self.recipe.with_values(self.complete[0].values)


def read_search(study: optuna.Study, recipe: Recipe, space: Space, folder: Path) -> Search:
    """Return a study as it stands."""
    trials = tuple(as_trial(trial) for trial in study.get_trials(deepcopy=False))
    found = Search(study.study_name, space, recipe, trials, _importances(study), None)
    gain = _gain(found, folder / TRIALS) if found.complete and found.start else None
    return Search(study.study_name, space, recipe, trials, found.importances, gain)


def as_trial(trial: FrozenTrial) -> Trial:
    """Return a trial of a study."""
    states = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    curve = trial.intermediate_values
    last = max(curve) if curve else None
    is_done = trial.state is TrialState.COMPLETE
    accuracy = trial.value if is_done else curve[last] if last is not None else None
    return Trial(
        number=trial.number,
        state=states.get(trial.state, "running"),
        values=dict(trial.params),
        accuracy=accuracy,
        epochs=last or 0,
        is_start=bool(trial.user_attrs.get(START)),
        folder=str(trial.user_attrs.get(FOLDER, "")),
        reason=str(trial.user_attrs.get(REASON, "")),
    )


def _importances(study: optuna.Study) -> dict[str, float]:
    """How much of the accuracy each key decides, by the trials so far.

    References:
        Watanabe, Bansal and Hutter, PED-ANOVA, IJCAI 2023.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _TELLING or len({trial.value for trial in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.3)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _gain(search: Search, folder: Path) -> tuple[float, Interval | None] | None:
    best, start = search.complete[0], search.start
    if start is None or not all((folder / t.folder / METRICS).is_file() for t in (best, start)):
        return None
    tables = [read_metrics(folder / t.folder).evaluations["val"] for t in (best, start)]
    tasks = [name for name, found in tables[0]["tasks"].items() if found["n"]]
    if sorted(tables[0]["groups"]) != sorted(tables[1]["groups"]):
        return None
    draws = draw_scores([Scores.of([table["groups"]], tasks) for table in tables])
    difference = draws.of_tasks[:, 0] - draws.of_tasks[:, 1]
    return float(draws.means_of_tasks[0] - draws.means_of_tasks[1]), draws.interval(difference)


def read_metrics(folder: Path) -> Metrics:
    """Return what a trial's training has found.

    Raises:
        RunError: It cannot be read.
    """
    path = folder / METRICS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Metrics)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove its folder") from error
