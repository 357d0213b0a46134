from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from export.bias_correction import correct_biases
from export.graph import export_graph
from export.quantize import Quantization, count_operators, quantize
from train.network import build_network
from train.recipe import Recipe
from transom.tasks import Task, TaskSet

Crops = npt.NDArray[np.uint8]
RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]
TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])
SIZE = 64


def draw(count: int, seed: int) -> Crops:
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return blocks.repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)


@pytest.fixture(scope="module")
def float32() -> bytes:
    """A network with a filter for each channel."""
    torch.manual_seed(0)
    recipe = Recipe(size=SIZE, backbone="efficientnet_lite0_short", width=0.35, embedding=16)
    return export_graph(build_network(recipe, TASKS).eval(), TASKS, SIZE)


@pytest.fixture(scope="module")
def rounded(float32: bytes) -> bytes:
    """It in INT8, its biases merely rounded."""
    return quantize(float32, TASKS, draw(32, seed=1), Quantization(bias_correction=False))


@pytest.fixture(scope="module")
def corrected(float32: bytes) -> bytes:
    """It in INT8 by the defaults."""
    return quantize(float32, TASKS, draw(32, seed=1))


def test_means_are_nearer_to_those_of_float32_on_pictures_never_shown(
    float32: bytes, rounded: bytes, corrected: bytes, run_graph: RunGraph
) -> None:
    crops = draw(48, seed=2)
    exact, before, after = (
        run_graph(graph, crops)["embedding"] for graph in (float32, rounded, corrected)
    )
    moved = [np.abs((said - exact).mean(axis=0)).mean() for said in (before, after)]
    assert moved[1] < 0.8 * moved[0]
    assert np.square(after - exact).mean() < np.square(before - exact).mean()


def test_only_biases_change(rounded: bytes, corrected: bytes) -> None:
    before, after = (
        {v.name: numpy_helper.to_array(v) for v in onnx.load_from_string(model).graph.initializer}
        for model in (rounded, corrected)
    )
    assert before.keys() == after.keys()
    changed = {n for n, value in before.items() if not np.array_equal(value, after[n])}
    # The first reads exact bytes, the last has no bias.
    assert len(changed) == count_operators(rounded)["QLinearConv"] - 2
    assert all(before[name].dtype == np.int32 for name in changed)


def test_a_factor_behind_a_filter_is_not_taken_for_an_error_of_its_rounding(
    run_graph: RunGraph,
) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
            self.head = nn.Linear(8, 2)

        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            x = torch.relu(self.first((image - 127.0) / 128.0))
            x = torch.relu(3.0 * self.second(x)).mean((2, 3))
            return {"state": self.head(x)}, x

    torch.manual_seed(3)
    crops = draw(16, seed=5)
    graph = export_graph(Scaled().eval(), TASKS, SIZE)
    exact, said = (run_graph(g, crops)["embedding"] for g in (graph, quantize(graph, TASKS, crops)))
    np.testing.assert_allclose(said, exact, atol=0.02 * exact.max())


def test_correcting_again_changes_nothing(float32: bytes, corrected: bytes) -> None:
    crops = draw(8, seed=4)
    once = correct_biases(float32, corrected, crops)
    assert correct_biases(float32, once, crops) == once


def test_a_network_without_biases_stays_as_it_is() -> None:
    # Normalisation that has learnt nothing moves nothing, and folds into no bias.
    recipe = Recipe(size=SIZE, backbone="efficientnet_lite0_short", width=0.35, pretrained=False)
    graph = export_graph(build_network(recipe, TASKS).eval(), TASKS, SIZE)
    crops = draw(4, seed=1)
    merely_rounded = quantize(graph, TASKS, crops, Quantization(bias_correction=False))
    assert quantize(graph, TASKS, crops) == merely_rounded
