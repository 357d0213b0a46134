"""What flows through a graph: values of inner tensors, in float32 and as INT8 rounds them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from export.graph import IMAGE
from transom.crop import Image

Floats = npt.NDArray[np.float32]

_BATCH = 4


def watch(model: bytes, tensors: Sequence[str], crops: Image) -> Iterator[Mapping[str, Floats]]:
    """Yield inner tensors, some crops at a time: a large network's do not fit in memory together.

    Args:
        model: A graph of `export.graph` or `export.quantize`.
        tensors: Their names.
        crops: (N, S, S, 3) uint8 BGR.
    """
    proto = onnx.load_from_string(model)
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in tensors
        if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Every tensor as the graph says it: fused layers would compute some of them only in integers.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory(prefix="transom-") as folder:
        path = Path(folder, "watched.onnx")
        onnx.save(proto, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for start in range(0, len(crops), _BATCH):
        part = np.ascontiguousarray(crops[start : start + _BATCH])
        values = session.run(list(tensors), {IMAGE: part})
        yield dict(zip(tensors, values, strict=True))


def channel_peaks(model: bytes, tensors: Sequence[str], crops: Image) -> dict[str, Floats]:
    """Return the largest magnitude in each channel (C,) of tensors (N, C, ...)."""
    peaks: dict[str, Floats] = {}
    for seen in watch(model, tensors, crops):
        for name, values in seen.items():
            peak = np.abs(values).max(axis=(0, *range(2, values.ndim)))
            peaks[name] = np.maximum(peaks.get(name, peak), peak)
    return peaks


def added_errors(float32: bytes, int8: bytes, crops: Image) -> dict[str, float]:
    """Return, by node of the INT8 graph, how much of its output's information it alone destroys.

    The error of a tensor is the mean over its channels of noise over variance, at most 1 each: a
    single loud channel, which sets the step for all others, cannot hide what those lose. What a
    node adds is the error of its output less the largest error of its inputs.

    Args:
        float32: The graph before quantisation.
        int8: The same in QDQ form.
        crops: (N, S, S, 3) uint8 BGR; some dozens suffice.

    Returns:
        By name of the node whose output is quantised, most harmful first.
    """
    graph = onnx.load_from_string(int8).graph
    makers = {name: node for node in graph.node for name in node.output}
    pairs = _quantised_tensors(graph, makers)
    noise, spread = _channel_noise(float32, int8, pairs, crops)
    errors = {
        name: float(np.minimum(noise[name] / np.maximum(spread[name], 1e-12), 1.0).mean())
        for name in pairs
    }
    behind = {dequantised: name for name, dequantised in pairs.items()}
    added = {}
    for name in pairs:
        node = makers[name]
        before = [errors[behind[i]] for i in node.input if i in behind]
        added[node.name] = errors[name] - max(before, default=0.0)
    return dict(sorted(added.items(), key=lambda entry: -entry[1]))


def _quantised_tensors(
    graph: onnx.GraphProto, makers: Mapping[str, onnx.NodeProto]
) -> dict[str, str]:
    """Return the tensors that are quantised, and the name of each behind its rounding."""
    pairs = {}
    for node in graph.node:
        quantiser = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantiser is None or quantiser.op_type != "QuantizeLinear":
            continue
        name = quantiser.input[0]
        # A reshaped tensor is rounded twice with the same step: the first time tells.
        if name in makers and makers[name].op_type in ("Conv", "Add", "Gemm", "MatMul"):
            pairs[name] = node.output[0]
    return pairs


def _channel_noise(
    float32: bytes, int8: bytes, pairs: Mapping[str, str], crops: Image
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return by tensor the mean square error (C,) and the variance (C,) of each channel."""
    noise: dict[str, list[Floats]] = {name: [] for name in pairs}
    squares: dict[str, list[Floats]] = {name: [] for name in pairs}
    means: dict[str, list[Floats]] = {name: [] for name in pairs}
    exact_parts = watch(float32, list(pairs), crops)
    rounded_parts = watch(int8, list(pairs.values()), crops)
    for exact, rounded in zip(exact_parts, rounded_parts, strict=True):
        for name, dequantised in pairs.items():
            values = exact[name]
            axes = (0, *range(2, values.ndim))
            noise[name].append(((values - rounded[dequantised]) ** 2).mean(axis=axes))
            squares[name].append((values**2).mean(axis=axes))
            means[name].append(values.mean(axis=axes))
    mean = {name: np.mean(parts, axis=0) for name, parts in means.items()}
    spread = {name: np.mean(parts, axis=0) - mean[name] ** 2 for name, parts in squares.items()}
    return {name: np.mean(parts, axis=0) for name, parts in noise.items()}, spread
