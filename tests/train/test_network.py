import numpy as np
import pytest
import torch

from train.network import build_network, predict_logits, to_image
from train.recipe import Recipe
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="type", classes=("door", "window", "other")),
        Task(name="state", classes=("closed", "open")),
    ]
)
TINY = Recipe(backbone="tiny", size=32, embedding=16)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def test_logits_come_by_task_and_the_embedding_beside_them(crops):
    network = build_network(TINY, TASKS).eval()
    logits, embedding = network(to_image(torch.from_numpy(crops)))
    assert list(logits) == ["type", "state"]
    assert logits["type"].shape == (5, 3)
    assert logits["state"].shape == (5, 2)
    assert embedding.shape == (5, network.embedding_size) == (5, 16)


def test_heads_are_linear_on_the_embedding(crops):
    network = build_network(TINY, TASKS).eval()
    logits, embedding = network(to_image(torch.from_numpy(crops)))
    head = network.heads["state_head"]
    torch.testing.assert_close(logits["state"], embedding @ head.weight.T + head.bias)


def test_the_embedding_is_never_negative(crops):
    _, embedding = predict_logits(build_network(TINY, TASKS), crops)
    assert embedding.min() == 0.0
    assert embedding.max() > 0.0


def test_prediction_does_not_depend_on_the_batch(crops):
    network = build_network(TINY, TASKS)
    whole, in_parts = predict_logits(network, crops), predict_logits(network, crops, batch=2)
    np.testing.assert_allclose(whole[0]["state"], in_parts[0]["state"], atol=1e-5)
    np.testing.assert_allclose(whole[1], in_parts[1], atol=1e-5)
    assert network.training


def test_prediction_of_no_crop_is_empty(crops):
    logits, embedding = predict_logits(build_network(TINY, TASKS), crops[:0])
    assert logits["type"].shape == (0, 3)
    assert embedding.shape == (0, 16)


def test_prediction_reads_a_read_only_memory(crops):
    crops.flags.writeable = False
    predict_logits(build_network(TINY, TASKS), crops)


def test_deeper_pretrained_stages_learn_faster_and_new_parts_fastest():
    recipe = Recipe(learning_rate=1e-3, backbone_rate=0.5, stage_decay=0.8, weight_decay=0.1)
    network = build_network(recipe, TASKS)
    rates, decays = {}, {}
    for group in network.parameter_groups(recipe):
        for parameter in group["params"]:
            assert parameter not in rates
            rates[parameter] = group["lr"]
            decays[parameter] = group["weight_decay"]
    assert set(rates) == set(network.parameters())
    stages = [
        {rates[p] for p in stage.parameters()} for stage in network.fusion.pretrained_stages()
    ]
    expected = [5e-4 * 0.8**height for height in (4, 3, 2, 1, 0)]
    assert [len(rates) for rates in stages] == [1] * 5
    np.testing.assert_allclose([rates.pop() for rates in stages], expected)
    assert {rates[p] for p in network.heads.parameters()} == {1e-3}
    assert all(decays[p] == (0.1 if p.ndim > 1 else 0.0) for p in decays)


def test_a_backbone_from_scratch_learns_at_the_full_rate():
    network = build_network(TINY, TASKS)
    assert {group["lr"] for group in network.parameter_groups(TINY)} == {TINY.learning_rate}


def test_frozen_parts_keep_weights_and_statistics():
    network = build_network(Recipe(size=32), TASKS)
    network.freeze_pretrained(len(network.fusion.pretrained_stages()))
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    logits, _ = network(torch.rand(4, 3, 32, 32) * 255)
    (logits["state"].sum() + logits["type"].sum()).backward()
    after = network.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items() if ".trunk." in k)
    assert not torch.equal(
        before["fusion.embed.norm.running_mean"], after["fusion.embed.norm.running_mean"]
    )
    with_gradient = {n for n, p in network.named_parameters() if p.grad is not None}
    assert with_gradient
    assert not [n for n in with_gradient if ".trunk." in n]
    network.freeze_pretrained(0)
    assert all(p.requires_grad for p in network.parameters())


def test_normalisation_is_inside():
    network = build_network(TINY, TASKS).eval()
    trunk = network.fusion.trunk
    pixels = torch.tensor([0.0, 127.0, 255.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    assert trunk.normalise(pixels)[:, 0, 0, 0].tolist() == [-127 / 128, 0.0, 1.0]


@pytest.mark.parametrize("key", ["backbone", "fusion"])
def test_an_unknown_part_is_refused_with_the_known_ones(key):
    with pytest.raises(ConfigurationError, match=f"{key} must be one of"):
        build_network(TINY.with_values({key: "none"}), TASKS)
