"""The float32 counterpart of an INT8 graph: the same layers and weights, nothing rounded.

A bundle holds one network. To say what INT8 gains on a machine, its twin is made from it.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.qdq import Layers


def dequantise(model: bytes) -> bytes:
    """Return a QDQ graph without its rounding: float32, one Clip where a range cut negatives off.

    Args:
        model: What `export.quantize.quantize` returned.
    """
    layers = Layers.of(model)
    graph, constants, makers = layers.graph, layers.constants, layers.makers
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            nodes.append(_without_rounding(node, constants, makers, graph))
        elif node.op_type == "DequantizeLinear" and node.input[0] in constants:
            graph.initializer.append(
                numpy_helper.from_array(_weights(node, constants), node.output[0])
            )
        elif node.op_type == "DequantizeLinear" and _is_rounded(node, makers):
            nodes.append(helper.make_node("Identity", [node.input[0]], list(node.output)))
        elif node.op_type == "DequantizeLinear":
            nodes += _from_bytes(node, constants, graph)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return layers.with_nodes(nodes)


def _is_rounded(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    return node.input[0] in makers and makers[node.input[0]].op_type == "QuantizeLinear"


def _without_rounding(
    node: onnx.NodeProto,
    constants: Mapping[str, npt.NDArray[np.generic]],
    makers: Mapping[str, onnx.NodeProto],
    graph: onnx.GraphProto,
) -> onnx.NodeProto:
    """Return what stands for a rounding; ReLU was dropped where the range begins at 0."""
    source, step, zero_point = node.input[:3]
    zero = constants[zero_point]
    least = -128 if zero.dtype == np.int8 else 0
    is_cut = source in makers and makers[source].op_type == "Conv"
    if not is_cut or int(zero) != least:
        return helper.make_node("Identity", [source], list(node.output))
    bounds = (0.0, 255.0 * float(constants[step]))
    names = [f"{node.output[0]}.{end}" for end in ("least", "most")]
    for name, bound in zip(names, bounds, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(bound, np.float32), name))
    return helper.make_node("Clip", [source, *names], list(node.output))


def _weights(
    node: onnx.NodeProto, constants: Mapping[str, npt.NDArray[np.generic]]
) -> npt.NDArray[np.float32]:
    stored, scale = constants[node.input[0]], constants[node.input[1]].astype(np.float32)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    sides = [-1 if place == axis else 1 for place in range(stored.ndim)]
    per_channel = scale.reshape(sides) if scale.ndim else scale
    zero = constants[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.float32(0)
    centred = stored.astype(np.float32) - (zero.reshape(sides) if zero.ndim else zero)
    return np.asarray(centred * per_channel, np.float32)


def _from_bytes(
    node: onnx.NodeProto,
    constants: Mapping[str, npt.NDArray[np.generic]],
    graph: onnx.GraphProto,
) -> list[onnx.NodeProto]:
    """The image's bytes: cast and centred, as before quantisation."""
    cast, centred, name = (f"{node.output[0]}.{part}" for part in ("cast", "centred", "zero"))
    zero = constants[node.input[2]].astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(np.asarray(zero), name))
    return [
        helper.make_node("Cast", [node.input[0]], [cast], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", [cast, name], [centred]),
        helper.make_node("Mul", [centred, node.input[1]], list(node.output)),
    ]
