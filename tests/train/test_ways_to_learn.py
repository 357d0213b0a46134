"""Whole trainings by each way to learn: they finish, and resume to the same weights."""

import pytest
import torch

from train.corpus import learnable
from train.engine import Engine
from train.fit import Training, fit
from train.history import Silent
from train.recipe import Recipe
from train.run import WEIGHTS
from train.schedule import Schedule
from train.weighting import WEIGHTINGS
from transom.errors import ConfigurationError, RunError

SHORT = Recipe(
    backbone="tiny", size=16, embedding=16, batch=8, epochs=3, learning_rate=3e-3, seed=5
)


pytestmark = pytest.mark.usefixtures("one_thread")


class StoppedError(Exception):
    """Raised in place of Ctrl-C."""


class StopAfter(Silent):
    """Interrupts a training after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def step(self, done, total):
        if done == self.steps:
            raise StoppedError


def train_epochs(recipe, corpus, epochs, folder=None, begin=0):
    """Return the training's state after some epochs, without the reports around it."""
    tasks, rows = learnable(corpus)
    with torch.random.fork_rng():
        training = Training(recipe, corpus, tasks, rows, Engine.start("float32"))
        if begin:
            training.restore(folder)
        for epoch in range(begin, epochs):
            training.run_epoch(epoch, Silent())
        if folder is not None:
            training.save(folder)
    return {
        f"{name}/{key}": value
        for name, module in training._modules().items()
        for key, value in module.state_dict().items()
    }


WAYS = {
    **{f"weighting {name}": {"weighting": name} for name in WEIGHTINGS},
    "mixup and cutmix": {"mix.mixup": 0.4, "mix.cutmix": 1.0},
    "peers": {"mutual.peers": 2, "weighting": "famo"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(draw_halves, tmp_path, way):
    corpus = draw_halves()
    recipe = SHORT.with_values(WAYS[way])
    whole = train_epochs(recipe, corpus, 3)
    train_epochs(recipe, corpus, 2, tmp_path)
    torch.manual_seed(99)  # whatever happened in between
    resumed = train_epochs(recipe, corpus, 3, tmp_path, begin=2)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]) or value.isnan().any(), name
        assert torch.equal(value.isnan(), resumed[name].isnan()), name


def test_a_weighting_that_compares_gradients_refuses_a_fusion_that_does_not_share(draw_halves):
    recipe = SHORT.with_values({"weighting": "nash", "fusion": "cross_stitch"})
    with pytest.raises(ConfigurationError, match="fusion = 'hard'"):
        train_epochs(recipe, draw_halves(), 1)


def test_pretrained_stages_thaw_one_after_the_other_from_the_deepest(draw_halves, tmp_path):
    corpus = draw_halves()
    recipe = SHORT.with_values(
        {"backbone": "efficientnet_lite0", "size": 32, "frozen_epochs": 1, "unfreeze_epochs": 2}
    )
    tasks, rows = learnable(corpus)
    training = Training(recipe, corpus, tasks, rows, Engine.start("float32"))
    stages = len(training.network.fusion.pretrained_stages())
    schedule = Schedule(recipe, 1, stages)
    frozen = [schedule.frozen_stages(epoch) for epoch in range(2 * stages + 2)]
    assert frozen[:4] == [stages, stages - 1, stages - 1, stages - 2]
    assert frozen[-2:] == [0, 0]
    training.network.freeze_pretrained(frozen[1])
    trained = [
        any(p.requires_grad for p in stage.parameters())
        for stage in training.network.fusion.pretrained_stages()
    ]
    assert trained == [False] * (stages - 1) + [True]


def test_a_resumed_student_learns_from_the_teacher_it_began_with(draw_halves, tmp_path):
    corpus = draw_halves()
    teacher = fit(SHORT, corpus, tmp_path / "teacher")
    recipe = SHORT.with_values({"seed": 6})
    whole = fit(recipe, corpus, tmp_path / "whole", teachers=[teacher])
    with pytest.raises(StoppedError):
        fit(recipe, corpus, tmp_path / "cut", teachers=[teacher], progress=StopAfter(7))
    fit(recipe, corpus, tmp_path / "cut", resume=True)
    alone = fit(recipe, corpus, tmp_path / "alone")
    weights = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("whole", "cut", "alone")]
    assert weights[0] == weights[1] != weights[2]
    assert whole.facts.teachers == {str((tmp_path / "teacher").resolve()): teacher.digest}
    assert alone.facts.teachers == {}


def test_a_student_is_not_resumed_with_a_teacher_that_has_changed(draw_halves, tmp_path):
    corpus = draw_halves()
    teacher = fit(SHORT, corpus, tmp_path / "teacher")
    with pytest.raises(StoppedError):
        fit(SHORT, corpus, tmp_path / "cut", teachers=[teacher], progress=StopAfter(7))
    other = fit(SHORT.with_values({"seed": 8}), corpus, tmp_path / "other")
    (tmp_path / "teacher" / WEIGHTS).write_bytes((other.folder / WEIGHTS).read_bytes())
    with pytest.raises(RunError, match=r"other weights than when .*cut was begun"):
        fit(SHORT, corpus, tmp_path / "cut", resume=True)
