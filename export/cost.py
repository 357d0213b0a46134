"""What a network costs: multiplications and parameters, counted in its ONNX graph."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

_LINEAR = ("Conv", "Gemm", "MatMul")


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Size of a network, whatever its precision.

    Attributes:
        macs: Multiply-accumulates of convolutions and linear layers for one crop.
        parameters: Weights and biases of those layers.
    """

    macs: int
    parameters: int


def count_cost(model: bytes) -> Cost:
    """Count a graph of `export.graph` or `export.quantize`; both give the same figures."""
    proto = onnx.load_from_string(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    shapes = _shapes(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    sources = {
        node.output[0]: node.input[0]
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear"
    }
    constants = {v.name: numpy_helper.to_array(v) for v in proto.graph.initializer}
    macs, counted = 0, dict[str, int]()
    for node in proto.graph.node:
        if node.op_type not in _LINEAR:
            continue
        weights = [sources.get(name, name) for name in node.input[1:]]
        counted |= {name: constants[name].size for name in weights if name in constants}
        macs += _macs(node, shapes, constants.get(weights[0]))
    return Cost(macs=macs, parameters=sum(counted.values()))


def _macs(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    weight: npt.NDArray[np.generic] | None,
) -> int:
    outputs = int(np.prod(shapes[node.output[0]]))
    if node.op_type == "Conv" and weight is not None:
        return outputs * int(np.prod(weight.shape[1:]))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return outputs * shapes[node.input[0]][-2 if transposed else -1]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    shapes = {
        value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in values
    }
    return shapes | {v.name: tuple(v.dims) for v in model.graph.initializer}
