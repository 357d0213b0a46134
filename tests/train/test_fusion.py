from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from train.backbones import BACKBONES
from train.cost import network_cost
from train.fusion import FUSIONS, build_fusion
from train.fusion.early import WithEarlyMaps
from train.fusion.sharing import Embed
from train.losses import cross_entropy
from train.network import Network, build_network, to_image
from train.recipe import Recipe
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window")),
        Task(name="state", classes=("closed", "ajar", "open")),
    ]
)
TINY = BACKBONES["tiny"]
EDGES = {"maps": ("edge", "binary_pattern")}
WAYS = [
    *({"fusion": name} for name in FUSIONS),
    {**EDGES, "maps_fusion": "early"},
    {**EDGES, "maps_fusion": "late"},
    {"fusion": "cross_stitch", **EDGES, "maps_fusion": "early"},
    {"fusion": "mmoe", **EDGES, "maps_fusion": "late"},
]
SOFT = ["attention", "cross_stitch", "mmoe", "cgc"]


def way_name(way):
    return "-".join(value if isinstance(value, str) else "+".join(value) for value in way.values())


every_way = pytest.mark.parametrize("way", WAYS, ids=way_name)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(4)


def recipe(**values) -> Recipe:
    return Recipe(backbone="tiny", size=32, embedding=16, dropout=0.0, **values)


def bars(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, 32, 32) of a bar as wide as it is open, striped where it is a window."""
    rng = np.random.default_rng(1)
    targets = np.stack([rng.integers(0, 2, count), rng.integers(0, 3, count)], 1)
    crops = rng.normal(110.0, 10.0, (count, 32, 32, 3))
    for crop, (kind, state) in zip(crops, targets, strict=True):
        crop[:, : 4 + 12 * state] += 90
        crop[:: 2 + 30 * (1 - kind)] -= 60
    return to_image(torch.from_numpy(crops.clip(0, 255).astype(np.uint8))), torch.from_numpy(
        targets
    )


def loss_of(network: Network, image: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits, _ = network(image)
    losses = [cross_entropy(logits[t.name], targets[:, i]).mean() for i, t in enumerate(TASKS)]
    return torch.stack(losses).sum()


def gradients(network: Network) -> dict[str, float]:
    return {
        name: 0.0 if p.grad is None else float(p.grad.abs().sum())
        for name, p in network.named_parameters()
    }


@every_way
def test_every_head_reads_what_the_fusion_says_and_the_device_gets_one_embedding(way):
    network = build_network(recipe(**way), TASKS).eval()
    with torch.inference_mode():
        fused = network.fusion(bars(3)[0])
        logits, embedding = network(bars(3)[0])
    assert {task: one.shape for task, one in fused.by_task.items()} == {
        task: (3, size) for task, size in network.fusion.task_sizes.items()
    }
    assert [one.shape for one in logits.values()] == [(3, 2), (3, 3)]
    assert embedding.shape == (3, network.embedding_size) == (3, 16)
    assert embedding.min() >= 0.0
    assert embedding.std() > 0.0


@every_way
def test_the_gradient_reaches_every_part(way):
    network = build_network(recipe(**way), TASKS)
    loss_of(network, *bars(16)).backward()
    assert [name for name, size in gradients(network).items() if size == 0.0] == []


@every_way
def test_every_way_of_sharing_learns_both_tasks(way):
    network = build_network(recipe(**way), TASKS)
    image, targets = bars(48)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for _ in range(12):
        optimiser.zero_grad()
        loss_of(network, image, targets).backward()
        optimiser.step()
    logits, _ = network(image)
    for column, scores in enumerate(logits.values()):
        assert (scores.argmax(1) == targets[:, column]).float().mean() > 0.9


@every_way
def test_a_task_without_labels_moves_nothing_of_its_own(way):
    network = build_network(recipe(**way), TASKS)
    image, targets = bars(8)
    targets[:, 1] = -1
    loss_of(network, image, targets).backward()
    found = gradients(network)
    assert all(np.isfinite(size) for size in found.values())
    assert found["heads.kind_head.weight"] > 0.0
    assert found["heads.state_head.weight"] == 0.0
    own = [size for name, size in found.items() if ".parts.1." in name or ".gates.1." in name]
    assert not any(own)


@pytest.mark.parametrize("fusion", SOFT)
def test_tasks_that_share_softly_read_vectors_of_their_own(fusion):
    """With hard sharing, one vector serves all heads; no head could undo that."""
    network = build_network(recipe(fusion=fusion), TASKS).eval()
    with torch.inference_mode():
        fused = network.fusion(bars(8)[0])
    kind, state = fused.by_task.values()
    assert kind.shape == state.shape == (8, 8)
    assert not torch.allclose(kind, state)
    torch.testing.assert_close(fused.embedding, torch.cat([kind, state], 1))


def test_attention_gives_each_task_another_view_of_the_same_maps():
    fusion = build_network(recipe(fusion="attention"), TASKS).eval().fusion
    with torch.inference_mode():
        maps = fusion.trunk(bars(4)[0])
        views = [path(maps) for path in fusion.paths]
    assert views[0].shape == views[1].shape == maps[-1].shape
    assert not torch.allclose(views[0], views[1])
    # ReLU6 masks only take away or keep: nothing appears where the shared map is 0.
    assert not any(view[maps[-1] == 0].any() for view in views)


def test_equal_trunks_stitched_together_give_what_one_alone_gives():
    torch.manual_seed(0)
    fusion = build_network(recipe(fusion="cross_stitch"), TASKS).eval().fusion
    first, second = fusion.trunks
    second.load_state_dict(first.state_dict())
    image = bars(4)[0]
    with torch.inference_mode():
        maps = [fusion.normalise(image)] * 2
        for one, other, stitch in zip(first.stages, second.stages, fusion.stitches, strict=True):
            maps = stitch([one(maps[0]), other(maps[1])])
        expected = first(image)[-1]
    for found in maps:
        torch.testing.assert_close(found, expected)


def test_a_stitch_mixes_as_its_shares_say():
    stitch = build_network(recipe(fusion="cross_stitch"), TASKS).fusion.stitches[0]
    ones = torch.ones(1, 2, 3, 3)
    kind, state = stitch([ones, 10 * ones])
    torch.testing.assert_close(kind, 1.9 * ones)
    torch.testing.assert_close(state, 9.1 * ones)


def test_experts_are_blended_with_shares_that_sum_to_one():
    fusion = build_network(recipe(fusion="mmoe"), TASKS).eval().fusion
    with torch.inference_mode():
        for parameter in fusion.gates.parameters():
            parameter.zero_()
        image = bars(4)[0]
        experts = fusion.experts(fusion.trunk(image)[-1]).view(4, 4, 8)
        fused = fusion(image)
    for blend in fused.by_task.values():
        torch.testing.assert_close(blend, experts.mean(1))


def test_an_expert_of_its_own_serves_its_task_alone():
    network = build_network(recipe(fusion="cgc"), TASKS)
    image, targets = bars(8)
    targets[:, 1] = -1
    loss_of(network, image, targets).backward()
    # Two experts for both, two for `kind`, two for `state`, 8 channels each.
    moved = network.fusion.experts.project.weight.grad.abs().flatten(1).sum(1)
    assert (moved[:32] > 0).all()
    assert not moved[32:].any()


def test_early_maps_change_nothing_before_the_first_step():
    torch.manual_seed(7)
    plain = TINY.trunk(False).eval()
    torch.manual_seed(7)
    with_maps = WithEarlyMaps(**vars(TINY), maps=("edge", "texture")).trunk(False).eval()
    with_maps.load_state_dict(
        {
            name.replace("stages.0.", "stages.0.stage.", 1): value
            for name, value in plain.state_dict().items()
        },
        strict=False,
    )
    image = bars(3)[0]
    with torch.inference_mode():
        for found, expected in zip(with_maps(image), plain(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_early_maps_fit_a_first_stage_that_loses_its_border():
    def stages():
        narrow = torch.nn.Conv2d(3, 16, 5, stride=2)
        return [narrow, *TINY.stages()[1:]]

    backbone = WithEarlyMaps(**vars(replace(TINY, stages=stages)), maps=("edge",))
    trunk = backbone.trunk(False)
    assert trunk(bars(2)[0])[0].shape == (2, 16, 14, 14)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    path = tmp_path / "trunk.safetensors"
    safetensors.torch.save_file(TINY.trunk(False).state_dict(), path)
    return path


@every_way
def test_only_what_was_pretrained_is_frozen(way, pretrained):
    chosen = recipe(**way)
    fusion = build_fusion(chosen, TINY, TASKS, pretrained=pretrained)
    network = Network(fusion, TASKS)
    published = safetensors.torch.load_file(pretrained)
    copies = 2 if chosen.fusion == "cross_stitch" else 1
    stages = fusion.pretrained_stages()
    assert len(stages) == len(TINY.channels)
    weights = [name for name in published if "running" not in name and "num_" not in name]
    assert sum(len(list(stage.parameters())) for stage in stages) == copies * len(weights)

    network.freeze_pretrained(len(stages))
    network.train()
    loss_of(network, *bars(8)).backward()
    free = [name for name, p in network.named_parameters() if p.requires_grad]
    assert {name for name, size in gradients(network).items() if size > 0.0} == set(free)
    frozen = [m for s in stages for m in s.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not any(norm.training for norm in frozen)
    rates = {group["lr"] for group in network.parameter_groups(chosen)}
    assert max(rates) == chosen.learning_rate
    assert len(rates) == 1 + len(stages)


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_tasks_can_attend_to_every_backbone_with_maps_in_its_first_stage(backbone):
    size = max(BACKBONES[backbone].minimum_size, 32)
    chosen = Recipe(backbone=backbone, size=size, pretrained=False, fusion="attention", **EDGES)
    network = build_network(chosen, TASKS).to("meta").eval()
    logits, embedding = network(torch.zeros(2, 3, size, size, device="meta"))
    assert [one.shape for one in logits.values()] == [(2, 2), (2, 3)]
    assert embedding.shape == (2, 128)


def test_without_pretrained_weights_nothing_is_frozen():
    for way in WAYS:
        assert list(build_network(recipe(**way), TASKS).fusion.pretrained_stages()) == []


def test_the_cost_of_sharing_softly_is_known_before_training():
    cost = {name: network_cost(build_network(recipe(fusion=name), TASKS), 32) for name in FUSIONS}
    hard = cost["hard"]
    assert cost["cross_stitch"].macs == pytest.approx(2 * hard.macs, rel=0.001)
    assert hard.macs < cost["attention"].macs < 1.3 * hard.macs
    assert hard.macs < cost["mmoe"].macs < cost["cgc"].macs < 1.01 * hard.macs
    assert cost["cross_stitch"].parameters > 1.9 * hard.parameters


def test_the_cost_is_counted_by_hand_alike():
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, image):
            return self.head(self.convolution(image).mean((2, 3)))

    cost = network_cost(Small(), 16)
    assert cost.macs == 8 * 8 * 8 * 27 + 16
    assert cost.parameters == 8 * 27 + 16 + 2


def test_the_embedding_trains_as_the_convolution_that_is_exported():
    torch.manual_seed(0)
    project = Embed(24, 16).to(memory_format=torch.channels_last).train().project
    maps = torch.randn(4, 24, 1, 1)
    wanted = torch.nn.functional.conv2d(maps, project.weight)
    (gradient,) = torch.autograd.grad(wanted.square().sum(), project.weight)
    found = project(maps)
    found.square().sum().backward()
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(project.weight.grad, gradient, atol=1e-4)
    assert project.weight.grad.stride() == project.weight.stride()


def test_a_task_needs_a_place_in_the_embedding():
    many = TaskSet([Task(name=f"t{i}", classes=("a", "b")) for i in range(9)])
    with pytest.raises(ConfigurationError, match=r"embedding must be at least .* 9, .* got 8"):
        build_network(Recipe(backbone="tiny", embedding=8, fusion="mmoe"), many)


@pytest.mark.parametrize("maps_fusion", ["early", "late"])
def test_a_map_that_does_not_exist_is_refused_with_those_that_do(maps_fusion):
    chosen = recipe(maps=("edge", "colour"), maps_fusion=maps_fusion)
    with pytest.raises(
        ConfigurationError, match="maps must be one of edge, texture, binary_pattern, got 'colour'"
    ):
        build_network(chosen, TASKS)


def test_a_map_is_named_once():
    with pytest.raises(ConfigurationError, match="maps must each be named once, got edge, edge"):
        recipe().with_values({"maps": ["edge", "edge"]})
