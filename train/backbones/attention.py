"""EfficientNet-Lite0 with one transformer block upon its last map.

The trunk has seen ImageNet, the block starts from scratch: at 128 pixels it lets 16 places look at
one another, which convolutions of 5 by 5 do only little by little.

References:
    Vaswani et al., Attention Is All You Need, NeurIPS 2017; Xiong et al., On Layer Normalization in
    the Transformer Architecture, ICML 2020 (normalisation first); Chu et al., Conditional
    Positional Encodings for Vision Transformers, ICLR 2023 (a convolution says where a place is).
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from train.backbones.efficientnet_lite import STRIDES, lite_channels, lite_stages, lite_weights
from train.backbones.layers import ConvUnit
from train.backbones.trunk import BACKBONES, Backbone, PretrainedWeights, Trunk

_WIDTH = 256
_HEADS = 4


class TransformerStage(nn.Module):
    """Narrows a map, tells each place where it is, and lets all places look at one another.

    Args:
        inputs: Channels of the map before.
        width: Channels of the map after; a multiple of `heads`.
        heads: Of the attention.
    """

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.narrow = ConvUnit(inputs, width, 1)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.before_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.before_mixing = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, h, w) to (N, width, h, w)."""
        narrow = self.narrow(x)
        placed = narrow + self.position(narrow)
        tokens = placed.flatten(2).transpose(1, 2)  # (N, h w, width)
        tokens = tokens + self._attend(self.before_attention(tokens))
        tokens = tokens + self.mix(self.before_mixing(tokens))
        seen: torch.Tensor = tokens.transpose(1, 2).reshape(placed.shape)
        return seen

    def _attend(self, tokens: torch.Tensor) -> torch.Tensor:
        count, width = tokens.shape[1:]
        shape = (-1, count, 3, self._heads, width // self._heads)
        query, key, value = self.query_key_value(tokens).view(shape).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        attended: torch.Tensor = self.attended(seen.transpose(1, 2).reshape(-1, count, width))
        return attended


def _stages() -> list[nn.Module]:
    return [*lite_stages(0), TransformerStage(lite_channels(0)[-1], _WIDTH, _HEADS)]


def _pretrained_parts(trunk: Trunk) -> Sequence[nn.Module]:
    return list(trunk.stages)[:-1]


BACKBONES.add(
    "efficientnet_lite0_attention",
    Backbone(
        name="efficientnet_lite0_attention",
        family="attention",
        about="EfficientNet-Lite0 with one transformer block upon its last map",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        channels=(*lite_channels(0), _WIDTH),
        strides=(*STRIDES, STRIDES[-1]),
        int8_friendly=False,
        int8="layer normalisation stays in float between integer products",
        stages=_stages,
        weights=PretrainedWeights(**{**vars(lite_weights(0)), "parts": _pretrained_parts}),
    ),
)
