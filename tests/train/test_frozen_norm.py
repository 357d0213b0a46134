"""Batch normalisation whose statistics rest: folded, kept, and the same however it is trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from train.backbones.layers import ConvUnit
from train.corpus import learnable
from train.engine import Engine
from train.fit import Training, fit
from train.history import Silent
from train.network import build_network
from train.recipe import Recipe
from train.run import WEIGHTS
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])
FROZEN = Recipe(size=32, batch=16, epochs=2, frozen_epochs=1, embedding=16, norm="frozen")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def corpus(draw_halves):
    drawn = draw_halves(48)
    return replace(drawn, crops=np.repeat(np.repeat(drawn.crops, 2, 1), 2, 2))


class StoppedError(Exception):
    """Raised in place of Ctrl-C."""


class StopAfter(Silent):
    """Interrupts a training after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def step(self, done, total):
        if done == self.steps:
            raise StoppedError


def norms(network):
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def unit_with_statistics(**shape):
    torch.manual_seed(0)
    unit = ConvUnit(**shape)
    with torch.no_grad():
        for values, (low, high) in (
            (unit.norm.running_mean, (-1.0, 1.0)),
            (unit.norm.running_var, (0.2, 3.0)),
            (unit.norm.weight, (0.5, 2.0)),
            (unit.norm.bias, (-1.0, 3.0)),
        ):
            values.uniform_(low, high)
    unit.norm.eval()
    return unit


@pytest.mark.parametrize(
    "shape",
    [
        {"inputs": 8, "outputs": 16, "kernel": 1},
        {"inputs": 8, "outputs": 8, "kernel": 3, "groups": 8},
        {"inputs": 8, "outputs": 8, "kernel": 5, "stride": 2, "groups": 8},
        {"inputs": 8, "outputs": 4, "kernel": 3, "stride": 2, "activates": False},
    ],
)
def test_a_folded_unit_gives_the_outputs_and_gradients_of_its_parts(shape):
    unit = unit_with_statistics(**shape)
    image = torch.randn(3, 8, 12, 12, requires_grad=True)
    tensors = [image, unit.conv.weight, unit.norm.weight, unit.norm.bias]
    apart = unit.norm(unit.conv(image))
    if shape.get("activates", True):
        apart = functional.relu6(apart)
    folded = unit(image)
    torch.testing.assert_close(folded, apart, rtol=1e-4, atol=1e-5)
    asked = torch.randn_like(folded)
    expected = torch.autograd.grad(apart, tensors, asked, retain_graph=True)
    found = torch.autograd.grad(folded, tensors, asked)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kernel", "sides"), [(3, (0, 1)), (5, (1, 2))])
def test_an_uneven_convolution_and_its_activation_are_pytorch_s(order, kernel, sides):
    torch.manual_seed(1)
    unit = ConvUnit(4, 4, kernel, 2, groups=4)
    image = torch.randn(2, 4, 10, 12).contiguous(memory_format=order).requires_grad_()
    padded = functional.pad(image, (*sides, *sides))
    weight = unit.conv.weight
    expected = functional.relu6(unit.norm(functional.conv2d(padded, weight, None, 2, 0, 1, 4)))
    found = unit(image)
    torch.testing.assert_close(found, expected)
    assert found.shape[2:] == (5, 6)
    asked = torch.randn_like(found)
    mine = torch.autograd.grad(found, [image, weight], asked)
    theirs = torch.autograd.grad(expected, [image, weight], asked)
    torch.testing.assert_close(mine, theirs)


def test_frozen_statistics_rest_while_scales_and_new_parts_learn(corpus):
    tasks, rows = learnable(corpus)
    recipe = FROZEN.with_values({"frozen_epochs": 0})
    training = Training(recipe, corpus, tasks, rows, Engine.start("float32"))
    before = {k: v.clone() for k, v in training.network.state_dict().items()}
    training.run_epoch(0, Silent())
    moved = {
        name
        for name, v in training.network.state_dict().items()
        if not torch.equal(v, before[name])
    }
    statistics = {name for name in before if "running_" in name}
    trunk = {name for name in before if ".trunk." in name}
    assert trunk - statistics - {n for n in trunk if n.endswith("batches_tracked")} <= moved
    assert statistics & moved == {
        "fusion.embed.norm.running_mean",
        "fusion.embed.norm.running_var",
    }


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "tiny"])
def test_only_what_was_pretrained_keeps_its_statistics(backbone):
    network = build_network(FROZEN.with_values({"backbone": backbone}), TASKS).train()
    pretrained = [n for stage in network.fusion.pretrained_stages() for n in norms(stage)]
    assert [norm.training for norm in norms(network)] == [
        norm not in pretrained for norm in norms(network)
    ]
    assert bool(pretrained) == (backbone != "tiny")


def test_a_network_of_a_library_keeps_its_statistics_too():
    pytest.importorskip("timm")
    recipe = FROZEN.with_values({"backbone": "resnet18", "pretrained": False})
    network = build_network(recipe, TASKS)
    network.fusion.trunk.pretrained_parts = tuple(network.fusion.trunk.stages)
    network.train()
    trunk = norms(network.fusion.trunk)
    before = [norm.running_mean.clone() for norm in trunk]
    logits, _ = network(torch.rand(4, 3, 32, 32) * 255)
    logits["state"].sum().backward()
    assert all(torch.equal(n.running_mean, b) for n, b in zip(trunk, before, strict=True))
    assert all(norm.weight.grad is not None for norm in trunk)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(corpus, tmp_path):
    fit(FROZEN, corpus, tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(FROZEN, corpus, tmp_path / "cut", progress=StopAfter(2))
    fit(FROZEN, corpus, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_peers_keep_their_statistics(corpus):
    tasks, rows = learnable(corpus)
    recipe = FROZEN.with_values({"mutual.peers": 1, "frozen_epochs": 0})
    training = Training(recipe, corpus, tasks, rows, Engine.start("float32"))
    before = [
        norm.running_mean.clone()
        for learner in training._learners
        for norm in norms(learner.network.fusion.trunk)
    ]
    training.run_epoch(0, Silent())
    after = [
        norm.running_mean
        for learner in training._learners
        for norm in norms(learner.network.fusion.trunk)
    ]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
