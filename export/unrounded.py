"""An INT8 network that can also be run in float32, from the same file.

Which precision is faster only the device can tell. The file says where a tensor is rounded;
onnxruntime makes integer layers of that, or leaves the rounding out where it is told to (see
`transom.session`). Quantisation drops each ReLU that the range of the rounding behind it implies,
so without the rounding something else would be computed: the cut is written back as a Clip, which
onnxruntime drops again where it rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.parity import Limits, TaskParity, check_parity, compare
from export.qdq import Layers
from transom.errors import ExportError
from transom.goldens import Logits
from transom.tasks import TaskSet

_CAN_BE_NEGATIVE = ("Conv", "Gemm", "MatMul", "Add", "Sub", "Mul")
_ZERO = "range.zero"


@dataclass(frozen=True)
class Unrounded:
    """How an INT8 network does when it is run in float32.

    Attributes:
        parity: How it compares with the float32 network that it was made from.
        refused: Why it must not be run so; empty where it may.
    """

    parity: tuple[TaskParity, ...] = field(default=())
    refused: str = ""


def keep_clips(model: bytes) -> bytes:
    """Return a QDQ graph in which a Clip stands wherever the range of a rounding cuts negatives.

    Its bounds are those of the range, so onnxruntime finds it needless where it rounds, and the
    integer layers are the same as without it.

    Args:
        model: A graph whose activations are unsigned; others come back as they are.
    """
    layers = Layers.of(model)
    graph, constants, makers = layers.graph, layers.constants, layers.makers
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and _cuts(node, constants, makers):
            source, step = node.input[:2]
            most, clipped = f"{source}.most", f"{source}.clipped"
            graph.initializer.append(numpy_helper.from_array(_largest(constants[step]), most))
            nodes.append(helper.make_node("Clip", [source, _ZERO, most], [clipped]))
            node.input[0] = clipped
        nodes.append(node)
    if len(nodes) > len(graph.node):
        graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), _ZERO))
    return layers.with_nodes(nodes)


def _cuts(
    node: onnx.NodeProto,
    constants: dict[str, npt.NDArray[np.generic]],
    makers: dict[str, onnx.NodeProto],
) -> bool:
    maker, zero = makers.get(node.input[0]), constants[node.input[2]]
    is_unsigned_from_zero = zero.dtype == np.uint8 and zero.size == 1 and not zero.any()
    return is_unsigned_from_zero and maker is not None and maker.op_type in _CAN_BE_NEGATIVE


def _largest(step: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return the end of a range, and one float more: onnxruntime rounds it in a way of its own."""
    end = np.float32(255) * np.float32(step)
    return np.asarray(np.nextafter(end, np.float32(np.inf)), np.float32)


def judge(
    tasks: TaskSet,
    float32: Logits,
    found: Logits,
    targets: npt.NDArray[np.int64],
    groups: Sequence[str],
    limits: Limits,
) -> Unrounded:
    """Say whether an INT8 network may be run in float32: by the limits that INT8 itself must reach.

    Args:
        tasks: The heads.
        float32: What the float32 network says of held-out crops, calibrated, (N, C) by task.
        found: What the INT8 network says of them when it is run in float32.
        targets: (N, T) class indices in the order of `tasks`, -1 = not labelled.
        groups: N group names.
        limits: What must be reached.
    """
    parity = compare(tasks, float32, found, targets, groups, limits)
    try:
        check_parity(parity, limits)
    except ExportError as error:
        return Unrounded(parity, str(error).removeprefix("export stopped: ").replace("INT8", "it"))
    return Unrounded(parity)
