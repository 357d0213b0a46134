import subprocess
import sys
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest

from export.benchmark import time_models, usable_cores
from export.cost import count_cost
from export.dequantise import dequantise
from export.quantize import count_operators
from train.cost import network_cost
from train.network import Network
from transom.errors import ClassifierError

RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]
Draw = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]


def test_times_every_setting_in_a_process_of_its_own(float_graph: bytes, int8_graph: bytes) -> None:
    models = {"int8": int8_graph, "float32": float_graph}
    figures = time_models(models, 32, threads=(1,), batches=(1, 4), seconds=0.1)
    settings = [(run.precision, run.threads, run.batch) for run in figures.runs]
    assert settings == [("int8", 1, 1), ("int8", 1, 4), ("float32", 1, 1), ("float32", 1, 4)]
    assert all(0.0 < run.median_ms <= run.p95_ms for run in figures.runs)
    assert figures.load_ms > 0.0


def test_memory_is_that_of_a_device_and_not_of_torch(int8_graph: bytes) -> None:
    figures = time_models({"int8": int8_graph}, 32, threads=(1,), batches=(1,), seconds=0.1)
    assert 20.0 < figures.rss_mb < 150.0
    code = "import sys, export.latency; sys.exit(bool({'torch', 'onnx', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_are_bounded_by_the_cores(int8_graph: bytes) -> None:
    figures = time_models({"int8": int8_graph}, 32, batches=(1,), seconds=0.1)
    threads = [run.threads for run in figures.runs]
    assert threads == list(range(1, min(4, usable_cores()) + 1))


def test_a_network_that_does_not_run_is_named_as_the_cause() -> None:
    with pytest.raises(ClassifierError, match=r"does not run on this machine: .*InvalidProtobuf"):
        time_models({"int8": b"no network"}, 32, threads=(1,), batches=(1,), seconds=0.1)


def test_macs_and_parameters_are_those_of_the_layers(network: Network, float_graph: bytes) -> None:
    cost = count_cost(float_graph)
    # Batch normalisation is folded: each of its channels becomes a bias of the convolution.
    layers = [p for name, p in network.named_parameters() if "norm" not in name]
    biases = [p for name, p in network.named_parameters() if name.endswith("norm.bias")]
    assert cost.parameters == sum(p.numel() for p in [*layers, *biases])
    assert cost.macs == network_cost(network, 32).macs


def test_int8_costs_what_float32_costs(float_graph: bytes, int8_graph: bytes) -> None:
    assert count_cost(int8_graph) == count_cost(float_graph)


def test_the_float32_twin_of_an_int8_network_is_the_network_it_was_made_from(
    float_graph: bytes, int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(32, seed=50)[0]
    twin = dequantise(int8_graph)
    assert count_operators(twin)["QLinearConv"] == 0
    assert count_cost(twin) == count_cost(float_graph)
    original, found = run_graph(float_graph, crops), run_graph(twin, crops)
    for name, values in original.items():
        # Weights and biases went through INT8; nothing else did.
        np.testing.assert_allclose(found[name], values, atol=0.05 * np.ptp(values))
