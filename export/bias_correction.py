"""Biases that give INT8 the means that float32 has.

Rounding a weight moves the mean of every output channel, by the same amount for all pictures: a
filter of nine weights that all round up is too bright everywhere. Convolutions of one filter a
channel and networks whose normalisation is folded away suffer most. What rounding adds to each
channel's mean is computed layer by layer, with float32's own inputs, and taken out of the bias:
the graph stays as it is, and costs the device nothing.

References:
    Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from export.activations import Floats, watch
from transom.crop import Image

Constants = Mapping[str, npt.NDArray[np.generic]]
Doubles = npt.NDArray[np.float64]

_CROPS = 128


class _Layer(NamedTuple):
    """A convolution in integers.

    Attributes:
        name: Of its node, the same in both graphs.
        source: The tensor that it reads, before rounding.
        step: Name of that tensor's step.
        zero: Name of its zero point.
        weight: Name of the int8 weight.
        weight_steps: Name of the weight's steps.
        bias: Name of the int32 bias.
        bias_steps: Name of the bias's steps.
        groups: Of its channels.
    """

    name: str
    source: str
    step: str
    zero: str
    weight: str
    weight_steps: str
    bias: str
    bias_steps: str
    groups: int


def correct_biases(float32: bytes, int8: bytes, crops: Image) -> bytes:
    """Return the INT8 graph with every convolution's mean output where float32 has it.

    Args:
        float32: The graph before quantisation.
        int8: The same in QDQ form, its nodes of the same names.
        crops: (N, S, S, 3) uint8 BGR, such as those of the calibration; some are taken.
    """
    exact = onnx.load_from_string(float32).graph
    proto = onnx.load_from_string(int8)
    filters = _filters(exact)
    known = {name for node in exact.node for name in node.output}
    layers = [
        layer for layer in _layers(proto.graph) if layer.source in known and layer.name in filters
    ]
    if not layers:  # a network that has no biases, whose normalisation moves nothing
        return int8
    constants = _constants(proto.graph)
    means = _means(float32, layers, constants, crops[:: max(1, len(crops) // _CROPS)])
    changed: dict[str, npt.NDArray[np.int32]] = {}
    for layer in layers:
        before, after = means[layer.source]
        steps = _doubles(constants[layer.weight_steps]).reshape(-1, 1, 1, 1)
        rounded = _doubles(constants[layer.weight]) * steps
        moved = _output_mean(rounded, after, layer.groups)
        weight, bias = filters[layer.name]
        moved -= _output_mean(weight, before, layer.groups)
        bias = (bias - moved) / _doubles(constants[layer.bias_steps])
        changed[layer.bias] = np.round(bias).clip(-(2**31), 2**31 - 1).astype(np.int32)
    for value in proto.graph.initializer:
        if value.name in changed:
            value.CopyFrom(numpy_helper.from_array(changed[value.name], value.name))
    return bytes(proto.SerializeToString(deterministic=True))


def _layers(graph: onnx.GraphProto) -> Iterator[_Layer]:
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        readers = [makers.get(name) for name in node.input]
        if node.op_type != "Conv" or len(readers) != 3:
            continue
        if any(r is None or r.op_type != "DequantizeLinear" for r in readers):
            continue
        data, weight, bias = (r for r in readers if r is not None)
        rounder = makers.get(data.input[0])
        if rounder is None or rounder.op_type != "QuantizeLinear":
            continue  # the picture's own bytes, which are exact
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        yield _Layer(
            name=node.name,
            source=rounder.input[0],
            step=data.input[1],
            zero=data.input[2],
            weight=weight.input[0],
            weight_steps=weight.input[1],
            bias=bias.input[0],
            bias_steps=bias.input[1],
            groups=groups,
        )


def _constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    return {value.name: numpy_helper.to_array(value) for value in graph.initializer}


def _doubles(values: npt.NDArray[np.generic]) -> Doubles:
    return np.asarray(values, np.float64)


def _filters(graph: onnx.GraphProto) -> dict[str, tuple[Doubles, Doubles]]:
    """Return by node weight (O, I / groups, h, w) and bias (O,) of the convolutions."""
    constants = _constants(graph)
    return {
        node.name: (_doubles(constants[node.input[1]]), _doubles(constants[node.input[2]]))
        for node in graph.node
        if node.op_type == "Conv" and len(node.input) == 3 and {*node.input[1:]} <= {*constants}
    }


def _means(
    float32: bytes, layers: list[_Layer], constants: Constants, crops: Image
) -> dict[str, tuple[Doubles, Doubles]]:
    """Return by tensor the mean of each channel (C,), as it is and as INT8 rounds it."""
    rounding = {layer.source: (layer.step, layer.zero) for layer in layers}
    found: dict[str, list[tuple[Doubles, Doubles]]] = {name: [] for name in rounding}
    sizes: dict[str, list[int]] = {name: [] for name in rounding}
    for seen in watch(float32, list(rounding), crops):
        for name, values in seen.items():
            step, zero = (constants[key] for key in rounding[name])
            rounded = _rounded(values, float(step), zero)
            found[name].append((_channel_means(values), _channel_means(rounded)))
            sizes[name].append(len(values))
    return {
        name: (
            np.average([before for before, _ in parts], axis=0, weights=sizes[name]),
            np.average([after for _, after in parts], axis=0, weights=sizes[name]),
        )
        for name, parts in found.items()
    }


def _rounded(values: Floats, step: float, zero: npt.NDArray[np.generic]) -> Floats:
    """Return what QuantizeLinear and DequantizeLinear give."""
    least, most = (0, 255) if zero.dtype == np.uint8 else (-128, 127)
    integers = np.clip(np.round(values / step) + int(zero), least, most)
    return np.asarray((integers - int(zero)) * step, np.float32)


def _channel_means(values: Floats) -> Doubles:
    return np.asarray(values.mean(axis=(0, 2, 3), dtype=np.float64))


def _output_mean(weight: Doubles, means: Doubles, groups: int) -> Doubles:
    """Return the mean of each output channel (O,), without bias; the zeros around are left out."""
    kernel = weight.sum(axis=(2, 3)).reshape(groups, -1, weight.shape[1])
    return np.asarray(np.einsum("goi,gi->go", kernel, means.reshape(groups, -1)).reshape(-1))
