import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from train import features
from train.augment import Augment
from train.corpus import learnable
from train.engine import Engine, derived_seed
from train.features import FeatureStore
from train.fit import Training, fit
from train.fusion import FUSIONS
from train.history import Silent
from train.network import build_network, predict_batches, predict_logits, to_image
from train.recipe import Recipe
from train.run import WEIGHTS
from transom.errors import DatasetError
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [Task(name="side", classes=("left", "right")), Task(name="shade", classes=("a", "b", "c"))]
)
_OFF = ("flip", "stretch", "shift", "rotate_deg", "brightness", "contrast", "gamma", "saturation")
_OFF = (*_OFF, "tint", "grey", "noise", "blur", "cutout")
UNVARIED = {"augment.zoom": 1.0} | {f"augment.{key}": 0.0 for key in _OFF}
# Four epochs rest, the next two thaw the deepest stage, then all learn.
KEEPS = Recipe(
    size=32, batch=8, epochs=6, frozen_epochs=4, unfreeze_epochs=2, embedding=16, frozen_views=2
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def corpus(draw_halves):
    drawn = draw_halves(56)
    return replace(drawn, crops=np.repeat(np.repeat(drawn.crops, 2, 1), 2, 2))


@pytest.fixture
def entries(own_cache):
    return lambda: {entry.name for entry in (own_cache / "features").glob("*")}


def resting(recipe=KEEPS, tasks=TASKS):
    """A network whose pretrained stages rest, in training."""
    network = build_network(recipe, tasks)
    network.freeze_pretrained(len(network.fusion.pretrained_stages()))
    return network.train()


def begin(recipe, corpus):
    tasks, rows = learnable(corpus)
    return Training(recipe, corpus, tasks, rows, Engine.start("float32"))


def state(training):
    return {k: v.clone() for k, v in training.network.state_dict().items()}


class StoppedError(Exception):
    """Raised in place of Ctrl-C."""


class StopAfter(Silent):
    """Interrupts a training after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def step(self, done, total):
        if done == self.steps:
            raise StoppedError


@pytest.mark.parametrize("maps", ["none", "late"])
@pytest.mark.parametrize("fusion", ["hard", "attention", "mmoe", "cgc"])
def test_going_on_from_what_is_seen_is_looking_at_the_whole(fusion, maps):
    values = {"fusion": fusion, "maps": ["edge"] if maps == "late" else [], "maps_fusion": "late"}
    network = resting(KEEPS.with_values(values))
    stages = len(network.fusion.resting_stages())
    assert stages == 5
    network.eval()
    image = torch.rand(3, 3, 32, 32) * 255
    expected, embedding = network(image)
    for depth in range(1, stages + 1):
        seen = network.fusion.see(network.fusion.normalise(image), depth)
        found, mine = network(seen)
        torch.testing.assert_close(mine, embedding, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_nothing_rests_where_something_is_trained(fusion):
    early = {"fusion": fusion, "maps": ["edge"], "maps_fusion": "early"}
    assert not resting(KEEPS.with_values(early)).fusion.resting_stages()
    thawed = build_network(KEEPS.with_values({"fusion": fusion}), TASKS).train()
    assert not thawed.fusion.resting_stages()


def test_stages_rest_from_the_first_to_the_last_frozen_one():
    network = build_network(KEEPS, TASKS)
    for frozen in range(6):
        network.freeze_pretrained(frozen)
        network.train()
        assert len(network.fusion.resting_stages()) == frozen


@pytest.mark.parametrize("values", [{}, {"fusion": "attention"}, {"mutual.peers": 1}])
def test_a_training_on_kept_features_is_the_one_that_looks_anew(corpus, values):
    kept = begin(KEEPS.with_values(UNVARIED | values), corpus)
    anew = begin(KEEPS.with_values(UNVARIED | values | {"frozen_views": 0}), corpus)
    for epoch in range(4):
        mine, theirs = (training.run_epoch(epoch, Silent()) for training in (kept, anew))
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert mine.val_accuracy == theirs.val_accuracy
    for name, value in state(kept).items():
        torch.testing.assert_close(value, state(anew)[name], rtol=1e-4, atol=1e-4, msg=name)
    # Normalisation by batches of 8 on maps of one place then makes much of rounding.
    mine, theirs = (training.run_epoch(4, Silent()) for training in (kept, anew))
    assert mine.loss == pytest.approx(theirs.loss, rel=0.02)


def test_epochs_take_turns_in_the_views_and_read_no_picture_again(corpus, entries):
    training = begin(KEEPS, corpus)
    shown = []
    for epoch in range(4):
        training.run_epoch(epoch, Silent())
        shown.append(training._features(epoch).of(training._rows[:3]).maps[0])
        if epoch == 1:
            assert len(entries()) == 3  # two views, and `val` as it is
            corpus.crops[:] = 0
    assert torch.equal(shown[0], shown[2])
    assert torch.equal(shown[1], shown[3])
    assert not torch.equal(shown[0], shown[1])
    assert len(entries()) == 3


def test_kept_features_are_those_of_the_varied_pictures(corpus):
    network, rows = resting(), np.arange(3, 40)
    store = FeatureStore(KEEPS, corpus, Engine.start("float32"))
    kept = store.features(network.fusion, rows, view=1)
    assert kept is not None
    assert kept.is_flat
    random = torch.Generator().manual_seed(derived_seed(KEEPS.seed, "view", 1, 0))
    image = Augment(KEEPS.augment)(torch.from_numpy(corpus.crops[rows]), random)
    with torch.no_grad():
        expected = network.fusion.see(network.fusion.normalise(image), 5).maps[0]
    torch.testing.assert_close(kept.of(rows).maps[0], expected, rtol=1e-4, atol=1e-5)
    some = np.array([7, 39, 3])
    torch.testing.assert_close(kept.of(some).maps[0], expected[some - 3], rtol=1e-4, atol=1e-5)


def test_what_is_said_of_kept_features_is_what_is_said_of_pictures(corpus):
    network, rows = resting(), np.arange(40, 56)
    kept = FeatureStore(KEEPS, corpus, Engine.start("float32")).features(network.fusion, rows)
    assert kept is not None
    logits, embedding = predict_batches(network, kept.batches(5))
    expected, whole = predict_logits(network, corpus.crops[rows])
    np.testing.assert_allclose(embedding, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits["shade"], expected["shade"], rtol=1e-4, atol=1e-5)


def test_a_new_look_every_epoch_where_no_look_would_come_again(corpus, entries):
    for values in ({"frozen_epochs": 2}, {"mix.mixup": 0.2}, {"frozen_views": 0}):
        training = begin(KEEPS.with_values({"unfreeze_epochs": 0} | values), corpus)
        assert all(training._features(epoch) is None for epoch in range(6))
    assert not entries()


@pytest.mark.parametrize("steps", [6, 11])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    corpus, own_cache, tmp_path, steps
):
    fit(KEEPS, corpus, tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(KEEPS, corpus, tmp_path / "cut", progress=StopAfter(steps))
    shutil.rmtree(own_cache / "features")
    fit(KEEPS, corpus, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_processes_of_one_machine_make_a_part_each_and_read_all(corpus):
    network, rows = resting(), np.arange(37)
    engine = Engine.start("float32")
    alone = FeatureStore(KEEPS, corpus, engine).features(network.fusion, rows)
    two = [replace(engine, local_rank=rank, local_world=2) for rank in (1, 0)]
    FeatureStore(KEEPS, corpus, two[0])._fill_part(
        features._Maker(network.fusion, 5, corpus.crops, rows, two[0]), None
    )
    together = FeatureStore(KEEPS, corpus, two[1]).features(network.fusion, rows)
    assert alone is not None
    assert together is not None
    assert [len(part[0]) for part in together.parts] == [19, 18]
    torch.testing.assert_close(together.of(rows).maps, alone.of(rows).maps, rtol=1e-4, atol=1e-5)


def test_other_weights_other_pictures_and_another_variation_are_other_entries(corpus, entries):
    engine, rows = Engine.start("float32"), np.arange(8)
    network = resting()
    for recipe, data in (
        (KEEPS, corpus),
        (KEEPS.with_values({"seed": 1}), corpus),
        (KEEPS.with_values({"augment.blur": 0.5}), corpus),
        (KEEPS, replace(corpus, digest="9" * 64)),
    ):
        FeatureStore(recipe, data, engine).features(network.fusion, rows, view=0)
    assert len(entries()) == 4
    with torch.no_grad():
        network.fusion.trunk.stages[2][0].project.norm.running_mean.add_(0.1)
    FeatureStore(KEEPS, corpus, engine).features(network.fusion, rows, view=0)
    assert len(entries()) == 5
    FeatureStore(KEEPS, corpus, engine).features(network.fusion, rows, view=0)
    assert len(entries()) == 5


def test_a_damaged_entry_is_made_again(corpus, own_cache):
    engine, rows, network = Engine.start("float32"), np.arange(8), resting()
    expected = FeatureStore(KEEPS, corpus, engine).features(network.fusion, rows, view=0)
    [entry] = (own_cache / "features").iterdir()
    (entry / "0.f32").write_bytes(b"cut")
    again = FeatureStore(KEEPS, corpus, engine).features(network.fusion, rows, view=0)
    assert expected is not None
    assert again is not None
    assert (entry / "0.f32").stat().st_size == 8 * 1280 * 4
    image = to_image(torch.from_numpy(corpus.crops[rows]))
    assert again.of(rows).maps[0].shape == (len(image), 1280, 1, 1)


def test_features_that_would_fill_the_disk_are_not_kept(corpus, entries, monkeypatch, caplog):
    monkeypatch.setattr(features, "MAX_FEATURE_BYTES", 2 * 8 * 1280 * 4 - 1)
    store = FeatureStore(KEEPS, corpus, Engine.start("float32"))
    network = resting()
    with caplog.at_level(logging.WARNING):
        for view in (0, 1, 0):
            assert store.features(network.fusion, np.arange(8), view) is None
    assert not entries()
    assert "too many features to keep" in caplog.text
    assert store.features(network.fusion, np.arange(7), 0) is not None


def test_a_cache_that_cannot_be_written_says_what_to_do(corpus, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = FeatureStore(KEEPS, corpus, Engine.start("float32"), tmp_path / "file")
    with pytest.raises(DatasetError, match="frozen_views = 0"):
        store.features(resting().fusion, np.arange(8))
