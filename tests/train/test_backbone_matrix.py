"""Every backbone that is registered learns, becomes an ONNX graph and becomes INT8.

The crops are as small as a backbone takes and two in a batch: what is tested is that all its parts
can do so, not how well. `benchmarks/backbones.py` measures what each costs.
"""

import gc
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from export.cost import count_cost
from export.graph import export_graph
from export.parity import Limits, check_float
from export.quantize import count_operators, quantize
from train.backbones import BACKBONES, Backbone, Trunk
from train.backbones.layers import ReLU6
from train.network import Network, build_network, predict_logits, to_image
from train.recipe import Recipe
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])
FLOAT_KERNELS = ("Conv", "FusedConv", "MatMul", "FusedMatMul", "Add", "Concat", "Resize")
"""What an INT8-friendly network leaves none of in its graph, as it runs."""


INTEGER_LAYERS = (
    torch.nn.Conv2d,
    torch.nn.BatchNorm2d,
    torch.nn.ReLU,
    ReLU6,
    torch.nn.MaxPool2d,
    torch.nn.Dropout,  # timm has some that drop nothing
    torch.nn.Identity,
)


@dataclass(frozen=True)
class Trained:
    """A backbone's network after one step from random weights.

    Attributes:
        backbone: Its facts.
        before: The first weights before the step.
        network: In evaluation mode.
        crops: What it learnt from, (2, S, S, 3) uint8.
    """

    backbone: Backbone
    before: torch.Tensor
    network: Network
    crops: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Exported(Trained):
    """The same, and its graph.

    Attributes:
        graph: ONNX, float32.
    """

    graph: bytes


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=list(BACKBONES))
def trained(request: pytest.FixtureRequest) -> Trained:
    """Each backbone in turn."""
    return train(BACKBONES[request.param])


@pytest.fixture(scope="module", params=list(BACKBONES))
def exported(request: pytest.FixtureRequest) -> Exported:
    """Each backbone in turn, and its graph."""
    trained = train(BACKBONES[request.param])
    gc.disable()  # tracing leaves a tenth of the time to it otherwise
    try:
        graph = export_graph(trained.network, TASKS, len(trained.crops[0]))
    finally:
        gc.enable()
    return Exported(**vars(trained), graph=graph)


def train(backbone: Backbone) -> Trained:
    """Train a backbone's network for one step."""
    torch.manual_seed(1)
    size = backbone.minimum_size
    recipe = Recipe(size=size, backbone=backbone.name, pretrained=False, embedding=16)
    network = build_network(recipe, TASKS)
    before = first_weight(network).detach().clone()
    crops = np.random.default_rng(2).integers(0, 256, (2, size, size, 3), np.uint8)
    logits, _ = network.train()(to_image(torch.from_numpy(crops)))
    loss = torch.nn.functional.cross_entropy(logits["state"], torch.tensor([0, 1]))
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # as in training
    torch.optim.SGD(network.parameters(), lr=1e-2).step()
    network.zero_grad(set_to_none=True)
    return Trained(backbone, before, network.eval(), crops)


def trunk_of(network: Network) -> Trunk:
    trunk = network.fusion.trunk
    assert isinstance(trunk, Trunk)
    return trunk


def first_weight(network: Network) -> torch.Tensor:
    return next(trunk_of(network).parameters())


def test_the_maps_are_as_the_registry_says(trained: Trained) -> None:
    backbone, side = trained.backbone, len(trained.crops[0])
    with torch.inference_mode():
        maps = trunk_of(trained.network)(to_image(torch.from_numpy(trained.crops)))
    assert tuple(m.shape[1] for m in maps) == backbone.channels
    sides = [(m.shape[2], side / stride) for m, stride in zip(maps, backbone.strides, strict=True)]
    # Inception does not pad its first convolutions: its maps lack a rim of a few steps.
    rim = 3 if backbone.family == "inception" else 0
    assert all(int(nominal) - rim <= found <= np.ceil(nominal) for found, nominal in sides)


def test_what_is_called_int8_friendly_has_only_such_layers(trained: Trained) -> None:
    leaves = [m for m in trunk_of(trained.network).modules() if not list(m.children())]
    others = {type(m).__name__ for m in leaves if not isinstance(m, INTEGER_LAYERS)}
    assert trained.backbone.int8
    assert not (trained.backbone.int8_friendly and others)


def test_one_step_moves_the_trunk_and_leaves_it_finite(trained: Trained) -> None:
    assert not torch.equal(first_weight(trained.network), trained.before)
    assert all(p.isfinite().all() for p in trained.network.parameters())


def test_the_graph_gives_what_torch_gives(exported: Exported) -> None:
    logits, embedding = predict_logits(exported.network, exported.crops)
    assert (
        check_float(
            {**logits, "embedding": embedding}, _run(exported.graph, exported.crops), Limits()
        )
        <= Limits().float_difference
    )


def test_every_weight_of_the_network_is_in_the_graph(exported: Exported) -> None:
    cost = count_cost(exported.graph)
    layers = [
        m for m in exported.network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    ]
    weights = sum(layer.weight.numel() for layer in layers)
    # Biases come from normalisation that was folded into its convolution.
    assert weights <= cost.parameters <= 1.05 * weights + 2000
    assert cost.macs > cost.parameters / 1000


def test_int8_runs_and_is_wholly_integer_where_the_registry_says_friendly(
    exported: Exported,
) -> None:
    model = quantize(exported.graph, TASKS, exported.crops)
    exact, found = _run(exported.graph, exported.crops), _run(model, exported.crops)
    assert all(np.isfinite(values).all() for values in found.values())
    size = np.abs(exact["embedding"]).max()
    assert np.abs(found["embedding"] - exact["embedding"]).max() < 0.5 * size
    operators = count_operators(model)
    assert operators["QLinearConv"] > 0
    if exported.backbone.int8_friendly:
        assert {kind: operators[kind] for kind in FLOAT_KERNELS if operators[kind]} == {}


def _run(model: bytes, crops: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": crops}), strict=True))
