"""An INT8 network run in float32, from the same file."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edge_runtime.classifier import Classifier
from export.cost import count_cost
from export.graph import export_graph
from export.parity import Limits
from export.quantize import count_operators, quantize
from export.unrounded import judge, keep_clips
from tests.export.conftest import TASKS
from transom.bundle import Bundle
from transom.errors import ClassifierError
from transom.session import open_session
from transom.tasks import Task, TaskSet

Outputs = Mapping[str, npt.NDArray[np.float32]]
RunGraph = Callable[..., Outputs]
Draw = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]


@pytest.fixture(scope="module")
def clipped(int8_graph: bytes) -> bytes:
    return keep_clips(int8_graph)


def in_float32(model: bytes, crops: npt.NDArray[np.uint8]) -> Outputs:
    session = open_session(onnxruntime, model, threads=1, without_rounding=True)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": crops}), strict=True))


def test_int8_is_the_same_to_the_last_bit_and_as_wholly_fused(
    int8_graph: bytes, clipped: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    assert "Clip" in {node.op_type for node in onnx.load_from_string(clipped).graph.node}
    assert count_operators(clipped) == count_operators(int8_graph)
    assert count_cost(clipped) == count_cost(int8_graph)
    crops = draw_crops(32, seed=70)[0]
    before = run_graph(int8_graph, crops)
    for name, values in run_graph(clipped, crops).items():
        np.testing.assert_array_equal(values, before[name])


def test_in_float32_it_is_the_network_that_it_was_made_from(
    float_graph: bytes, clipped: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(32, seed=71)[0]
    original = run_graph(float_graph, crops)
    for name, values in in_float32(clipped, crops).items():
        # Weights and biases went through INT8; hardly anything else did.
        np.testing.assert_allclose(values, original[name], atol=0.05 * np.ptp(original[name]))


def test_without_its_clips_it_would_be_another_network(
    float_graph: bytes, int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(32, seed=71)[0]
    original, found = run_graph(float_graph, crops), in_float32(int8_graph, crops)
    apart = [np.abs(found[n] - v).max() / np.ptp(v) for n, v in original.items()]
    assert max(apart) > 0.2


def test_a_sum_that_is_cut_at_zero_is_cut_in_float32_too(draw_crops: Draw) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
            self.head = nn.Linear(8, 2)

        def forward(self, image: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            x = torch.relu(self.first((image - 127.0) / 128.0))
            x = torch.relu(x + 3.0 * self.second(x)).mean((2, 3))
            return {"state": self.head(x)}, x

    torch.manual_seed(3)
    tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
    crops = draw_crops(16, seed=4)[0]
    graph = export_graph(Residual().eval(), tasks, crops.shape[1])
    model = keep_clips(quantize(graph, tasks, crops))
    nodes = onnx.load_from_string(model).graph.node
    sums = {node.output[0] for node in nodes if node.op_type == "Add"}
    assert any(node.op_type == "Clip" and node.input[0] in sums for node in nodes)
    said = in_float32(model, crops)["embedding"]
    original = open_session(onnxruntime, graph, threads=1).run(["embedding"], {"image": crops})[0]
    np.testing.assert_allclose(said, original, atol=0.05 * np.ptp(original))


def test_what_answers_otherwise_may_not_be_run_so(draw_crops: Draw) -> None:
    targets = draw_crops(40, seed=72)[1]
    rng = np.random.default_rng(0)
    sure = {
        t.name: np.float32(9.0 * np.eye(len(t.classes)))[c]
        for t, c in zip(TASKS, targets.T, strict=True)
    }
    groups = [str(number) for number in range(40)]
    assert judge(TASKS, sure, sure, targets, groups, Limits()).refused == ""
    wrong = {name: values[rng.permutation(40)] for name, values in sure.items()}
    refused = judge(TASKS, sure, wrong, targets, groups, Limits()).refused
    assert refused.startswith("it agrees with float32 on")


def test_an_exported_bundle_runs_in_both_precisions(bundle: Bundle) -> None:
    assert bundle.precisions == ("int8", "float32")
    report = bundle.report["float32"]
    assert report["refused"] == ""
    assert report["tolerance"] == bundle.goldens.float32_tolerance
    assert report["tasks"]["state"]["agreement"] >= bundle.report["limits"]["agreement"]
    crops = bundle.goldens.crops
    answers = []
    for precision in bundle.precisions:
        classifier = Classifier(bundle, precision=precision)
        classifier.check_goldens()
        assert classifier.precision == precision
        answers.append(classifier.classify(crops).embedding)
    assert not np.array_equal(*answers)
    np.testing.assert_allclose(*answers, atol=0.05 * np.ptp(answers[0]))


def test_a_bundle_that_lost_its_clips_fails_its_goldens_in_float32_only(bundle: Bundle) -> None:
    graph = onnx.load_from_string(bundle.model)
    for node in graph.graph.node:
        if node.op_type == "Clip":
            node.op_type = "Identity"
            del node.input[1:]
    broken = replace(bundle, model=graph.SerializeToString())
    Classifier(broken).check_goldens()
    with pytest.raises(ClassifierError, match=r"golden \d is|golden \d differs by"):
        Classifier(broken, precision="float32").check_goldens()
