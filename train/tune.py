"""A search for a better recipe with Optuna; several workers may share one study.

The objective is the mean accuracy over tasks on the `val` groups after the last epoch. Rows of
`test` are taken out before anything is trained. What a trial trains lies in a folder named by its
recipe, so that a trial that was interrupted goes on from its last epoch.
"""

import hashlib
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from train.corpus import Corpus, judged_rows
from train.fit import fit
from train.history import EpochRecord
from train.progress import Progress
from train.recipe import Recipe
from train.run import EVENTS, METRICS, RECIPE, WEIGHTS
from train.search_space import Space, check_space, require_known, start_values
from train.study import (
    FOLDER,
    REASON,
    START,
    TRIALS,
    Search,
    as_trial,
    read_metrics,
    read_search,
)
from transom.errors import ConfigurationError, DatasetError

LoadCorpus = Callable[[Recipe], Corpus]

STUDY = "study.db"

_HEARTBEAT_S = 30
_SQLITE_WAIT_S = 60
_FIRST_TRIALS = 5  # are not pruned: there is nothing yet to be worse than
_ABOUT = "about"
_MADE_AT_FIRST = ("tables", "version of the study", "version of the tables")
"""What Optuna makes in an empty database, one after the other."""


def open_storage(where: str, folder: Path) -> BaseStorage:
    """Open where a study is kept.

    Args:
        where: Empty = SQLite in the folder; a database's URL, such as
            `postgresql+pg8000://user:password@host/transom`; or a journal file, which several
            machines can share over a network file system.
        folder: The search's.

    Raises:
        ConfigurationError: The database cannot be reached, or its driver is not installed.
    """
    if where and "://" not in where:
        return JournalStorage(JournalFileBackend(where))
    import sqlalchemy.exc

    own = (folder / STUDY).resolve()
    # Not put together by hand: in a folder's name may be what means something in a URL.
    url = where or sqlalchemy.URL.create("sqlite", database=str(own)).render_as_string()
    settings = {"connect_args": {"timeout": _SQLITE_WAIT_S}} if url.startswith("sqlite") else {}

    def connect() -> RDBStorage:
        return RDBStorage(
            url,
            engine_kwargs=settings,
            heartbeat_interval=_HEARTBEAT_S,
            heartbeat_stale_trial_callback=_try_again,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            # Another worker may make the same thing at this very moment; then it is there.
            for _ in _MADE_AT_FIRST:
                with suppress(sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError,
                              sqlalchemy.exc.OperationalError):  # fmt: skip
                    return connect()
            return connect()
        except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
            if not where:
                raise ConfigurationError(
                    f"{own}: the study cannot be used: {getattr(error, 'orig', None) or error}"
                ) from error
            # Neither the URL nor the driver's message: both may hold the password.
            raise ConfigurationError(
                f"--storage: the database cannot be used ({type(error).__name__}); check host, "
                "user, that the database exists, and that its driver is installed: for PostgreSQL "
                "the extra 'tune' brings one, postgresql+pg8000://user:password@host/database"
            ) from error


def search(
    recipe: Recipe,
    space: Space,
    load: LoadCorpus,
    folder: Path,
    storage: BaseStorage,
    *,
    name: str,
    trials: int,
    seed: int | None = None,
    datasets: Sequence[Path] = (),
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> Search:
    """Try recipes until a study holds so many trials, and say what was found.

    The first trial is the recipe itself. A trial is given up after an epoch in which it is worse
    than the median of the others at that epoch.

    Args:
        recipe: What is not searched.
        space: What is.
        load: Gives the data of a recipe.
        folder: Gets a folder for each trial; workers on one machine may share it.
        storage: Where the study is kept; workers that share it share the study.
        name: Of the study.
        trials: How many the study shall hold, those of all workers together.
        seed: Of the proposals; None = another one for every worker, so that they differ.
        datasets: Folders that the data came from, to be noted.
        progress: Told how many trials there are.
        report: Told a line after each trial.

    Raises:
        ConfigurationError: The space names what no recipe has, or the study is of another search.
        DatasetError: There is no labelled row of `val`.
    """
    require_known(space)
    check_space(space, recipe)
    corpus = _without_test(load(recipe))
    # What it warns of, each with a traceback, is what `report` says in words, and Ctrl-C.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=_FIRST_TRIALS, n_warmup_steps=recipe.frozen_epochs
        ),
    )
    _claim(study, recipe, space, corpus)
    study.enqueue_trial(start_values(space, recipe), {START: True}, skip_if_exists=True)
    objective = _Objective(study, recipe, space, load, folder, datasets)
    progress, report = progress or (lambda done, total: None), report or (lambda line: None)
    while (done := _finished(study)) < trials:
        progress(done, trials)
        study.optimize(objective, n_trials=1, catch=(ConfigurationError,))
        report(_line(_newest(study, objective.number)))
    return read_search(study, recipe, space, folder)


class _Objective:
    """Trains one trial's recipe; `number` is that of the last one."""

    def __init__(
        self,
        study: optuna.Study,
        recipe: Recipe,
        space: Space,
        load: LoadCorpus,
        folder: Path,
        datasets: Sequence[Path],
    ) -> None:
        self.number = -1
        self._study, self._recipe, self._space = study, recipe, space
        self._load, self._folder, self._datasets = load, folder / TRIALS, tuple(datasets)

    def __call__(self, trial: optuna.Trial) -> float:
        self.number = trial.number
        values = {key: searched.suggest(trial, key) for key, searched in self._space.items()}
        try:
            return self._train(trial, self._recipe.with_values(values))
        except ConfigurationError as error:
            trial.set_user_attr(REASON, str(error))
            raise
        except KeyboardInterrupt:
            _try_again(self._study, trial)
            raise

    def _train(self, trial: optuna.Trial, recipe: Recipe) -> float:
        corpus = _without_test(self._load(recipe))
        key = hashlib.sha256(f"{recipe.digest}/{corpus.digest}".encode()).hexdigest()[:16]
        trial.set_user_attr(FOLDER, key)
        folder = self._folder / key
        watch = _Pruning(trial)
        if not (folder / METRICS).is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            resume = (folder / RECIPE).is_file()
            try:
                fit(
                    recipe,
                    corpus,
                    folder,
                    resume=resume,
                    progress=watch,
                    datasets=self._datasets,
                )
            except (optuna.TrialPruned, ConfigurationError):
                shutil.rmtree(folder, ignore_errors=True)
                raise
            # A hundred trials' weights would fill the disk; the winner is trained again anyway.
            (folder / WEIGHTS).unlink(missing_ok=True)
            shutil.rmtree(folder / EVENTS, ignore_errors=True)
        history = read_metrics(folder).history
        for record in history:
            watch.note(record)
        return _mean(history[-1])


class _Pruning:
    """Reports each epoch to a trial, and gives up where it is hopeless."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._noted: set[int] = set()

    def note(self, record: EpochRecord) -> None:
        """Report an epoch once; those before an interruption are reported at the end."""
        if record.epoch not in self._noted:
            self._noted.add(record.epoch)
            self._trial.report(_mean(record), record.epoch)

    def step(self, done: int, total: int) -> None:
        """Ignore a step."""

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Report an epoch; the last is not given up, since it is paid for."""
        self.note(record)
        if record.epoch < epochs and self._trial.should_prune():
            raise optuna.TrialPruned


def _mean(record: EpochRecord) -> float:
    return float(np.mean(list(record.val_accuracy.values())))


def _without_test(corpus: Corpus) -> Corpus:
    if not judged_rows(corpus, "val"):
        raise DatasetError(
            "the data have no labelled row of split `val` to choose by; transom data split makes "
            "one, and transom label labels it"
        )
    return corpus.select(np.flatnonzero(corpus.splits != "test"))


def _claim(study: optuna.Study, recipe: Recipe, space: Space, corpus: Corpus) -> None:
    """Refuse to mix trials of different searches: their accuracies cannot be compared."""
    about = {
        "recipe": recipe.digest,
        "data": corpus.digest,
        "space": {key: str(searched) for key, searched in space.items()},
    }
    known = study.user_attrs.get(_ABOUT)
    if known is None:
        study.set_user_attr(_ABOUT, about)
    elif known != about:
        other = ", ".join(key for key, value in about.items() if known.get(key) != value)
        raise ConfigurationError(
            f"study {study.study_name!r} was begun with another {other}; give this search a name "
            "of its own with --study"
        )


def _try_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Put a trial that was cut off at the head of the queue; its folder has its checkpoint."""
    is_start = {START: True} if trial.user_attrs.get(START) else {}
    study.enqueue_trial(trial.params, is_start)


def _finished(study: optuna.Study) -> int:
    """Trials that count; those that were cut off are tried again."""
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return sum(
        trial.state in done or (trial.state is TrialState.FAIL and REASON in trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    )


def _newest(study: optuna.Study, number: int) -> FrozenTrial:
    return next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)


def _line(trial: FrozenTrial) -> str:
    found = as_trial(trial)
    values = ", ".join(f"{key} {_short(value)}" for key, value in found.values.items())
    right = "" if found.accuracy is None else f" {found.accuracy:.1%}"
    why = f" ({found.reason})" if found.reason else ""
    epochs = f" after {found.epochs} epochs" if found.state == "pruned" else ""
    return f"trial {found.number}: {found.state}{epochs}{right}{why}  {values}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
