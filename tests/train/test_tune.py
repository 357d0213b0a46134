import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import optuna
import pytest
from click.testing import CliRunner

from train.corpus import MISSING, Corpus, load_corpus
from train.fit import fit
from train.history import EpochRecord
from train.recipe import Recipe, load_recipe
from train.run import METRICS, WEIGHTS
from train.search_space import (
    Choice,
    Range,
    check_space,
    default_space,
    parse_space,
    start_values,
)
from train.study import TRIALS, Search, Trial
from train.tune import STUDY, _Pruning, open_storage, search
from train.tune_commands import BEST, PAGE, tune_command
from train.tune_page import answers, headline
from transom.dataset import Row, write_dataset
from transom.errors import ConfigurationError, DatasetError
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [Task(name="side", classes=("left", "right")), Task(name="shade", classes=("dark", "bright"))]
)
SMALL = Recipe(
    backbone="tiny", size=16, margin=0.0, embedding=16, batch=8, epochs=1, learning_rate=1e-3
)
RATES = {"learning_rate": Range(1e-4, 1e-2, is_log=True)}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> Path:
    """A data set of pictures with a bright half."""
    folder, random = tmp_path_factory.mktemp("data") / "halves", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for split, count in (("train", 32), ("val", 16), ("test", 8)):
        for number in range(count):
            side, shade = random.integers(0, 2, 2)
            picture = random.integers(0, 40, (16, 16, 3)).astype(np.uint8)
            picture[:, 8 * side : 8 * side + 8] += np.uint8(60 + 100 * shade)
            name = f"images/{split}{number}.png"
            cv2.imwrite(str(folder / name), picture)
            labels = {"side": TASKS["side"].classes[side], "shade": TASKS["shade"].classes[shade]}
            rows.append(Row(image=name, split=split, labels=labels))
    write_dataset(folder, name="halves", tasks=TASKS, rows=rows)
    return folder


@pytest.fixture
def corpus(halves: Path) -> Corpus:
    return load_corpus([halves], size=16, margin=0.0)


class Loader:
    """Gives a corpus, and is interrupted at one call."""

    def __init__(self, corpus: Corpus, interrupted_at: int = -1) -> None:
        self.corpus, self.interrupted_at, self.calls = corpus, interrupted_at, 0

    def __call__(self, recipe: Recipe) -> Corpus:
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        return self.corpus


def look(corpus, folder, trials, *, load=None, storage="", space=RATES, recipe=SMALL) -> Search:
    folder.mkdir(exist_ok=True)
    return search(
        recipe,
        space,
        load or Loader(corpus),
        folder,
        open_storage(storage, folder),
        name="here",
        trials=trials,
        seed=1,
    )


def test_ranges_and_choices_are_read():
    space = parse_space(["learning_rate=1e-4..1e-2:log", "batch=8..64", "backbone=tiny,lenet"])
    assert space == {
        "learning_rate": Range(1e-4, 1e-2, is_log=True),
        "batch": Range(8, 64, is_whole=True),
        "backbone": Choice(("tiny", "lenet")),
    }


@pytest.mark.parametrize(
    "text",
    ["dropout", "dropout=", "dropout=0.5..0.1", "dropout=a..b", "dropout=0..1:log",
     "dropout=0.1..0.5:square", "backbone=tiny", "maps=[],[]", "dropout=0..inf"],
)  # fmt: skip
def test_what_is_neither_is_refused(text):
    with pytest.raises(ValueError, match="must"):
        parse_space([text])


def test_a_range_that_no_recipe_can_have_is_refused_at_once(corpus, tmp_path):
    with pytest.raises(ConfigurationError, match="dropout"):
        look(corpus, tmp_path / "out", 1, space={"dropout": Range(0.1, 1.5)})
    with pytest.raises(ConfigurationError, match="luckiest"):
        look(corpus, tmp_path / "out", 1, space={"seed": Range(0, 9, is_whole=True)})


def test_the_usual_space_is_one_that_recipes_can_have_and_begins_with_equal_weights():
    space, needed = default_space(TASKS)
    recipe = SMALL.with_values(needed)
    check_space(space, recipe)
    start = start_values(space, recipe)
    assert start["task_weights.shade"] == 1.0
    assert start["dropout"] == SMALL.dropout
    assert recipe.with_values(start).dropout == SMALL.dropout


def test_a_search_begins_with_the_recipe_and_never_sees_test(corpus, tmp_path):
    found = look(corpus, tmp_path / "out", 2)
    assert [trial.is_start for trial in found.trials] == [True, False]
    assert found.trials[0].values == {"learning_rate": SMALL.learning_rate}
    for trial in found.trials:
        metrics = json.loads((tmp_path / "out" / TRIALS / trial.folder / METRICS).read_bytes())
        assert list(metrics["evaluations"]) == ["val"]
        accuracies = [task["accuracy"] for task in metrics["evaluations"]["val"]["tasks"].values()]
        assert trial.accuracy == pytest.approx(np.mean(accuracies))
    assert not list((tmp_path / "out").rglob(WEIGHTS))


def test_a_search_goes_on_where_it_was_and_ends_at_its_number(corpus, tmp_path):
    first = look(corpus, tmp_path / "out", 2)
    again = look(corpus, tmp_path / "out", 2)
    assert [trial.accuracy for trial in again.trials] == [trial.accuracy for trial in first.trials]
    more = look(corpus, tmp_path / "out", 3)
    assert len(more.trials) == 3
    assert (tmp_path / "out" / STUDY).is_file()


def test_a_trial_that_is_interrupted_is_tried_again(corpus, tmp_path, request, caplog):
    optuna.logging.enable_propagation()
    request.addfinalizer(optuna.logging.disable_propagation)
    # Calls: one to begin with, one for the first trial, one for the second.
    with pytest.raises(KeyboardInterrupt):
        look(corpus, tmp_path / "out", 3, load=Loader(corpus, interrupted_at=3))
    assert "Traceback" not in caplog.text
    found = look(corpus, tmp_path / "out", 2)
    states = [trial.state for trial in found.trials]
    assert states == ["complete", "failed", "complete"]
    assert found.trials[2].values == found.trials[1].values


def test_workers_with_a_journal_share_a_study(corpus, tmp_path):
    journal = str(tmp_path / "journal.log")
    look(corpus, tmp_path / "one", 2, storage=journal)
    found = look(corpus, tmp_path / "two", 3, storage=journal)
    assert len(found.trials) == 3
    assert len(list((tmp_path / "two" / TRIALS).iterdir())) == 1
    assert found.gain is None or found.complete[0].folder


def test_another_search_in_the_same_study_is_refused(corpus, tmp_path):
    look(corpus, tmp_path / "out", 1)
    with pytest.raises(ConfigurationError, match="another space"):
        look(corpus, tmp_path / "out", 2, space={"dropout": Range(0.0, 0.5)})
    with pytest.raises(ConfigurationError, match="another recipe"):
        look(corpus, tmp_path / "out", 2, recipe=SMALL.with_values({"batch": 4}))


def test_a_recipe_that_cannot_be_built_is_a_failed_trial_and_not_the_end(corpus, tmp_path):
    space = {"backbone": Choice(("tiny", "lenet"))}  # lenet wants 32 pixels
    found = look(corpus, tmp_path / "out", 6, space=space)
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert failed
    assert all(trial.values["backbone"] == "lenet" and trial.reason for trial in failed)
    assert found.best_recipe.backbone == "tiny"


def test_a_training_that_is_lost_is_a_failed_trial_and_not_the_end(corpus, tmp_path):
    recipe = SMALL.with_values({"clip": 0.0, "warmup": 0.0})
    space = {"learning_rate": Choice((SMALL.learning_rate, 1e38))}
    found = look(corpus, tmp_path / "out", 6, space=space, recipe=recipe)
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert failed
    assert all("numbers that are none" in trial.reason for trial in failed)
    assert found.best_recipe.learning_rate == SMALL.learning_rate
    assert not any((tmp_path / "out" / TRIALS / trial.folder).exists() for trial in failed)


def test_data_whose_val_nobody_has_labelled_are_refused(corpus, tmp_path):
    targets = corpus.targets.copy()
    targets[corpus.splits == "val"] = MISSING
    with pytest.raises(DatasetError, match="no labelled row of split `val`"):
        look(replace(corpus, targets=targets), tmp_path / "out", 1)


@pytest.mark.parametrize("name", ["what? 1", "100%20", "#2 {x}", "für Türen"])
def test_a_study_lies_in_its_folder_whatever_that_is_called(tmp_path, name):
    (tmp_path / name).mkdir()
    open_storage("", tmp_path / name)
    assert (tmp_path / name / STUDY).is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_study_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / STUDY).mkdir()
    with pytest.raises(ConfigurationError, match=r"study\.db: .*unable to open") as caught:
        open_storage("", tmp_path)
    assert "--storage" not in str(caught.value)


def test_data_without_val_are_refused(corpus, tmp_path):
    with pytest.raises(DatasetError, match="split `val`"):
        look(corpus.split("train"), tmp_path / "out", 1)


def test_an_unreachable_database_is_named_without_its_password(tmp_path):
    with pytest.raises(ConfigurationError, match="--storage") as caught:
        open_storage("sqlite:////nowhere/secret-word/study.db", tmp_path)
    assert "secret-word" not in str(caught.value)


def test_a_hopeless_trial_is_given_up_but_not_after_its_last_epoch():
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=0.9)
    )
    record = EpochRecord(
        epoch=1,
        seconds=1.0,
        images_per_s=1.0,
        learning_rate=0.1,
        loss={},
        val_accuracy={"side": 0.5, "shade": 0.7},
    )
    with pytest.raises(optuna.TrialPruned):
        _Pruning(study.ask()).epoch(record, epochs=2)
    trial = study.ask()
    _Pruning(trial).epoch(record, epochs=1)
    assert study.get_trials()[1].intermediate_values == {1: pytest.approx(0.6)}


def test_the_command_writes_the_best_recipe_and_a_page(halves, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL.to_toml())
    arguments = [str(halves), "--out", str(tmp_path / "out"), "--trials", "2", "--seed", "0"]
    arguments += ["--recipe", str(tmp_path / "small.toml"), "--json"]
    arguments += ["--search", "learning_rate=1e-4..1e-2:log"]
    done = CliRunner().invoke(tune_command, arguments)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["complete"] == 2
    best = load_recipe(tmp_path / "out" / BEST)
    assert best.learning_rate == said["best"]["values"]["learning_rate"]
    assert best.batch == SMALL.batch
    page = (tmp_path / "out" / PAGE).read_text("utf-8")
    assert "<svg" in page
    assert "http" not in page


def test_a_gain_inside_the_noise_is_called_so(corpus, tmp_path):
    found = look(corpus, tmp_path / "out", 2)
    best = found.complete[0]
    words = headline(found)
    if best.is_start:
        assert words.startswith("Keep your recipe")
    else:
        value, interval = found.gain
        assert ("chance" in words) is (interval[0] <= 0)
        assert value >= 0


def invented(values: list[dict[str, object]], space: dict[str, Range | Choice]) -> Search:
    """A search whose trials were the better the earlier they stand."""
    trials = tuple(
        Trial(
            number=number,
            state="complete",
            values=found,
            accuracy=0.9 - number / 100,
            epochs=1,
            is_start=number == len(values) - 1,
            folder="",
            reason="",
        )
        for number, found in enumerate(values)
    )
    return Search("here", space, SMALL, trials, {}, (0.1, (-0.02, 0.2)))


def words(found: Search) -> dict[str, str]:
    return {answer.question: " ".join(answer.sentences) for answer in answers(found)}


def test_the_words_say_where_the_better_recipes_lie():
    rates = [2e-3, 3e-3, 4e-3, 1e-4, 2e-4, 9e-3, 1e-2, 5e-4, 1e-3]
    backbones = ["tiny", "tiny", "tiny", *["lenet"] * 6]
    values = [
        {"learning_rate": rate, "dropout": 0.05 + 0.2 * (n % 3), "backbone": name}
        for n, (rate, name) in enumerate(zip(rates, backbones, strict=True))
    ]
    space = {**RATES, "dropout": Range(0.0, 0.5), "backbone": Choice(("tiny", "lenet"))}
    said = words(invented(values, space))
    assert "backbone: tiny in the best recipe." in said["Which feature extractor?"]
    assert (
        "Of the better third, 3 of 3 have tiny, of all 3 of 9" in said["Which feature extractor?"]
    )
    parameters = said["Which hyper-parameters?"]
    assert (
        "learning_rate: 0.002 in the best recipe. The better third lie within 0.002 to 0.004"
        in (parameters)
    )
    assert "over 0.05 to 0.45: its value hardly matters" in parameters
    assert "+20.0" in said["What to do next?"]


def test_the_words_name_the_command_that_compares_backbones_where_none_was_searched():
    found = invented([{"learning_rate": 1e-3}, {"learning_rate": 2e-3}], RATES)
    assert (
        "transom compare --recipe best.toml --vary backbone="
        in (words(found)["Which feature extractor?"])
    )
    assert "Too few were trained to the end" in words(found)["Which hyper-parameters?"]


def test_the_command_takes_the_shape_of_what_it_starts_from(corpus, halves, tmp_path):
    run = fit(SMALL, corpus, tmp_path / "run")
    arguments = [str(halves), "--out", str(tmp_path / "out"), "--trials", "1", "--epochs", "1"]
    arguments += ["--set", f"start={run.folder}", "--set", "batch=8"]
    done = CliRunner().invoke(tune_command, [*arguments, "--search", "dropout=0..0.5"])
    assert done.exit_code == 0, done.output
    best = load_recipe(tmp_path / "out" / BEST)
    assert (best.backbone, best.size, best.embedding) == ("tiny", 16, 16)
    assert "What to do next?" in done.output
