"""The ONNX operators of an exported network, in torch: enough of them to train through a graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[..., torch.Tensor]


def _sides(attributes: Attributes, name: str, axes: int, default: int) -> list[int]:
    return list(attributes.get(name, [default] * axes))


def _padded(attributes: Attributes, x: torch.Tensor, value: float = 0.0) -> torch.Tensor:
    """Pad height and width as `pads` says: top, left, bottom, right."""
    top, left, bottom, right = _sides(attributes, "pads", 4, 0)
    if not any((top, left, bottom, right)):
        return x
    return functional.pad(x, (left, right, top, bottom), value=value)


def _convolve(
    attributes: Attributes, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return functional.conv2d(
        _padded(attributes, x),
        weight,
        bias,
        stride=_sides(attributes, "strides", 2, 1),
        dilation=_sides(attributes, "dilations", 2, 1),
        groups=attributes.get("group", 1),
    )


def _pool_largest(attributes: Attributes, x: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(
        _padded(attributes, x, -torch.inf),
        attributes["kernel_shape"],
        _sides(attributes, "strides", 2, 1),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _pool_mean(attributes: Attributes, x: torch.Tensor) -> torch.Tensor:
    kernel, strides = attributes["kernel_shape"], _sides(attributes, "strides", 2, 1)
    mean = functional.avg_pool2d(_padded(attributes, x), kernel, strides)
    if attributes.get("count_include_pad", 0):
        return mean
    inside = functional.avg_pool2d(_padded(attributes, torch.ones_like(x)), kernel, strides)
    return mean / inside


def _clip(
    _: Attributes,
    x: torch.Tensor,
    least: torch.Tensor | None = None,
    most: torch.Tensor | None = None,
) -> torch.Tensor:
    return torch.clamp(x, least, most)


def _pad(
    _: Attributes,
    x: torch.Tensor,
    pads: torch.Tensor,
    value: torch.Tensor | None = None,
    *_rest: torch.Tensor,
) -> torch.Tensor:
    """Pad every axis with a constant: all beginnings, then all ends."""
    half = len(pads) // 2
    sides = [
        int(side) for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])
    ]
    return functional.pad(x, sides, value=0.0 if value is None else float(value))


def _multiply(
    attributes: Attributes, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None
) -> torch.Tensor:
    """Gemm: alpha a b + beta c, a and b turned where the attributes say so."""
    left = a.T if attributes.get("transA", 0) else a
    right = b.T if attributes.get("transB", 0) else b
    product = float(attributes.get("alpha", 1.0)) * (left @ right)
    return product if c is None else product + float(attributes.get("beta", 1.0)) * c


def _reshape(_: Attributes, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """Reshape; 0 keeps an axis."""
    wanted: Sequence[int] = [
        x.shape[axis] if side == 0 else side for axis, side in enumerate(shape.tolist())
    ]
    return x.reshape(wanted)


OPERATORS: Mapping[str, Operator] = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": _pool_mean,
    "Cast": lambda _, x: x.float(),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": _convolve,
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "Gemm": _multiply,
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "Identity": lambda _, x: x,
    "MatMul": lambda _, a, b: a @ b,
    "MaxPool": _pool_largest,
    "Mul": lambda _, a, b: a * b,
    "Pad": _pad,
    "Relu": lambda _, x: torch.relu(x),
    "Reshape": _reshape,
    "Sub": lambda _, a, b: a - b,
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
}
"""By ONNX name: called with the node's attributes and its inputs."""
