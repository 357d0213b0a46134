"""What the daemon's tests share: a small real bundle, scenes to look at, a camera of our own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.capture import CameraStatus, Frame
from transom.bundle import write_bundle
from transom.goldens import Goldens
from transom.manifest import InputSpec, Manifest, TaskSpec, UnknownRule
from transom.signing import load_private_key, new_key

Image = npt.NDArray[np.uint8]

SIZE = 32
STATES = ("closed", "ajar", "open")
KINDS = ("window", "other", "door")
CENTRES = (0.15, 0.5, 0.85)
"""Mean brightness, 0 to 1, at which the tiny network is surest of each state."""
SHARPNESS = 60.0


@dataclass(frozen=True)
class TinyBundle:
    """A signed bundle on disk and the folder of the key that signed it."""

    path: Path
    keys: Path
    private_key: Path


def tiny_manifest(
    *, name: str = "tiny", sequence: int = 1, minimum_runtime: str = "0.1.0"
) -> Manifest:
    return Manifest(
        name=name,
        sequence=sequence,
        created="2026-01-01T00:00:00Z",
        input=InputSpec(size=SIZE, margin=0.0),
        tasks=(
            TaskSpec(
                name="state",
                classes=STATES,
                ordinal=True,
                thresholds=(0.6, 0.6, 0.6),
                unknown=UnknownRule(max_energy=1.2),
            ),
            TaskSpec(name="kind", classes=KINDS, thresholds=(0.5, 0.5, 0.5)),
        ),
        embedding=4,
        precision="float32",
        minimum_runtime=minimum_runtime,
    )


def tiny_model() -> onnx.ModelProto:
    """Return a network whose answers can be worked out by hand.

    `state` is -60 (brightness - centre)^2 for the centres 0.15, 0.5, 0.85 of closed, ajar, open;
    `kind` is 20 x the mean of blue (window), green (other) and red (door); the embedding is the
    three means and the brightness, all 0 to 1.
    """

    def constant(name: str, value: object) -> TensorProto:
        return numpy_helper.from_array(np.asarray(value), name)

    initializers = [
        constant("axes", np.array([1, 2], np.int64)),
        constant("last", np.array([1], np.int64)),
        constant("full", np.float32(255.0)),
        constant("centres", np.array([CENTRES], np.float32)),
        constant("sharpness", np.float32(-SHARPNESS)),
        constant("twenty", np.float32(20.0)),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["levels"], keepdims=0),
        helper.make_node("Div", ["levels", "full"], ["means"]),
        helper.make_node("ReduceMean", ["means", "last"], ["brightness"], keepdims=1),
        helper.make_node("Sub", ["brightness", "centres"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["state"]),
        helper.make_node("Mul", ["means", "twenty"], ["kind"]),
        helper.make_node("Concat", ["means", "brightness"], ["embedding"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", len(STATES)]),
            helper.make_tensor_value_info("kind", TensorProto.FLOAT, ["N", len(KINDS)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4]),
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def tiny_goldens(tolerance: float = 0.01) -> Goldens:
    """Return crops and the logits that `tiny_model` must give, worked out with numpy."""
    rng = np.random.default_rng(5)
    levels = np.array([38, 128, 217])[:, None, None, None]
    crops = np.clip(levels + rng.normal(0, 12, (3, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    crops[:, :, :, 2] = np.clip(crops[:, :, :, 2] + 15.0, 0, 255)
    means = crops.mean(axis=(1, 2), dtype=np.float64) / 255.0
    state = -SHARPNESS * (means.mean(axis=1, keepdims=True) - np.array([CENTRES])) ** 2
    logits = {"state": state.astype(np.float32), "kind": (20.0 * means).astype(np.float32)}
    return Goldens(crops, logits, tolerance)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    """A signed bundle: a dark zone is closed, a middling one ajar, a bright one open."""
    folder = tmp_path_factory.mktemp("tiny")
    new_key(folder / "keys" / "test.key")
    key = load_private_key(folder / "keys" / "test.key")
    path = folder / "tiny.bundle"
    write_bundle(
        path,
        manifest=tiny_manifest(),
        model=tiny_model().SerializeToString(),
        goldens=tiny_goldens(),
        report={},
        key=key,
    )
    return TinyBundle(path, folder / "keys", folder / "keys" / "test.key")


def rounded_model() -> onnx.ModelProto:
    """Return `tiny_model` in QDQ form: levels less 20, cut at 0 and rounded to whole ones.

    A black crop is below 0 before the cut: a session that loses it answers otherwise.
    """
    model = tiny_model()
    graph = model.graph
    for name, value in (("one", 1.0), ("zero", 0.0), ("most", 256.0), ("twenty_levels", 20.0)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.uint8), "zero_point"))
    place = next(i for i, node in enumerate(graph.node) if "levels" in node.output)
    graph.node[place].output[0] = "raw"
    rounding = [
        helper.make_node("Sub", ["raw", "twenty_levels"], ["shifted"]),
        helper.make_node("Clip", ["shifted", "zero", "most"], ["cut"]),
        helper.make_node("QuantizeLinear", ["cut", "one", "zero_point"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "one", "zero_point"], ["levels"]),
    ]
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[: place + 1], *rounding, *nodes[place + 1 :]])
    onnx.checker.check_model(model)
    return model


def often_rounded_model(times: int = 100) -> onnx.ModelProto:
    """Return `rounded_model` with many roundings of its pixels, which are whole as they come.

    It answers the same. Between two roundings is a step that no processor has in integers, so that
    in INT8 every one of them is computed, while in float32 none is: a network that INT8 makes slow
    on every machine, as it makes networks of many small steps slow on some.
    """
    model = rounded_model()
    graph = model.graph
    place = next(i for i, node in enumerate(graph.node) if "float" in node.output)
    graph.node[place].output[0] = "pixels_0"
    steps = []
    for number in range(times):
        whole, back = f"whole_{number}", f"back_{number}"
        after = f"pixels_{number + 1}" if number + 1 < times else "float"
        steps += [
            helper.make_node("QuantizeLinear", [f"pixels_{number}", "one", "zero_point"], [whole]),
            helper.make_node("DequantizeLinear", [whole, "one", "zero_point"], [back]),
            helper.make_node("Abs", [back], [after]),
        ]
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[: place + 1], *steps, *nodes[place + 1 :]])
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def rounded_bundle(tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    """An INT8 bundle that can be run in float32 too, signed by the tiny bundle's key."""
    path = tmp_path_factory.mktemp("rounded") / "rounded.bundle"
    return write_rounded(path, rounded_model(), tiny_bundle)


@pytest.fixture(scope="session")
def slow_in_int8_bundle(
    tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory
) -> TinyBundle:
    """The same bundle with `often_rounded_model`."""
    path = tmp_path_factory.mktemp("often_rounded") / "often_rounded.bundle"
    return write_rounded(path, often_rounded_model(), tiny_bundle)


def write_rounded(path: Path, model: onnx.ModelProto, signed_as: TinyBundle) -> TinyBundle:
    """Write an INT8 bundle with a network that answers as `rounded_model`."""
    crops = np.concatenate([tiny_goldens().crops, np.zeros((1, SIZE, SIZE, 3), np.uint8)])
    levels = np.maximum(crops.mean(axis=(1, 2), dtype=np.float64) - 20.0, 0.0).round()
    means = levels / 255.0
    state = -SHARPNESS * (means.mean(axis=1, keepdims=True) - np.array([CENTRES])) ** 2
    logits = {"state": state.astype(np.float32), "kind": (20.0 * means).astype(np.float32)}
    write_bundle(
        path,
        manifest=msgspec.structs.replace(tiny_manifest(sequence=2), precision="int8"),
        model=model.SerializeToString(),
        goldens=Goldens(crops, logits, 0.001, float32_tolerance=0.2),
        report={},
        key=load_private_key(signed_as.private_key),
    )
    return TinyBundle(path, signed_as.keys, signed_as.private_key)


def draw_scene(
    brightness: float = 40.0, *, seed: int = 0, noise: float = 3.0, height: int = 480
) -> Image:
    """Return a room (H, 4/3 H, 3) whose middle holds a door of a given mean brightness, 0 to 255.

    The door fills x 0.35 to 0.65 and y 0.15 to 0.95 of the frame. Another seed is another
    moment of the same room: only the sensor's noise differs.
    """
    width = height * 4 // 3
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    wall = 110.0 + 30.0 * columns / width - 25.0 * rows / height
    wall[int(0.8 * height) :] = 70.0  # floor
    picture = np.repeat(wall[:, :, None], 3, axis=2)
    picture[int(0.1 * height) : int(0.35 * height), int(0.05 * width) : int(0.25 * width)] = (
        60.0,
        90.0,
        170.0,
    )
    top, bottom = int(0.15 * height), int(0.95 * height)
    left, right = int(0.35 * width), int(0.65 * width)
    frame = int(0.02 * width)
    picture[top - frame : bottom, left - frame : right + frame] = 190.0
    picture[top:bottom, left:right] = brightness
    picture += np.random.default_rng(seed).normal(0.0, noise, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def scene() -> Callable[..., Image]:
    """Draw a room with a door of a given brightness; see `draw_scene`."""
    return draw_scene


class PlayListCamera:
    """A camera that gives the frames of a list, one each time it is asked.

    `None` in the list is a moment without a new frame; at the end of the list the camera has no
    newer frames. What `status` says can be set at any moment.
    """

    def __init__(
        self,
        frames: Iterable[Image | None],
        *,
        name: str = "hall",
        monotonic_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name = name
        self.state: Literal["starting", "online", "gone"] = "starting"
        self.detail = ""
        self.is_started = False
        self._frames = iter(frames)
        self._monotonic_ns = monotonic_ns
        self._number = 0

    def start(self) -> None:
        self.is_started = True

    def stop(self, timeout_s: float = 1.0) -> None:
        self.is_started = False

    def status(self) -> CameraStatus:
        return self.state

    def newest(self) -> Frame | None:
        image = next(self._frames, None)
        if image is None or not self.is_started:
            return None
        self.state = "online"
        self._number += 1
        return Frame(image, self._monotonic_ns(), self._number)


@pytest.fixture
def play_list_camera() -> type[PlayListCamera]:
    """The class of a camera that plays a list of frames."""
    return PlayListCamera
