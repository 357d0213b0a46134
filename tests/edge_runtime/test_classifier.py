"""The network of a bundle: what it answers, and what is refused before it serves."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_runtime.classifier import Classifier
from transom.bundle import Bundle, read_bundle
from transom.errors import ClassifierError
from transom.manifest import InputSpec, TaskSpec
from transom.prediction import UNKNOWN_INDEX
from transom.signing import load_trusted_keys

SIZE = 32


class TinyBundle(Protocol):
    path: Path
    keys: Path


@pytest.fixture(scope="module")
def bundle(tiny_bundle: TinyBundle) -> Bundle:
    return read_bundle(tiny_bundle.path, load_trusted_keys(tiny_bundle.keys))


def flat(*levels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.repeat(
        np.array(levels, np.uint8)[:, None, None, None], SIZE * SIZE * 3, axis=1
    ).reshape(-1, SIZE, SIZE, 3)


def with_model(bundle: Bundle, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    model = onnx.load_from_string(bundle.model)
    change(model)
    return replace(bundle, model=model.SerializeToString())


def test_says_of_each_crop_what_its_pixels_say(bundle: Bundle) -> None:
    answers = Classifier(bundle).classify(flat(38, 128, 217))

    assert answers.predictions["state"].classes.tolist() == [0, 1, 2]
    assert answers.predictions["state"].probabilities.shape == (3, 3)
    assert answers.embedding.dtype == np.float32
    np.testing.assert_allclose(answers.embedding[1], [128 / 255] * 4, atol=1e-6)


def test_a_brightness_between_two_states_is_unknown(bundle: Bundle) -> None:
    answers = Classifier(bundle).classify(flat(83))

    assert answers.predictions["state"].classes.tolist() == [UNKNOWN_INDEX]


def test_many_crops_give_what_each_gives_alone(bundle: Bundle) -> None:
    classifier = Classifier(bundle)
    crops = np.random.default_rng(1).integers(0, 256, (37, SIZE, SIZE, 3), np.uint8)

    together = classifier.classify(crops)
    alone = [classifier.classify(crops[i : i + 1]) for i in range(len(crops))]

    np.testing.assert_allclose(
        together.predictions["kind"].probabilities,
        np.concatenate([a.predictions["kind"].probabilities for a in alone]),
        atol=1e-6,
    )
    assert together.embedding.shape == (37, 4)


def test_no_crops_give_no_answers(bundle: Bundle) -> None:
    answers = Classifier(bundle).classify(np.zeros((0, SIZE, SIZE, 3), np.uint8))

    assert answers.predictions["state"].classes.shape == (0,)
    assert answers.embedding.shape == (0, 4)


def test_refuses_crops_of_another_size(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"crops must be \(N, 32, 32, 3\) uint8, got \(1, 16"):
        Classifier(bundle).classify(np.zeros((1, 16, 16, 3), np.uint8))


def test_passes_its_own_goldens(bundle: Bundle) -> None:
    Classifier(bundle).check_goldens()


def test_goldens_beyond_the_tolerance_are_refused(bundle: Bundle) -> None:
    logits = {name: value.copy() for name, value in bundle.goldens.logits.items()}
    logits["state"][1] += 0.05
    off = replace(bundle, goldens=replace(bundle.goldens, logits=logits))

    with pytest.raises(ClassifierError, match=r"golden 1 differs by 0\.0\d+ in task 'state'"):
        Classifier(off).check_goldens()


def test_goldens_of_another_class_are_refused_within_the_tolerance(bundle: Bundle) -> None:
    logits = {name: value[:, ::-1].copy() for name, value in bundle.goldens.logits.items()}
    off = replace(bundle, goldens=replace(bundle.goldens, logits=logits, tolerance=99.0))

    with pytest.raises(ClassifierError, match="golden 0 is 'closed' here, must be 'open'"):
        Classifier(off).check_goldens()


def test_bytes_that_are_no_network_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ClassifierError, match="tiny 1: network cannot be loaded"):
        Classifier(replace(bundle, model=b"not a network"))


def test_an_input_that_does_not_fit_the_manifest_is_refused(bundle: Bundle) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, input=InputSpec(size=64))

    with pytest.raises(ClassifierError, match=r"one input, image uint8 \(N, 64, 64, 3\)"):
        Classifier(replace(bundle, manifest=manifest))


def test_a_task_that_the_network_does_not_answer_is_refused(bundle: Bundle) -> None:
    extra = TaskSpec(name="lock", classes=("locked", "free"), thresholds=(0.5, 0.5))
    manifest = msgspec.structs.replace(bundle.manifest, tasks=(*bundle.manifest.tasks, extra))

    with pytest.raises(ClassifierError, match=r"must have the outputs .*'lock'"):
        Classifier(replace(bundle, manifest=manifest))


def test_an_output_that_the_manifest_does_not_name_is_refused(bundle: Bundle) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.output.append(
            helper.make_tensor_value_info("brightness", TensorProto.FLOAT, ["N", 1])
        )

    with pytest.raises(ClassifierError, match=r"has .*'brightness'"):
        Classifier(with_model(bundle, change))


def test_a_network_that_answers_with_no_numbers_is_refused(bundle: Bundle) -> None:
    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == "twenty":
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(np.array(np.nan, np.float32), "twenty")
                )

    with pytest.raises(ClassifierError, match="output 'kind' must be finite"):
        Classifier(with_model(bundle, change))


def test_weights_outside_the_bundle_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "weights.bin"
    outside.write_bytes(np.array([[0.1, 0.2, 0.3]], np.float32).tobytes())

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == "centres":
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in (("location", str(outside)), ("offset", "0"), ("length", "12")):
                    tensor.external_data.add(key=key, value=value)

    with pytest.raises(ClassifierError, match="network cannot be loaded"):
        Classifier(with_model(bundle, change))


def test_nothing_else_of_the_daemon_imports_onnxruntime() -> None:
    modules = "capture, frame_ring, models, motion, picture, redaction, sources"
    code = (
        f"from edge_runtime import {modules}; import sys; "
        "bad = {'onnxruntime', 'onnx', 'torch', 'train', 'export'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_networks_that_are_loaded_one_after_another_do_not_fill_the_memory(
    tiny_bundle: Any,
) -> None:
    code = f"""
import os
from pathlib import Path
from edge_runtime.classifier import Classifier
from edge_runtime.memory import give_back_memory
from transom.bundle import read_bundle
bundle = read_bundle(Path({str(tiny_bundle.path)!r}), None)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
for number in range(60):
    Classifier(bundle).check_goldens()
    give_back_memory()
    if number == 10:
        settled = resident()
print((resident() - settled) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 2.0
