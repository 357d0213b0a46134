"""The encoder of a convolutional autoencoder, for data of one's own and no published weights.

It learns to describe pictures without labels (`train.pretrain`); the decoder, which is no part of
the trunk, is in `train.reconstruction`.
"""

from torch import nn

from train.backbones.layers import ConvUnit
from train.backbones.trunk import BACKBONES, Backbone

_CHANNELS = (32, 64, 128, 192, 256)


def _stages() -> list[nn.Module]:
    inputs = (3, *_CHANNELS[:-1])
    return [
        nn.Sequential(ConvUnit(before, after, 3, 2), ConvUnit(after, after, 3))
        for before, after in zip(inputs, _CHANNELS, strict=True)
    ]


BACKBONES.add(
    "autoencoder",
    Backbone(
        name="autoencoder",
        family="autoencoder",
        about="encoder of a convolutional autoencoder; pretrain it on pictures without labels",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        channels=_CHANNELS,
        strides=(2, 4, 8, 16, 32),
        int8_friendly=True,
        int8="convolutions and ReLU6; bytes go in as they are",
        stages=_stages,
    ),
)
