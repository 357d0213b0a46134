"""Sums that come out the same on every processor.

An INT8 sum is computed in floating point: each operand times the ratio of its step to the sum's,
added, rounded. Processors add in different order, with or without a fused multiply-add, and round
halves up or to even: where the true value lies next to a half they part, for a few of a hundred
thousand values, which then spread through the network. Where both ratios are whole numbers over one
odd number, no sum lies next to a half, and every way to compute it rounds to the same side.
Everything else in a fused graph is integer arithmetic and one multiplication.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

_ODD = 255
"""What ratios are over. A sum is then at least 1 / 510 from a half, a hundred times what floating
point loses; and a step of about the sum's grows by 0.4 % at the most."""

Constants = dict[str, npt.NDArray[np.generic]]


def make_sums_exact(model: bytes) -> bytes:
    """Return a QDQ graph in which no sum of two tensors lies next to a half.

    Steps only grow, so that no range is cut; biases follow. An operand of several sums is exact
    in the last of them.

    Args:
        model: What onnxruntime's quantisation, or training on, has given.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    constants: Constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    steps = _new_steps(graph, constants, makers)
    changed = {**steps, **_biases(graph, constants | steps, constants, makers)}
    for value in graph.initializer:
        if value.name in changed:
            value.CopyFrom(numpy_helper.from_array(changed[value.name], value.name))
    return bytes(proto.SerializeToString(deterministic=True))


def _over_odd(step: float, of_sum: float) -> npt.NDArray[np.float32]:
    """Return the least step not below `step` that is whole 255ths of a sum's."""
    units = np.ceil(_ODD * step / of_sum - 1e-5)
    return np.asarray(of_sum * units / _ODD, np.float32)


def _new_steps(
    graph: onnx.GraphProto, constants: Constants, makers: Mapping[str, onnx.NodeProto]
) -> Constants:
    """Return the changed steps by the name of their initializer, from the last sum to the first."""
    readers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    steps: Constants = {}
    for node in reversed(graph.node):
        quantiser = readers.get(node.output[0])
        operands = [makers.get(name) for name in node.input]
        if node.op_type != "Add" or quantiser is None:
            continue
        if any(o is None or o.op_type != "DequantizeLinear" for o in operands):
            continue
        own = quantiser.input[1]
        step = float(steps.get(own, constants[own]))
        for operand in operands:
            name = operand.input[1] if operand is not None else own
            if name != own and name not in steps and constants[name].ndim == 0:
                steps[name] = _over_odd(float(constants[name]), step)
        steps.setdefault(own, constants[own])  # a step that others rely on stays
    return steps


def _biases(
    graph: onnx.GraphProto,
    constants: Constants,
    before: Constants,
    makers: Mapping[str, onnx.NodeProto],
) -> Constants:
    """Return biases of layers whose input's step has changed, and the biases' own steps."""
    found: Constants = {}
    for node in graph.node:
        sources = [makers.get(name) for name in node.input[:3]]
        if node.op_type not in ("Conv", "Gemm") or len(sources) < 3:
            continue
        if any(s is None or s.op_type != "DequantizeLinear" for s in sources):
            continue
        data, weight, bias = (s.input for s in sources if s is not None)
        if constants[data[1]] == before[data[1]]:
            continue
        value = before[bias[0]].astype(np.float64) * before[bias[1]].astype(np.float64)
        step = constants[data[1]].astype(np.float32) * before[weight[1]].astype(np.float32)
        found[bias[0]] = np.round(value / step).astype(np.int32)
        found[bias[1]] = step.reshape(before[bias[1]].shape)
    return found
