"""No sum of an INT8 network lies next to a half, where processors round apart."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from export.exact import make_sums_exact
from export.graph import export_graph
from export.quantize import count_operators, quantize
from train.network import build_network
from train.recipe import Recipe
from transom.tasks import Task, TaskSet

Crops = npt.NDArray[np.uint8]
RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]
TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])
SIZE = 64


@pytest.fixture(scope="module")
def crops() -> Crops:
    noise = np.random.default_rng(3).integers(0, 256, (24, 8, 8, 3), np.uint8)
    return noise.repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)


@pytest.fixture(scope="module")
def graphs(crops: Crops) -> tuple[bytes, bytes]:
    """A network with sums upon sums, float32 and INT8."""
    recipe = Recipe(size=SIZE, backbone="efficientnet_lite0_short", width=0.35, embedding=16)
    graph = export_graph(build_network(recipe, TASKS).eval(), TASKS, SIZE)
    return graph, quantize(graph, TASKS, crops)


def ratios(model: bytes) -> list[tuple[float, float]]:
    """Return of every sum the ratios of its operands' steps to its own."""
    graph = onnx.load_from_string(model).graph
    constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    quantisers = {n.input[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    found = []
    for node in graph.node:
        if node.op_type == "Add" and node.output[0] in quantisers:
            own = np.float32(constants[quantisers[node.output[0]].input[1]])
            operands = [np.float32(constants[makers[i].input[1]]) for i in node.input]
            found.append((float(operands[0] / own), float(operands[1] / own)))
    return found


def test_ratios_are_whole_numbers_over_one_odd_number(graphs: tuple[bytes, bytes]) -> None:
    found = ratios(graphs[1])
    assert len(found) == 9
    units = 255 * np.array(found)
    np.testing.assert_allclose(units, np.round(units), atol=1e-3)


def test_every_sum_of_two_bytes_is_far_from_a_half(graphs: tuple[bytes, bytes]) -> None:
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    for first, second in ratios(graphs[1]):
        sums = np.float64(first) * a + np.float64(second) * b
        assert np.abs(sums - np.floor(sums) - 0.5).min() > 1e-3


def test_the_network_answers_as_near_to_float32_as_before(
    graphs: tuple[bytes, bytes], crops: Crops, run_graph: RunGraph
) -> None:
    float32, int8 = (run_graph(graph, crops)["embedding"] for graph in graphs)
    correlation = np.corrcoef(float32.ravel(), int8.ravel())[0, 1]
    assert correlation > 0.98


def test_making_sums_exact_again_changes_nothing(graphs: tuple[bytes, bytes]) -> None:
    assert make_sums_exact(graphs[1]) == graphs[1]


def test_the_graph_is_fused_as_before(graphs: tuple[bytes, bytes]) -> None:
    operators = count_operators(graphs[1])
    assert (operators["QLinearAdd"], operators["Conv"], operators["QuantizeLinear"]) == (9, 0, 0)
