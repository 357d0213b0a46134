"""Every way of sharing leaves the workstation as one integer graph that takes bytes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from export.cost import count_cost
from export.graph import export_graph
from export.parity import Limits
from export.pipeline import export_run
from export.quantize import count_operators, quantize
from export.recipe import ExportRecipe
from train.corpus import load_corpus
from train.cost import network_cost
from train.fit import fit
from train.network import Network, build_network, predict_logits, to_image
from train.recipe import Recipe
from transom.bundle import read_bundle
from transom.manifest import InputSpec
from transom.signing import load_private_key
from transom.tasks import Task, TaskSet

RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]
Draw = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]

SIZE = 32
TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window")),
        Task(name="state", classes=("closed", "ajar", "open"), ordinal=True),
    ]
)
ALL_MAPS = ["edge", "texture", "binary_pattern"]
WAYS = {
    "attention": {"fusion": "attention"},
    "cross_stitch": {"fusion": "cross_stitch"},
    "mmoe": {"fusion": "mmoe"},
    "cgc": {"fusion": "cgc"},
    "early": {"maps": ALL_MAPS, "maps_fusion": "early"},
    "late": {"maps": ALL_MAPS, "maps_fusion": "late"},
}
INTEGER = {
    "QGemm", "QLinearAdd", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool",
    "QLinearMatMul", "QLinearMul", "QLinearSoftmax",
}  # fmt: skip
MOVES = {"Gather", "Reshape", "Split", "Transpose", "Unsqueeze"}
HEADS = {"DequantizeLinear", "Gemm"}


@pytest.fixture(scope="module", params=WAYS)
def trained(request: pytest.FixtureRequest, draw_crops: Draw) -> Network:
    torch.manual_seed(0)
    plain = Recipe(
        size=SIZE, margin=0.0, backbone="tiny", pretrained=False, embedding=16, dropout=0.0
    )
    network = build_network(plain.with_values(WAYS[request.param]), TASKS)
    crops, targets = draw_crops(64, seed=1)
    image, truth = to_image(torch.from_numpy(crops)), torch.from_numpy(targets)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for _ in range(25):
        logits, _ = network(image)
        losses = [
            torch.nn.functional.cross_entropy(logits[task.name], truth[:, column])
            for column, task in enumerate(TASKS)
        ]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    return network.eval()


def test_the_bundle_s_graph_is_the_network(
    trained: Network, draw_crops: Draw, run_graph: RunGraph
) -> None:
    graph = export_graph(trained, TASKS, SIZE)
    crops, targets = draw_crops(64, seed=3)
    logits, embedding = predict_logits(trained, crops)
    float32 = run_graph(graph, crops)
    for name, values in {**logits, "embedding": embedding}.items():
        np.testing.assert_allclose(float32[name], values, atol=1e-4 * np.abs(values).max())
    nodes = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert nodes[:4] == ["Transpose", "Cast", "Sub", "Conv"]

    model = quantize(graph, TASKS, draw_crops(48, seed=2)[0])
    assert set(count_operators(model)) <= INTEGER | MOVES | HEADS
    assert count_operators(model)["Gemm"] == len(TASKS)
    int8 = run_graph(model, crops)
    for column, task in enumerate(TASKS):
        said = int8[task.name].argmax(1)
        assert (said == float32[task.name].argmax(1)).mean() >= 0.95
        assert (said == targets[:, column]).mean() >= 0.9

    assert count_cost(model).macs == count_cost(graph).macs
    assert count_cost(graph).macs == network_cost(trained, SIZE).macs


def test_a_bundle_says_how_its_crops_are_made_and_how_its_tasks_share(
    pictures: Path, key: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        size=SIZE, margin=0.0, preprocess=("median", "brighten"), backbone="tiny", fusion="mmoe",
        maps=("edge",), maps_fusion="late", embedding=16, epochs=6, batch=16, learning_rate=3e-3,
        average=0.0,
    )  # fmt: skip
    corpus = load_corpus([pictures], size=SIZE, margin=0.0, steps=recipe.preprocess)
    run = fit(recipe, corpus, tmp_path / "run", datasets=[pictures])
    path = tmp_path / "bars.bundle"
    loose = ExportRecipe(limits=Limits(agreement=0.5, confident_agreement=0.5, drop=1.0))
    export_run(run, corpus, path, load_private_key(key), name="bars", recipe=loose)
    bundle = read_bundle(path, None)
    assert bundle.manifest.input == run.input
    assert run.input == InputSpec(size=SIZE, margin=0.0, preprocess=("median", "brighten"))
    assert bundle.manifest.training["fusion"] == "mmoe"
    assert bundle.manifest.training["maps"] == ["edge"]
    known = {crop.tobytes() for crop in corpus.crops}
    assert {crop.tobytes() for crop in bundle.goldens.crops} <= known
