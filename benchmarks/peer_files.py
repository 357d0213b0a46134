"""The files that runtimes are given: one network in each of their formats, in one folder.

What Transom's own libraries write is written here; what needs a peer's converter is written by
that, in the peers' interpreter. Which networks: the starter as it is shipped, and a whole
EfficientNet-Lite0 with ImageNet weights and three random heads: what it says means nothing, but
the numbers are those of a trained network.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from onnx import helper

from benchmarks.peer_runtimes import (
    CROPS,
    FLOAT32,
    FRAME,
    FRIGATE,
    INT8,
    NCNN,
    NETWORK,
    PIXELS,
    TFLITE,
    TFLITE_INT8,
)
from export.graph import IMAGE, export_graph
from export.quantize import quantize
from tests.edge_runtime.conftest import draw_scene
from train.network import Network, build_network
from train.recipe import Recipe
from train.run import read_run
from train.scenes.dataset import generate_dataset
from train.start import starter_run
from transom.bundle import read_bundle
from transom.crop import Image, crop_zone
from transom.dataset import read_dataset
from transom.starter import STARTER, bundle_path
from transom.tasks import Task, TaskSet

LITE0 = "lite0"
NETWORKS = (STARTER, LITE0)
_TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window", "other")),
        Task(name="state", classes=("closed", "ajar", "open"), ordinal=True),
        Task(name="quality", classes=("good", "dark", "covered", "blurred")),
    ]
)
_ROOMS, _PICTURES = 8, 4


def load_network(name: str) -> tuple[Network, TaskSet]:
    """Return one of `NETWORKS` in evaluation mode, and its tasks."""
    if name == STARTER:
        run = read_run(starter_run())
        return run.network(), run.tasks
    torch.manual_seed(0)
    return build_network(Recipe(backbone="efficientnet_lite0"), _TASKS).eval(), _TASKS


def size_of(name: str) -> int:
    """Return the side of a network's crops in pixels."""
    return read_run(starter_run()).recipe.size if name == STARTER else Recipe().size


def write_networks(name: str, folder: Path) -> None:
    """Write a network for Transom's own libraries, and the crops that it is tried with.

    What converters made of another network is removed; of the same it stays.

    Raises:
        ExportError: The network cannot be exported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network, tasks = load_network(name)
    size = size_of(name)
    crops = draw_crops(size)
    np.save(folder / CROPS, crops)
    np.save(folder / FRAME, draw_scene(60, noise=3.0))
    model = export_graph(network, tasks, size)
    if not (folder / FLOAT32).exists() or (folder / FLOAT32).read_bytes() != model:
        for converted in (TFLITE, TFLITE_INT8, f"{NCNN}.param"):
            (folder / converted).unlink(missing_ok=True)
    (folder / FLOAT32).write_bytes(model)
    shipped = read_bundle(bundle_path(STARTER), None).model if name == STARTER else None
    (folder / INT8).write_bytes(shipped or quantize(model, tasks, crops))
    proto = onnx.load_from_string(model)
    (folder / PIXELS).write_bytes(from_pixels(proto, size).SerializeToString())
    outputs = [output.name for output in proto.graph.output]
    (folder / NETWORK).write_text(json.dumps({"name": name, "outputs": outputs}), "utf-8")


def draw_crops(size: int) -> Image:
    """Draw rooms and return their zones, uint8 (N, S, S, 3) BGR."""
    with tempfile.TemporaryDirectory() as folder:
        generate_dataset(Path(folder), groups=_ROOMS, pictures=_PICTURES, seed=5, is_plain=True)
        rows = read_dataset(Path(folder)).rows
        frames = [cv2.imread(str(Path(folder, row.image))) for row in rows]
        return np.stack(
            [crop_zone(f, row.zone, size, 0.1) for f, row in zip(frames, rows, strict=True)]
        )


def from_pixels(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """Return the graph from its floating-point pixels on, float32 (1, 3, S, S) BGR, 0 to 255.

    OpenCV and pnnx take no bytes.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    pixels = next(n.output[0] for n in graph.node if n.op_type == "Cast" and IMAGE in n.output[0])
    kept = [node for node in graph.node if node.op_type not in ("Transpose", "Cast")]
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    shape = [1, 3, size, size]
    graph.input.append(helper.make_tensor_value_info(pixels, onnx.TensorProto.FLOAT, shape))
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(cut, full_check=True)
    return cut


def convert(python: str, folder: Path, size: int) -> list[str]:
    """Have the peers' converters write what is missing, and return why one could not.

    Args:
        python: Their interpreter.
        folder: Where `write_networks` wrote.
        size: Side of the crops in pixels.
    """
    written_by = {
        TFLITE_INT8: [python, "-m", "benchmarks.tflite_files", "ours", str(folder)],
        FRIGATE: [python, "-m", "benchmarks.tflite_files", "frigate", str(folder)],
        f"{NCNN}.param": [
            str(Path(python).parent / "pnnx"),
            str(folder / PIXELS),
            f"inputshape=[1,3,{size},{size}]",
            f"ncnnparam={folder / NCNN}.param",
            f"ncnnbin={folder / NCNN}.bin",
        ],
    }
    faults = {k: _run(v) for k, v in written_by.items() if not (folder / k).exists()}
    return [f"{file}: {fault}" for file, fault in faults.items() if fault]


def _run(command: list[str]) -> str:
    """Run a converter, and return its last words if it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"not installed ({Path(command[0]).name})"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
