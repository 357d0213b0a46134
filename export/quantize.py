"""From the float32 graph to INT8: static quantisation that onnxruntime fuses completely.

Activations are unsigned 8-bit with a zero point, weights signed 8-bit with one scale for each
output channel: the one pairing that fuses wholly on x86 and on ARM and gives the same bits on both.
What follows the trunk's embedding within the last linear layer of a head stays in float: a few
thousand products, whose weights take the temperatures (see `export.graph.fold_temperatures`).
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from msgspec import Meta
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.bias_correction import correct_biases
from export.exact import make_sums_exact
from export.graph import CENTRED, IMAGE, MEAN, PLANES, head_layers
from transom.crop import Image
from transom.tasks import TaskSet

_BATCH = 8
_ACTIVATIONS = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


class Quantization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network becomes INT8.

    Attributes:
        activation: Type of the activations. `uint8` fuses everywhere; `int8` leaves convolutions
            in float on x86 and is for trying on an ARM device only.
        images: How many training crops show the range of each activation. 64 suffice; more than
            256 change nothing but the time.
        bias_correction: Whether biases take up what rounding moves; see `export.bias_correction`.
        seed: Of the choice among equally good crops.
    """

    activation: Literal["uint8", "int8"] = "uint8"
    images: Annotated[int, Meta(ge=1, le=4096)] = 256
    bias_correction: bool = True
    seed: int = 0


class _Crops(CalibrationDataReader):  # type: ignore[misc]
    """Feeds crops, uint8 (N, S, S, 3), in small batches."""

    def __init__(self, crops: Image) -> None:
        self._batches: Iterator[Image] = iter(
            [crops[i : i + _BATCH] for i in range(0, len(crops), _BATCH)]
        )

    def get_next(self) -> dict[str, Image] | None:
        batch = next(self._batches, None)
        return None if batch is None else {IMAGE: np.ascontiguousarray(batch)}


class Ranges:
    """The ranges of activations that crops have shown, by graph and crops.

    Which nodes stay in float changes none of them: a graph that is quantised once more, without
    some of its nodes, need not be shown the same crops again, which takes nearly all of the time.
    """

    def __init__(self) -> None:
        self._found: dict[bytes, bytes] = {}

    @contextmanager
    def of(self, graph: bytes, crops: Image, file: Path) -> Iterator[None]:
        """Put what is known into a file, and take in what stands there in the end.

        Args:
            graph: What the crops are shown to.
            crops: (N, S, S, 3) uint8 BGR.
            file: In the form of `onnxruntime.quantization`.
        """
        shown = hashlib.sha256(graph)
        shown.update(np.ascontiguousarray(crops).data)  # in place: they may fill the memory
        key = shown.digest()
        if key in self._found:
            file.write_bytes(self._found[key])
        yield
        self._found[key] = file.read_bytes()


def quantize(
    model: bytes,
    tasks: TaskSet,
    crops: Image,
    settings: Quantization | None = None,
    *,
    exclude: Collection[str] = (),
    ranges: Ranges | None = None,
) -> bytes:
    """Return the graph in INT8 (QDQ form, which any onnxruntime fuses for its own machine).

    Args:
        model: The float32 graph of `export.graph.export_graph`.
        tasks: Its heads.
        crops: (N, S, S, 3) uint8 BGR, real crops that show the range of each activation.
        settings: How.
        exclude: Names of nodes that stay in float.
        ranges: What was found before, and what is found now; None = nobody asks again.

    Raises:
        ValueError: There are no crops.
    """
    if len(crops) == 0:
        raise ValueError("calibration needs at least one crop, got none")
    settings = settings or Quantization()
    with tempfile.TemporaryDirectory(prefix="transom-") as folder:
        prepared, quantised = Path(folder, "prepared.onnx"), Path(folder, "quantised.onnx")
        _prepare(model, prepared)
        proto = onnx.load(prepared)
        prepared_graph = proto.SerializeToString()
        layers = head_layers(proto, tasks.names)
        found = Path(folder, "ranges.json")
        with (ranges or Ranges()).of(prepared_graph, crops, found):
            quantize_static(
                prepared,
                quantised,
                _Crops(crops),
                quant_format=QuantFormat.QDQ,
                activation_type=_ACTIVATIONS[settings.activation],
                weight_type=QuantType.QInt8,
                per_channel=True,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=[*exclude, *(n for layer in layers.values() for n in layer.nodes)],
                extra_options=_exact_input(proto, settings),
                calibration_cache_path=found,
            )
        result = onnx.load(quantised)
    _feed_bytes(result)
    _forget_tools(result)
    int8 = bytes(result.SerializeToString(deterministic=True))
    if settings.bias_correction:
        # What was prepared, because its filters may have taken in a factor behind them.
        int8 = correct_biases(prepared_graph, int8, crops)
    return make_sums_exact(int8)


def _prepare(model: bytes, prepared: Path) -> None:
    """Fold constants, and infer the shapes that quantisation asks for."""
    proto = onnx.load_from_string(model)
    if all(node.op_type != "ReduceMax" for node in proto.graph.node):
        quant_pre_process(proto, prepared)
        return
    # onnxruntime's symbolic inference stumbles over a ReduceMax whose axes are an input; without it
    # the rest works, but only from a file: weights of a graph in memory are then not found.
    source = prepared.with_name("float32.onnx")
    source.write_bytes(model)
    quant_pre_process(source, prepared, skip_symbolic_shape=True)


def drop_zero_points(model: bytes) -> bytes:
    """Return a QDQ graph without the zero points of weights and biases that are all 0.

    They are what is meant where none is given, and a byte or four for each output channel.
    """
    proto = onnx.load_from_string(model)
    constants = {v.name: numpy_helper.to_array(v) for v in proto.graph.initializer}
    dropped: set[str] = set()
    for node in proto.graph.node:
        is_stored = node.op_type == "DequantizeLinear" and node.input[0] in constants
        if is_stored and len(node.input) == 3 and not constants[node.input[2]].any():
            dropped.add(node.input.pop())
    dropped -= {name for node in proto.graph.node for name in node.input}
    kept = [value for value in proto.graph.initializer if value.name not in dropped]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return bytes(proto.SerializeToString(deterministic=True))


def calibration_indices(
    targets: npt.NDArray[np.int64], groups: Sequence[str], count: int, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Choose rows that cover all classes, and within a class all groups, as evenly as they allow.

    Rows are dealt out like cards: one of each combination of labels, then a second of each, always
    from the group that has given least; a door photographed a thousand times does not crowd out
    one photographed twice.

    Args:
        targets: (N, T) class indices, -1 = not labelled.
        groups: N group names.
        count: How many are wanted; all of them where there are fewer.
        seed: Of the choice among equals.

    Returns:
        Sorted int64 indices, at most `count`.
    """
    labels = [row.tobytes() for row in targets]
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    by_group = _turns(order, [(label, group) for label, group in zip(labels, groups, strict=True)])
    order.sort(key=by_group.__getitem__)
    by_label = _turns(order, labels)
    order.sort(key=by_label.__getitem__)
    return np.sort(np.asarray(order[:count], np.int64))


def _turns(order: Sequence[int], kinds: Sequence[Hashable]) -> dict[int, int]:
    """Return for each index how many of its kind come before it in `order`."""
    seen: Counter[Hashable] = Counter()
    turns: dict[int, int] = {}
    for index in order:
        turns[index] = seen[kinds[index]]
        seen[kinds[index]] += 1
    return turns


def count_operators(model: bytes) -> Counter[str]:
    """Return how often each operator is in the graph as onnxruntime runs it on this machine.

    A `Conv` here is one in float; a wholly fused INT8 network has none.
    """
    with tempfile.TemporaryDirectory(prefix="transom-") as folder:
        path = Path(folder, "optimised.onnx")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3  # says that such a file is not portable; it is not kept
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(path).graph.node)


def _exact_input(model: onnx.ModelProto, settings: Quantization) -> dict[str, object]:
    """Pin the quantisation of the centred pixels to the pixels' own steps, where that is exact.

    `byte - mean` with a whole mean is quantised without any error by scale 1, zero point mean.
    """
    mean = next((v for v in model.graph.initializer if v.name == MEAN), None)
    values = np.zeros(2) if mean is None else numpy_helper.to_array(mean).astype(np.float64)
    is_whole = values.size == 1 and 0 <= values.item() <= 255 and values.item().is_integer()
    if not is_whole or settings.activation != "uint8":
        return {}
    exact = {
        "quant_type": QuantType.QUInt8,
        "scale": np.array(1.0, np.float32),
        "zero_point": np.array(values.item(), np.uint8),
    }
    return {"TensorQuantOverrides": {CENTRED: [exact]}}


def _forget_tools(model: onnx.ModelProto) -> None:
    """Remove what the tools say of themselves, and operator sets that no node is of."""
    del model.metadata_props[:]
    domains = {node.domain for node in model.graph.node}
    used = [opset for opset in model.opset_import if opset.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(used)
    model.producer_name, model.producer_version = "transom", ""


def _feed_bytes(model: onnx.ModelProto) -> None:
    """Drop cast, subtraction and quantisation of the input where they only give the bytes back."""
    nodes = list(model.graph.node)
    constants = {v.name: numpy_helper.to_array(v) for v in model.graph.initializer}
    quantiser = next(
        (n for n in nodes if n.op_type == "QuantizeLinear" and n.input[0] == CENTRED), None
    )
    if quantiser is None:
        return
    scale, zero = constants[quantiser.input[1]], constants[quantiser.input[2]]
    mean = constants[MEAN]
    if zero.dtype != np.uint8 or mean.size != 1 or scale != 1.0 or float(zero) != float(mean):
        return
    for node in nodes:
        for position, name in enumerate(node.input):
            if name == quantiser.output[0]:
                node.input[position] = PLANES
    wanted = {value.name for value in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    initializers = [value for value in model.graph.initializer if value.name in wanted]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
    del model.graph.value_info[:]
