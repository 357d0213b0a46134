"""One backbone in several widths, and what a narrower one starts from."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from train.backbones import BACKBONES
from train.backbones.efficientnet_lite import narrow
from train.commands import train_command
from train.cost import network_cost
from train.network import build_network
from train.recipe import Recipe
from train.run import read_run
from train.start import begin_from, starter_run
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])
SHORT = Recipe(size=64, backbone="efficientnet_lite0_short", pretrained=False, margin=0.1)


def of_width(width: float, **values: object) -> Recipe:
    return SHORT.with_values({"width": width, **values})


def test_a_narrower_network_costs_less_and_has_channels_in_eights() -> None:
    costs = [network_cost(build_network(of_width(w), TASKS), 64) for w in (0.35, 0.5, 1.0)]
    assert [cost.macs for cost in costs] == sorted(cost.macs for cost in costs)
    assert costs[1].macs < 0.45 * costs[2].macs
    assert all(c % 8 == 0 for c in BACKBONES["efficientnet_lite0_short"].scaled(0.5).channels)


def test_the_channels_that_a_backbone_states_are_those_that_its_trunk_gives() -> None:
    for name in ("efficientnet_lite0", "efficientnet_lite0_short", "efficientnet_lite2"):
        backbone = BACKBONES[name].scaled(0.5)
        maps = backbone.trunk(False)(torch.zeros(2, 3, 64, 64))
        assert tuple(m.shape[1] for m in maps) == backbone.channels


def test_a_backbone_of_one_width_says_so() -> None:
    with pytest.raises(ConfigurationError, match="width must be 1 for backbone 'tiny'"):
        build_network(Recipe(size=32, backbone="tiny", width=0.5), TASKS)


def test_pretrained_weights_of_the_wide_one_start_the_narrow_one() -> None:
    wide = BACKBONES["efficientnet_lite0_short"].trunk(True)
    small = BACKBONES["efficientnet_lite0_short"].scaled(0.5).trunk(True)
    stem = small.stages[0][0].conv.weight  # type: ignore[index, union-attr]
    assert torch.equal(stem, wide.stages[0][0].conv.weight)  # type: ignore[index, union-attr]
    mine = small.stages[4][0].project.norm.weight  # type: ignore[index, union-attr]
    theirs = wide.stages[4][0].project.norm.weight  # type: ignore[index, union-attr]
    assert set(mine.tolist()) <= set(theirs.tolist())


def test_channels_that_do_nothing_are_the_ones_left_out() -> None:
    """A wide network whose second half of channels is silent is its narrow one exactly."""
    torch.manual_seed(0)
    backbone = BACKBONES["efficientnet_lite0_short"]
    wide, small = backbone.trunk(False).eval(), backbone.scaled(0.5).trunk(False).eval()
    with torch.no_grad():
        _silence(wide, small)
        kept = narrow(wide, small)
        image = 255 * torch.rand(2, 3, 64, 64)
        expected = wide(image)[-1]
    assert kept.tolist() == list(range(96))
    torch.testing.assert_close(small(image)[-1], expected[:, :96], rtol=1e-3, atol=1e-4)


def _silence(wide: torch.nn.Module, small: torch.nn.Module) -> None:
    """Let every channel behind those that the narrow trunk has be zero, whatever comes in."""
    sizes = {name: tensor.shape[0] for name, tensor in small.state_dict().items() if tensor.ndim}
    for name, tensor in wide.state_dict().items():
        if name.endswith(("norm.weight", "norm.bias")):
            tensor[sizes[name] :] = 0.0


def test_a_run_that_is_wider_starts_a_narrow_network() -> None:
    starter = read_run(starter_run())
    recipe = of_width(0.5, size=128)
    network = build_network(recipe, starter.tasks, pretrained=False)
    before = network.fusion.embed.project.weight.clone()  # type: ignore[union-attr, operator]
    begin_from(network, "starter", recipe.width)
    theirs = starter.network()
    after = network.fusion.embed.project.weight  # type: ignore[union-attr]
    assert not torch.equal(after, before)
    assert torch.equal(network.head("state").weight, theirs.head("state").weight)
    assert set(after.flatten().tolist()) <= set(  # type: ignore[operator, union-attr]
        theirs.fusion.embed.project.weight.flatten().tolist()  # type: ignore[union-attr, operator]
    )


def test_refuses_a_start_that_is_narrower() -> None:
    starter = read_run(starter_run())
    network = build_network(of_width(1.4, size=128), starter.tasks, pretrained=False)
    with pytest.raises(ConfigurationError, match="must be at least as wide"):
        begin_from(network, "starter", 1.4)


def test_one_key_trains_a_narrow_network_from_the_starter(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    options = ["--start", "starter", "--set", "width=0.35", "--set", "batch=8", "--epochs", "1"]
    outcome = CliRunner().invoke(train_command, [str(tiny_dataset), "--out", str(out), *options])
    assert outcome.exit_code == 0, outcome.output
    run = read_run(out)
    assert (run.recipe.width, run.recipe.backbone) == (0.35, "efficientnet_lite0_short")
    assert run.network().fusion.embed.project.weight.shape[1] < 100  # type: ignore[union-attr, operator]
