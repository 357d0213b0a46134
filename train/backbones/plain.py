"""A plain small network from scratch, for small pictures: digits, icons, a first try.

Four stages of two 3x3 convolutions with ReLU6; every channel count is a multiple of 16, which
is what ARM's integer kernels want.
"""

from train.backbones.layers import plain_stages
from train.backbones.trunk import BACKBONES, Backbone

_CHANNELS = (16, 32, 64, 128)


BACKBONES.add(
    "tiny",
    Backbone(
        name="tiny",
        family="plain",
        about="eight convolutions, for small pictures and a first try",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        channels=_CHANNELS,
        strides=(2, 4, 8, 16),
        int8_friendly=True,
        int8="convolutions and ReLU6; bytes go in as they are",
        stages=lambda: plain_stages(_CHANNELS),
        minimum_size=16,
    ),
)
