from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from export.graph import export_graph, fold_temperatures
from export.quantize import (
    Quantization,
    Ranges,
    calibration_indices,
    count_operators,
    drop_zero_points,
    quantize,
)
from train.network import Network
from transom.tasks import Task, TaskSet

RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]
Draw = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]


def test_int8_has_no_float_convolution_and_quantises_nothing_at_run_time(
    int8_graph: bytes,
) -> None:
    operators = count_operators(int8_graph)
    assert operators["QLinearConv"] == 9
    assert operators["Conv"] + operators["FusedConv"] == 0
    assert operators["QuantizeLinear"] == 0


def test_float32_keeps_its_convolutions_in_float(float_graph: bytes) -> None:
    assert count_operators(float_graph)["QLinearConv"] == 0


def test_weights_have_a_scale_for_each_output_channel(int8_graph: bytes) -> None:
    graph = onnx.load_from_string(int8_graph).graph
    constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for convolution in convolutions:
        dequantise = makers[convolution.input[1]]
        weight, scale = constants[dequantise.input[0]], constants[dequantise.input[1]]
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)
        assert not constants[dequantise.input[2]].any()  # symmetric
    assert len(convolutions) == 9


def test_zero_points_of_zero_are_left_out_and_change_nothing(
    int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    shorter = drop_zero_points(int8_graph)
    assert len(shorter) < len(int8_graph)
    assert count_operators(shorter) == count_operators(int8_graph)
    crops = draw_crops(16, seed=9)[0]
    before = run_graph(int8_graph, crops)
    for name, values in run_graph(shorter, crops).items():
        np.testing.assert_array_equal(values, before[name])


def test_the_bytes_of_the_image_are_the_quantised_input(int8_graph: bytes) -> None:
    graph = onnx.load_from_string(int8_graph).graph
    constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    transpose = next(node for node in graph.node if "image" in node.input)
    dequantise = next(node for node in graph.node if transpose.output[0] in node.input)
    assert (transpose.op_type, dequantise.op_type) == ("Transpose", "DequantizeLinear")
    assert constants[dequantise.input[1]] == 1.0


def test_a_mean_that_is_no_whole_number_is_quantised_at_run_time(draw_crops: Draw) -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 2)

        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            x = torch.relu(self.convolution((image - 116.28) / 57.12)).mean((2, 3))
            return {"state": self.head(x)}, x

    tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
    crops = draw_crops(16, seed=4)[0]
    model = quantize(export_graph(Centred().eval(), tasks, crops.shape[1]), tasks, crops)
    operators = count_operators(model)
    assert operators["QuantizeLinear"] == 1
    assert operators["Conv"] + operators["FusedConv"] == 0


def test_int8_stays_near_float32(
    float_graph: bytes, int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(64, seed=7)[0]
    float32, int8 = run_graph(float_graph, crops), run_graph(int8_graph, crops)
    for task in ("kind", "state"):
        assert (float32[task].argmax(1) == int8[task].argmax(1)).mean() >= 0.95
        spread = np.ptp(float32[task])
        assert np.abs(float32[task] - int8[task]).max() < 0.1 * spread


def test_int8_gives_the_same_bits_with_one_thread_and_with_two(
    int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(8, seed=8)[0]
    one, two = run_graph(int8_graph, crops, 1), run_graph(int8_graph, crops, 2)
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])


def test_temperatures_can_be_folded_after_quantisation(
    int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(8, seed=9)[0]
    before = run_graph(int8_graph, crops)
    after = run_graph(fold_temperatures(int8_graph, {"state": 1.7}), crops)
    np.testing.assert_allclose(after["state"], before["state"] / 1.7, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(after["kind"], before["kind"])


def test_the_same_crops_give_the_same_bytes(
    network: Network, float_graph: bytes, draw_crops: Draw
) -> None:
    crops = draw_crops(16, seed=2)[0]
    first = quantize(float_graph, network.tasks, crops)
    assert quantize(float_graph, network.tasks, crops) == first


def test_crops_are_not_shown_to_the_same_graph_twice_and_that_changes_no_byte(
    network: Network, float_graph: bytes, draw_crops: Draw, calibrations: list[int]
) -> None:
    crops, others = draw_crops(16, seed=2)[0], draw_crops(8, seed=3)[0]
    nodes = onnx.load_from_string(float_graph).graph.node
    first = next(node.name for node in nodes if node.op_type == "Conv")
    wanted = [(crops, ()), (crops, (first,)), (others, ())]
    alone = [quantize(float_graph, network.tasks, c, exclude=e) for c, e in wanted]
    assert calibrations == [16, 16, 8]
    calibrations.clear()
    ranges = Ranges()
    together = [
        quantize(float_graph, network.tasks, c, exclude=e, ranges=ranges) for c, e in wanted
    ]
    assert together == alone
    assert len(set(together)) == 3
    assert calibrations == [16, 8]


def test_the_type_of_the_activations_is_a_setting(
    network: Network, float_graph: bytes, draw_crops: Draw
) -> None:
    settings = Quantization(activation="int8")
    model = quantize(float_graph, network.tasks, draw_crops(8, seed=2)[0], settings)
    graph = onnx.load_from_string(model).graph
    constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    zeros = [constants[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.int8 for zero in zeros)


def test_refuses_to_calibrate_without_crops(network: Network, float_graph: bytes) -> None:
    with pytest.raises(ValueError, match="at least one crop"):
        quantize(float_graph, network.tasks, np.zeros((0, 32, 32, 3), np.uint8))


def test_calibration_crops_cover_rare_classes_and_rare_groups() -> None:
    targets = np.array([[0]] * 500 + [[1]] * 4)
    groups = ["often"] * 490 + ["seldom"] * 10 + ["a", "a", "a", "b"]
    chosen = calibration_indices(targets, groups, 8)
    assert Counter(targets[chosen, 0].tolist()) == {0: 4, 1: 4}
    assert Counter(groups[i] for i in chosen if i < 500) == {"often": 2, "seldom": 2}


@given(
    rows=st.lists(st.tuples(st.integers(-1, 2), st.sampled_from("abc")), min_size=1, max_size=40),
    count=st.integers(1, 50),
    seed=st.integers(0, 3),
)
def test_calibration_crops_are_distinct_sorted_and_as_many_as_wanted(
    rows: list[tuple[int, str]], count: int, seed: int
) -> None:
    targets = np.array([[label] for label, _ in rows], np.int64)
    chosen = calibration_indices(targets, [group for _, group in rows], count, seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == min(count, len(rows))
    seen = {int(targets[i, 0]) for i in chosen}
    assert len(seen) == min(count, len({label for label, _ in rows}))
