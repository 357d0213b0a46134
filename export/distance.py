"""The distance from training pictures as part of the graph: the device computes none itself."""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper, numpy_helper

from export.graph import EMBEDDING
from train.unlike import Distance
from transom.manifest import DISTANCE

_PREFIX = f"{DISTANCE}."


def append_distance(model: bytes, distance: Distance) -> bytes:
    """Return the graph with one more output, `distance`, float32 (N, 1).

    Its few operators stand behind the embedding and stay in float whatever comes before them.

    Args:
        model: A graph with the output `embedding`, float32 (N, D).
        distance: Fitted on what this very graph says, of the same D.
    """
    proto = onnx.load_from_string(model)
    tensors = {
        "mean": distance.mean,
        "quadratic": distance.quadratic,
        "linear": distance.linear,
        "constant": distance.constant,
    }
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, _PREFIX + name) for name, value in tensors.items()
    )
    proto.graph.initializer.append(
        helper.make_tensor(f"{_PREFIX}axes", onnx.TensorProto.INT64, [1], [1])
    )
    proto.graph.node.extend(
        [
            helper.make_node("Sub", [EMBEDDING, f"{_PREFIX}mean"], [f"{_PREFIX}from_mean"]),
            _node("MatMul", ["from_mean", "quadratic"], "turned"),
            _node("Mul", ["turned", "from_mean"], "products"),
            _node("ReduceSum", ["products", "axes"], "whole", keepdims=1),
            _node("MatMul", ["from_mean", "linear"], "pulls"),
            _node("Add", ["pulls", "constant"], "by_class"),
            _node("ReduceMin", ["by_class", "axes"], "nearest", keepdims=1),
            helper.make_node("Add", [f"{_PREFIX}whole", f"{_PREFIX}nearest"], [DISTANCE]),
        ]
    )
    batch = next(value for value in proto.graph.output if value.name == EMBEDDING)
    rows = batch.type.tensor_type.shape.dim[0]
    output = helper.make_tensor_value_info(DISTANCE, onnx.TensorProto.FLOAT, [None, 1])
    output.type.tensor_type.shape.dim[0].CopyFrom(rows)
    proto.graph.output.append(output)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _node(operator: str, inputs: Sequence[str], output: str, **axes: Any) -> onnx.NodeProto:
    names = [_PREFIX + name for name in inputs]
    return helper.make_node(operator, names, [_PREFIX + output], **axes)
