"""LeNet for digits: two convolutions with pooling, then a layer that sees the whole picture.

LeNet-5's layout for 32-pixel pictures, with what has become usual since: the largest value in
place of the mean when pooling, clamped linear units, batch normalisation, and convolutions that
keep the size of the map. Its third layer is a filter as large as the map it meets, so that where
something is decides what it says; on larger pictures that filter takes steps of its own width.

References:
    LeCun, Bottou, Bengio and Haffner, Gradient-based Learning Applied to Document Recognition,
    Proceedings of the IEEE 86 (1998).
"""

from torch import nn

from train.backbones.layers import ConvUnit
from train.backbones.trunk import BACKBONES, Backbone

_CHANNELS = (6, 16, 120)
_WHOLE = 8  # a 32-pixel picture after two poolings


def _stages() -> list[nn.Module]:
    first, second, third = _CHANNELS
    return [
        nn.Sequential(ConvUnit(3, first, 5), nn.MaxPool2d(2)),
        nn.Sequential(ConvUnit(first, second, 5), nn.MaxPool2d(2)),
        ConvUnit(second, third, _WHOLE, _WHOLE),
    ]


BACKBONES.add(
    "lenet",
    Backbone(
        name="lenet",
        family="lenet",
        about="LeNet-5, for digits of 32 pixels and published comparisons",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        channels=_CHANNELS,
        strides=(2, 4, 4 * _WHOLE),
        int8_friendly=True,
        int8="convolutions, ReLU6 and pooling; bytes go in as they are",
        stages=_stages,
        minimum_size=32,
    ),
)
