from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from train.network import build_network, predict_logits
from train.predictor import OnnxPredictor, TorchPredictor
from train.recipe import Recipe
from train.run import Facts, Metrics, Run, write_weights
from transom.errors import BundleError
from transom.manifest import InputSpec, Manifest, TaskSpec

SIZE = 32
SPEC = TaskSpec(name="state", classes=("closed", "open"), thresholds=(0.5, 0.5))
MANIFEST = Manifest(
    name="tiny",
    sequence=1,
    created="2026-01-01T00:00:00Z",
    input=InputSpec(size=SIZE, margin=0.1),
    tasks=(SPEC,),
    embedding=3,
    precision="float32",
    minimum_runtime="0.1.0",
)


def _brightness_model(task: str = "state") -> bytes:
    """A network with logits (-mean, mean) of the picture; the embedding is its channels."""
    constants = {
        "axes": np.array([1, 2], np.int64),
        "weights": np.array([[-1.0, 1.0]] * 3, np.float32) / 3,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["embedding"], keepdims=0),
            helper.make_node("MatMul", ["embedding", "weights"], [task]),
        ],
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info(task, TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (5, SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was never trained, with a temperature that is not 1."""
    recipe = Recipe(backbone="tiny", pretrained=False, size=SIZE, margin=0.25)
    facts = Facts(
        created="2026-01-01T00:00:00+00:00", corpus="", rows={}, precision="float32",
        device="cpu", processes=1, versions={}, tasks={},
    )  # fmt: skip
    run = Run(tmp_path / "hall", recipe, facts, Metrics(temperatures={"state": 4.0}, specs=(SPEC,)))
    run.folder.mkdir()
    torch.manual_seed(0)
    write_weights(run.folder, build_network(recipe, run.tasks))
    return run


def test_a_run_answers_with_calibrated_logits(run: Run, crops: np.ndarray) -> None:
    predictor = TorchPredictor(run)
    logits, embedding, _ = predictor(crops)
    raw, expected = predict_logits(run.network(), crops)
    np.testing.assert_allclose(logits["state"], raw["state"] / 4.0, rtol=1e-6)
    np.testing.assert_allclose(embedding, expected, rtol=1e-6)
    assert logits["state"].dtype == embedding.dtype == np.float32


def test_a_run_says_what_it_is(run: Run) -> None:
    predictor = TorchPredictor(run)
    assert (predictor.name, predictor.precision) == ("hall", "float32")
    assert predictor.tasks.names == ("state",)
    assert predictor.specs == (SPEC,)
    assert predictor.input == InputSpec(size=SIZE, margin=0.25)


def test_a_bundle_answers_with_what_its_graph_computes(crops: np.ndarray) -> None:
    predictor = OnnxPredictor(_brightness_model(), MANIFEST, threads=1)
    logits, embedding, _ = predictor(crops)
    means = crops.astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(embedding, means, rtol=1e-5)
    np.testing.assert_allclose(logits["state"][:, 1], means.mean(1), rtol=1e-5)
    np.testing.assert_allclose(logits["state"][:, 0], -means.mean(1), rtol=1e-5)
    assert (predictor.name, predictor.precision) == ("tiny", "float32")
    assert predictor.specs == (SPEC,)
    assert predictor.input == MANIFEST.input


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(BundleError, match="tiny: onnxruntime cannot load the network"):
        OnnxPredictor(b"not a network", MANIFEST)


def test_a_network_without_the_promised_outputs_is_refused() -> None:
    with pytest.raises(BundleError, match=r"must take image and give state, embedding; .*mood"):
        OnnxPredictor(_brightness_model("mood"), MANIFEST)
