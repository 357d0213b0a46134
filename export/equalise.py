"""Cross-layer equalisation: the same network with channels that are alike in range.

INT8 has one step for all channels of an activation. Where one channel reaches a hundred times as
far as another, the quiet one is rounded to nothing. Between two convolutions with nothing but ReLU,
ReLU6 or a mean over the map between them, a channel can be scaled up in the first and down in the
second, and the network stays what it is.

References:
    Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV
    2019. Here the ranges of the activations are measured, because weights have a step for each
    output channel anyway.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from export.activations import channel_peaks
from transom.crop import Image

Floats = npt.NDArray[np.float32]

_HOMOGENEOUS = ("Relu", "Clip", "GlobalAveragePool")
_LARGEST_SCALE = 1e4


@dataclass(frozen=True)
class _Pair:
    """Two convolutions, by their place in the graph, and the tensor that the second reads."""

    first: int
    second: int
    tensor: str


def equalise(model: bytes, crops: Image) -> bytes:
    """Return a float32 graph that says the same, with channels of like range where it can.

    Exactly the same with ReLU; with ReLU6 the same for every value that `crops` show, because a
    scaled channel meets the 6 no earlier than at the largest of them.

    Args:
        model: A graph of `export.graph.export_graph`.
        crops: (N, S, S, 3) uint8 BGR that show the range of each channel.
    """
    proto = onnx.load_from_string(model)
    pairs = _pairs(proto.graph)
    peaks = channel_peaks(model, sorted({pair.tensor for pair in pairs}), crops)
    for pair in pairs:
        _balance(proto.graph, pair, peaks[pair.tensor])
    return bytes(proto.SerializeToString(deterministic=True))


def _pairs(graph: onnx.GraphProto) -> list[_Pair]:
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    for value in graph.output:
        readers.setdefault(value.name, []).append(len(graph.node))
    found = []
    for index, node in enumerate(graph.node):
        if node.op_type != "Conv":
            continue
        second = _follow(graph, readers, node.output[0])
        if second is not None and _suits(graph, index, second):
            found.append(_Pair(index, second, graph.node[second].input[0]))
    return found


def _follow(
    graph: onnx.GraphProto, readers: Mapping[str, Sequence[int]], tensor: str
) -> int | None:
    """Return the convolution behind a tensor, where what is between only keeps or zeroes it."""
    while True:
        after = readers.get(tensor, [])
        if len(after) != 1 or after[0] == len(graph.node):
            return None
        node = graph.node[after[0]]
        if node.op_type == "Conv" and node.input[0] == tensor:
            return after[0]
        if node.op_type not in _HOMOGENEOUS or not _starts_at_zero(graph, node):
            return None
        tensor = node.output[0]


def _starts_at_zero(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    if node.op_type != "Clip":
        return True
    lower = _weight(graph, node.input[1]) if len(node.input) > 1 else None
    return lower is not None and float(lower) == 0.0


def _suits(graph: onnx.GraphProto, first: int, second: int) -> bool:
    weight, after = (_weight(graph, graph.node[index].input[1]) for index in (first, second))
    if weight is None or after is None:
        return False
    return _groups(graph.node[second]) == 1 or after.shape[1] == 1


def _balance(graph: onnx.GraphProto, pair: _Pair, peaks: Floats) -> None:
    first, second = graph.node[pair.first], graph.node[pair.second]
    after = _weight(graph, second.input[1])
    if after is None:
        return
    is_dense = _groups(second) == 1
    scale = _scales(peaks, np.abs(after).max(axis=(0, 2, 3)) if is_dense else None)
    for place in range(1, len(first.input)):
        values = _weight(graph, first.input[place])
        if values is not None:
            shaped = scale.reshape(-1, *[1] * (values.ndim - 1))
            _replace(graph, first, place, values * shaped)
    by_input = scale.reshape(1, -1, 1, 1) if is_dense else scale.reshape(-1, 1, 1, 1)
    _replace(graph, second, 1, after / by_input)


def _scales(peaks: Floats, weights: Floats | None) -> Floats:
    """Return the factor (C,) of each channel; the largest peak stays where it is.

    A layer that filters each channel on its own has a step for each of its weights: all channels
    then get the same range. A dense one sums over channels with one step, so the unevenness is
    shared between activation and weight, each getting the root of it.
    """
    is_alive = peaks > 0
    if weights is not None:
        is_alive &= weights > 0
    scale = np.ones_like(peaks)
    if not is_alive.any():
        return scale
    wanted = 1.0 / peaks[is_alive]
    if weights is not None:
        wanted = np.sqrt(weights[is_alive] * wanted)
    wanted = wanted * peaks.max() / (wanted * peaks[is_alive]).max()
    scale[is_alive] = np.clip(wanted, 1 / _LARGEST_SCALE, _LARGEST_SCALE)
    return scale.astype(np.float32)


def _groups(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _weight(graph: onnx.GraphProto, name: str) -> Floats | None:
    found = next((value for value in graph.initializer if value.name == name), None)
    return None if found is None else np.asarray(numpy_helper.to_array(found), np.float32)


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, place: int, values: Floats) -> None:
    name = node.input[place]
    old = next(value for value in graph.initializer if value.name == name)
    new = numpy_helper.from_array(np.asarray(values, np.float32), name)
    if sum(name in other.input for other in graph.node) > 1:  # others keep the weights they share
        new.name = f"{name}.{node.name}"
        node.input[place] = new.name
        graph.initializer.append(new)
    else:
        old.CopyFrom(new)
