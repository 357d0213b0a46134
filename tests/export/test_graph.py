from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn

from export.graph import export_graph, fold_temperatures, head_layers
from train.network import Network, build_network, predict_logits
from train.recipe import Recipe
from transom.errors import ExportError
from transom.tasks import Task, TaskSet

RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]

ONE = TaskSet([Task(name="state", classes=("closed", "open"))])
NOISE = np.random.default_rng(5).integers(0, 256, (5, 16, 16, 3), np.uint8)


class Small(nn.Module):
    """One convolution behind a normalisation that is given, and a linear head."""

    def __init__(self, normalise: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.normalise = normalise
        self.convolution = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 2)

    def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        x = torch.relu(self.convolution(self.normalise(image))).mean((2, 3))
        return {"state": self.head(x)}, x


def imagenet(image: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    return (image.flip(1) - mean) / std


def half(image: torch.Tensor) -> torch.Tensor:
    return image[:, [2, 1, 0]] / 127.5 - 1.0


def unchanged(image: torch.Tensor) -> torch.Tensor:
    return image


def edges(image: torch.Tensor) -> torch.Tensor:
    return (image - image.roll(1, dims=3)) / 64


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def expected(network: nn.Module, crops: npt.NDArray[np.uint8]) -> Mapping[str, torch.Tensor]:
    with torch.inference_mode():
        logits, embedding = network(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
    return {**logits, "embedding": embedding}


def test_the_graph_gives_what_torch_gives(
    network: Network, float_graph: bytes, run_graph: RunGraph
) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), np.uint8)
    logits, embedding = predict_logits(network, crops)
    found = run_graph(float_graph, crops)
    assert list(found) == ["kind", "state", "embedding"]
    for name, values in {**logits, "embedding": embedding}.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4 * np.abs(values).max())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_graph_takes_any_number_of_crops(
    float_graph: bytes, run_graph: RunGraph, count: int
) -> None:
    assert run_graph(float_graph, np.zeros((count, 32, 32, 3), np.uint8))["state"].shape[0] == count


@pytest.mark.parametrize("normalise", [imagenet, half, unchanged])
def test_channel_order_and_scale_move_into_the_first_convolution(
    normalise: Callable[[torch.Tensor], torch.Tensor], run_graph: RunGraph
) -> None:
    small = Small(normalise).eval()
    model = export_graph(small, ONE, 16)
    assert operators(model)[:4] == ["Transpose", "Cast", "Sub", "Conv"]
    for name, values in expected(small, NOISE).items():
        np.testing.assert_allclose(run_graph(model, NOISE)[name], values, atol=1e-4)


def test_resting_statistics_leave_the_graph_as_it_is(run_graph: RunGraph) -> None:
    graphs = []
    for norm in ("batch", "frozen"):
        torch.manual_seed(0)
        recipe = Recipe(backbone="efficientnet_lite0", size=32, embedding=16).with_values(
            {"norm": norm}
        )
        network = build_network(recipe, ONE).train()
        graphs.append(export_graph(network.eval(), ONE, 32))
    assert operators(graphs[0]) == operators(graphs[1])
    assert set(operators(graphs[1])) == {
        *("Transpose", "Cast", "Sub", "Conv", "Clip", "Add"),
        *("GlobalAveragePool", "Relu", "Reshape", "Gemm"),
    }
    crops = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    logits, _ = predict_logits(network, crops)
    np.testing.assert_allclose(
        run_graph(graphs[1], crops)["state"],
        logits["state"],
        atol=1e-4 * np.abs(logits["state"]).max(),
    )


def test_pixels_that_are_more_than_scaled_are_left_as_they_are(run_graph: RunGraph) -> None:
    small = Small(edges).eval()
    model = export_graph(small, ONE, 16)
    assert operators(model)[:3] != ["Transpose", "Cast", "Sub"]
    for name, values in expected(small, NOISE).items():
        np.testing.assert_allclose(run_graph(model, NOISE)[name], values, atol=1e-4)


def test_a_mean_over_the_map_becomes_global_average_pooling(float_graph: bytes) -> None:
    found = operators(float_graph)
    assert found.count("GlobalAveragePool") == 1
    assert "ReduceMean" not in found


def test_temperatures_divide_the_logits_of_their_task_alone(
    float_graph: bytes, run_graph: RunGraph
) -> None:
    crops = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), np.uint8)
    before = run_graph(float_graph, crops)
    cooled = fold_temperatures(float_graph, {"state": 2.0})
    after = run_graph(fold_temperatures(cooled, {"state": 1.5}), crops)
    np.testing.assert_allclose(after["state"], before["state"] / 3.0, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(after["kind"], before["kind"])
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    assert operators(cooled) == operators(float_graph)


def test_heads_that_share_their_weights_keep_their_own_temperatures(run_graph: RunGraph) -> None:
    class Twins(Small):
        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            logits, x = super().forward(image)
            return {"left": logits["state"], "right": self.head(x * 2)}, x

    tasks = TaskSet([Task(name=name, classes=("closed", "open")) for name in ("left", "right")])
    model = export_graph(Twins(half).eval(), tasks, 16)
    before = run_graph(model, NOISE)
    after = run_graph(fold_temperatures(model, {"left": 4.0}), NOISE)
    np.testing.assert_allclose(after["left"], before["left"] / 4, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after["right"], before["right"])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_refuses_a_temperature_that_is_not_above_0(float_graph: bytes, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature of 'state' must be above 0"):
        fold_temperatures(float_graph, {"state": temperature})


def test_refuses_logits_that_do_not_come_from_a_linear_layer() -> None:
    class Probable(Small):
        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            logits, x = super().forward(image)
            return {"state": logits["state"].softmax(1)}, x

    with pytest.raises(ExportError, match="logits of `state` must come from a float linear layer"):
        export_graph(Probable(half).eval(), ONE, 16)


def test_a_task_may_be_named_like_something_inside_the_graph(run_graph: RunGraph) -> None:
    class Named(Small):
        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            logits, x = super().forward(image)
            return {"mean": logits["state"]}, x

    named = Named(half).eval()
    tasks = TaskSet([Task(name="mean", classes=("closed", "open"))])
    found = run_graph(export_graph(named, tasks, 16), NOISE)
    np.testing.assert_allclose(found["mean"], expected(named, NOISE)["mean"], atol=1e-4)


def test_names_the_last_layer_of_each_head(float_graph: bytes) -> None:
    layers = head_layers(onnx.load_from_string(float_graph), ["kind", "state"])
    assert [len(layer.nodes) for layer in layers.values()] == [1, 1]
    assert layers["kind"].nodes != layers["state"].nodes


def test_the_same_network_gives_the_same_bytes(network: Network, float_graph: bytes) -> None:
    assert export_graph(network, network.tasks, 32) == float_graph


def test_the_graph_carries_no_path_of_the_machine_that_made_it(float_graph: bytes) -> None:
    assert b".py" not in float_graph
    assert b"site-packages" not in float_graph


def test_two_convolutions_may_take_the_same_normalised_pixels(run_graph: RunGraph) -> None:
    class Two(Small):
        def __init__(self) -> None:
            super().__init__(imagenet)
            self.filters = nn.Conv2d(3, 16, 5, stride=2, padding=2)

        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            pixels = self.normalise(image)
            x = torch.relu(self.convolution(pixels) + self.filters(pixels)).mean((2, 3))
            return {"state": self.head(x)}, x

    two = Two().eval()
    model = export_graph(two, ONE, 16)
    assert operators(model)[:5] == ["Transpose", "Cast", "Sub", "Conv", "Conv"]
    for name, values in expected(two, NOISE).items():
        np.testing.assert_allclose(run_graph(model, NOISE)[name], values, atol=1e-4)


def test_pixels_that_something_else_takes_too_are_left_as_they_are(run_graph: RunGraph) -> None:
    class Bright(Small):
        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            pixels = self.normalise(image)
            brightness = pixels.mean((1, 2, 3))[:, None]
            x = torch.relu(self.convolution(pixels)).mean((2, 3)) + brightness
            return {"state": self.head(x)}, x

    bright = Bright(half).eval()
    model = export_graph(bright, ONE, 16)
    for name, values in expected(bright, NOISE).items():
        np.testing.assert_allclose(run_graph(model, NOISE)[name], values, atol=1e-4)
