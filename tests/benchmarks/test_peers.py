import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.peer_files import from_pixels
from benchmarks.peer_runtimes import Runtime, open_onnx
from benchmarks.peers import Row, Worker, compare, describe, table
from export.graph import export_graph
from train.network import build_network
from train.recipe import Recipe
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])
SIZE = 32
REFERENCE = [
    {"state": [2.0, -1.0], "embedding": [1.0, 0.0, 3.0]},
    {"state": [-1.5, 0.5], "embedding": [0.0, 2.0, 1.0]},
]


@pytest.fixture(scope="module")
def model() -> bytes:
    recipe = Recipe(backbone="tiny", size=SIZE, pretrained=False)
    return export_graph(build_network(recipe, TASKS).eval(), TASKS, SIZE)


def moved(by: float) -> list[dict[str, list[float]]]:
    return [{k: [v + by for v in values] for k, values in a.items()} for a in REFERENCE]


@pytest.mark.parametrize(("by", "is_right"), [(0.0, True), (0.005, True), (0.2, False)])
def test_float32_answers_must_be_those_of_onnxruntime(by: float, is_right: bool) -> None:
    assert compare(moved(by), REFERENCE, is_int8=False)[1] is is_right


def test_int8_answers_must_point_where_float32_points() -> None:
    assert compare(moved(0.1), REFERENCE, is_int8=True) == (
        "cosine 0.999, 100 % same class",
        True,
    )
    upside_down = [{k: v[::-1] for k, v in answer.items()} for answer in REFERENCE]
    assert not compare(upside_down, REFERENCE, is_int8=True)[1]


def test_a_round_in_which_the_machine_was_busy_does_not_move_the_ratio() -> None:
    ours = np.array([[2.0, 1.0], [9.0, 4.0], [2.0, 1.0]])
    row = describe(Row(network="n", title="t"), 3.0 * ours, ours, "", "")
    assert (row.ratio, row.interval) == (3.0, (3.0, 3.0))
    assert (row.wall_ms, row.cpu_ms) == (6.0, 3.0)


def test_a_peer_that_is_not_installed_is_a_row_that_says_what_to_install(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", np.zeros((1, SIZE, SIZE, 3), np.uint8))
    runtime = Runtime("OpenVINO", open_onnx("x"), package="openvino")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', "utf-8")
    bare.chmod(0o755)
    worker = Worker("openvino", runtime, tmp_path, 1, str(bare))
    worker.close()
    row = Row(network="starter", title=runtime.title, fault=worker.fault)
    assert "| OpenVINO | | | | not installed: pip install openvino |" in table([row])


def test_wrong_answers_are_marked_beside_their_times() -> None:
    times = np.ones((3, 2))
    row = describe(Row(network="n", title="t"), times, times, "differs by 20 %", "answers")
    assert "WRONG: differs by 20 %" in table([row])


def test_the_graph_from_pixels_on_says_what_the_whole_graph_says(model: bytes) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    cut = from_pixels(onnx.load_from_string(model), SIZE)
    whole = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    part = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = crop.transpose(0, 3, 1, 2).astype(np.float32)
    said = part.run(None, {part.get_inputs()[0].name: pixels})
    for ours, theirs in zip(said, whole.run(None, {"image": crop}), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
