import logging
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch

from train.checkpoint import NAME as CHECKPOINT
from train.corpus import Corpus, learnable
from train.engine import Engine, derived_seed
from train.fit import Training, fit
from train.history import Silent
from train.losses import NOT_LABELLED
from train.recipe import Recipe
from train.run import EVENTS, METRICS, RECIPE, REPORT, WEIGHTS
from transom.dataset import Row
from transom.errors import ConfigurationError, DatasetError, RunError
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="side", classes=("left", "right")),
        Task(name="shade", classes=("dark", "middle", "bright"), ordinal=True),
    ]
)
RECIPE_OF_TEST = Recipe(
    backbone="tiny", size=16, embedding=16, batch=8, epochs=3, learning_rate=3e-3, seed=5
)


pytestmark = pytest.mark.usefixtures("one_thread")


def draw_corpus(n=48, seed=0):
    """Pictures with a bright half, some rows without a label of one task or the other."""
    random = np.random.default_rng(seed)
    side, shade = random.integers(0, 2, n), random.integers(0, 3, n)
    crops = random.integers(0, 40, (n, 16, 16, 3)).astype(np.uint8)
    for index in range(n):
        half = slice(0, 8) if side[index] == 0 else slice(8, 16)
        crops[index, :, half] += np.uint8(60 * (1 + shade[index]))
    targets = np.stack([side, shade], 1).astype(np.int64)
    targets[::7, 0] = NOT_LABELLED
    targets[3::7, 1] = NOT_LABELLED
    rows = tuple(
        Row(
            image=f"{index}.png",
            labels={
                task.name: task.classes[label]
                for task, label in zip(TASKS, labels, strict=True)
                if label >= 0
            },
        )
        for index, labels in enumerate(targets)
    )
    splits = np.array(["train"] * (n - 16) + ["val"] * 8 + ["test"] * 8)
    return Corpus(
        tasks=TASKS,
        crops=crops,
        targets=targets,
        groups=tuple(f"drawn/{index}" for index in range(n)),
        splits=splits,
        rows=rows,
        origins=("drawn",) * n,
        digest="0" * 64,
    )


@pytest.fixture
def corpus():
    return draw_corpus()


class StoppedError(Exception):
    """Raised in place of Ctrl-C."""


class StopAfter(Silent):
    """Interrupts a training after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def step(self, done, total):
        if done == self.steps:
            raise StoppedError


class Noted(Silent):
    """Notes what it is told."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def step(self, done, total):
        self.steps.append((done, total))

    def epoch(self, record, epochs):
        self.epochs.append((record, epochs))


def weights(folder):
    return (folder / WEIGHTS).read_bytes()


def test_a_training_learns_and_writes_every_part_of_the_run(corpus, tmp_path):
    noted = Noted()
    recipe = RECIPE_OF_TEST.with_values({"epochs": 12, "augment.flip": 0.0})
    run = fit(recipe, corpus, tmp_path / "run", progress=noted)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {RECIPE, WEIGHTS, METRICS, REPORT, EVENTS}
    assert list(run.results.evaluations) == ["val", "test"]
    assert run.results.evaluations["test"]["tasks"]["side"]["accuracy"] >= 0.8
    history = run.results.history
    assert history[-1].loss["side"] < history[0].loss["side"]
    assert noted.steps == [(step, 48) for step in range(1, 49)]
    assert [record for record, _ in noted.epochs] == list(history)
    assert set(run.temperatures) == {"side", "shade"}


@pytest.mark.parametrize("weighting", ["equal", "uncertainty"])
@pytest.mark.parametrize("steps", [3, 7, 9])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    corpus, tmp_path, weighting, steps
):
    recipe = RECIPE_OF_TEST.with_values({"weighting": weighting})
    fit(recipe, corpus, tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(recipe, corpus, tmp_path / "cut", progress=StopAfter(steps))
    torch.manual_seed(steps)  # whatever happened in between
    run = fit(recipe, corpus, tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert len(run.results.history) == 3


def test_a_resumed_training_thaws_what_was_frozen(corpus, tmp_path):
    recipe = Recipe(size=32, batch=16, epochs=2, frozen_epochs=1, embedding=16)
    corpus = replace(corpus, crops=np.repeat(np.repeat(corpus.crops, 2, 1), 2, 2))
    fit(recipe, corpus, tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(recipe, corpus, tmp_path / "cut", progress=StopAfter(3))
    fit(recipe, corpus, tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(corpus, tmp_path):
    torch.manual_seed(1)
    fit(RECIPE_OF_TEST, corpus, tmp_path / "one")
    torch.manual_seed(2)
    fit(RECIPE_OF_TEST, corpus, tmp_path / "two")
    fit(RECIPE_OF_TEST.with_values({"seed": 6}), corpus, tmp_path / "three")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert weights(tmp_path / "one") != weights(tmp_path / "three")


def test_a_training_leaves_the_caller_s_random_numbers_alone(corpus, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(RECIPE_OF_TEST.with_values({"epochs": 1}), corpus, tmp_path / "run")
    assert torch.equal(torch.rand(4), expected)


def test_rows_that_a_task_does_not_label_never_move_its_head(corpus):
    recipe = RECIPE_OF_TEST.with_values({"sampling": "shuffled", "weight_decay": 0.0})
    unlabelled = corpus.targets.copy()
    unlabelled[:, 1] = NOT_LABELLED
    training = Training(
        recipe,
        replace(corpus, targets=unlabelled),
        TASKS,
        np.arange(32),
        Engine.start("float32"),
    )
    before = {k: v.clone() for k, v in training.network.state_dict().items()}
    training.run_epoch(0, Silent())
    after = training.network.state_dict()
    for part in ("weight", "bias"):
        assert torch.equal(before[f"heads.shade_head.{part}"], after[f"heads.shade_head.{part}"])
        assert not torch.equal(before[f"heads.side_head.{part}"], after[f"heads.side_head.{part}"])
    assert set(training.history[0].loss) == {"side"}


def test_a_task_without_a_single_label_is_left_out_and_said(corpus, caplog):
    targets = corpus.targets.copy()
    targets[:32, 0] = NOT_LABELLED
    with caplog.at_level(logging.WARNING):
        tasks, rows = learnable(replace(corpus, targets=targets))
    assert tasks.names == ("shade",)
    assert "task=side" in caplog.text
    assert (targets[rows, 1] != NOT_LABELLED).all()


def test_rows_without_any_label_are_not_trained_on(corpus):
    targets = corpus.targets.copy()
    targets[[4, 9]] = NOT_LABELLED
    _, rows = learnable(replace(corpus, targets=targets))
    assert not {4, 9} & set(rows)
    assert len(rows) == 30


def test_data_without_training_rows_are_refused(corpus, tmp_path):
    held = replace(corpus, splits=np.array(["val"] * len(corpus)))
    with pytest.raises(DatasetError, match="at least 2 labelled rows in the split `train`"):
        fit(RECIPE_OF_TEST, held, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_without_held_out_rows_are_judged_on_what_was_learnt(corpus, tmp_path):
    learnt = replace(corpus, splits=np.array(["train"] * len(corpus)))
    run = fit(RECIPE_OF_TEST.with_values({"epochs": 1}), learnt, tmp_path / "run")
    assert list(run.results.evaluations) == ["train"]
    assert run.temperatures == {"side": 1.0, "shade": 1.0}


def test_a_folder_with_something_in_it_is_not_written_to(corpus, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"must be a new or empty folder; name another$"):
        fit(RECIPE_OF_TEST, corpus, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_run_is_resumed_to_itself(corpus, tmp_path):
    recipe = RECIPE_OF_TEST.with_values({"epochs": 1})
    run = fit(recipe, corpus, tmp_path / "run")
    again = fit(recipe, corpus, tmp_path / "run", resume=True, progress=StopAfter(1))
    assert again == run


def test_resuming_with_another_recipe_or_other_data_is_refused(corpus, tmp_path):
    with pytest.raises(StoppedError):
        fit(RECIPE_OF_TEST, corpus, tmp_path / "run", progress=StopAfter(6))
    other = RECIPE_OF_TEST.with_values({"epochs": 4})
    with pytest.raises(RunError, match="another recipe"):
        fit(other, corpus, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="data with digest 0000"):
        fit(RECIPE_OF_TEST, replace(corpus, digest="1" * 64), tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="nothing to resume"):
        fit(RECIPE_OF_TEST, corpus, tmp_path / "none", resume=True)


def test_a_training_that_is_lost_says_so_and_keeps_nothing_of_it(corpus, tmp_path):
    recipe = RECIPE_OF_TEST.with_values({"learning_rate": 1e38, "clip": 0.0, "warmup": 0.0})
    with pytest.raises(ConfigurationError, match=r"numbers that are none; learning_rate .*1e\+38"):
        fit(recipe, corpus, tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_a_damaged_checkpoint_is_named(corpus, tmp_path):
    with pytest.raises(StoppedError):
        fit(RECIPE_OF_TEST, corpus, tmp_path / "run", progress=StopAfter(6))
    file = tmp_path / "run" / CHECKPOINT
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(RunError, match=CHECKPOINT):
        fit(RECIPE_OF_TEST, corpus, tmp_path / "run", resume=True)


def test_an_interrupted_training_leaves_only_whole_files(corpus, tmp_path):
    with pytest.raises(StoppedError):
        fit(RECIPE_OF_TEST, corpus, tmp_path / "run", progress=StopAfter(6))
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {RECIPE, CHECKPOINT, EVENTS}
    tensors = safetensors.numpy.load_file(tmp_path / "run" / CHECKPOINT)
    parts = {name.partition("/")[0] for name in tensors}
    assert parts > {"average", "optimizer"}


def test_batches_of_all_processes_together_are_the_batch(corpus):
    engine = Engine.start("float32")
    batch = np.arange(10)
    parts = [replace(engine, rank=rank, world=3).part(batch) for rank in range(3)]
    assert sorted(np.concatenate(parts)) == list(batch)


def test_seeds_differ_by_purpose_and_stay_the_same():
    seeds = {derived_seed(0, "rows", 0), derived_seed(0, "rows", 1), derived_seed(1, "rows", 0)}
    assert len(seeds) == 3
    assert derived_seed(0, "rows", 0) in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_runs_in_either_precision(corpus, tmp_path, precision):
    recipe = RECIPE_OF_TEST.with_values({"epochs": 1, "precision": precision})
    run = fit(recipe, corpus, tmp_path / "run")
    assert run.facts.precision == precision
    assert all(p.dtype == torch.float32 for p in run.network().parameters())


def test_earlier_epochs_train_only_what_was_not_pretrained(corpus):
    corpus = replace(corpus, crops=np.repeat(np.repeat(corpus.crops, 2, 1), 2, 2))
    recipe = Recipe(size=32, batch=16, epochs=2, frozen_epochs=1, embedding=16)
    training = Training(recipe, corpus, TASKS, np.arange(32), Engine.start("float32"))
    trunk = training.network.fusion.trunk
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    training.run_epoch(0, Silent())
    assert all(torch.equal(v, before[k]) for k, v in trunk.state_dict().items())
    training.run_epoch(1, Silent())
    moved = {k for k, v in trunk.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == set(dict(trunk.named_parameters()))  # the statistics rest, by default
