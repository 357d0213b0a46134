"""The encoder of a convolutional autoencoder, for data of one's own and no published weights.

It learns to describe pictures without labels (`train.pretrain`); the decoder, which is no part of
the trunk, is in `train.reconstruction`.
"""

from train.backbones.layers import plain_stages
from train.backbones.trunk import BACKBONES, Backbone

_CHANNELS = (32, 64, 128, 192, 256)


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
        stages=lambda: plain_stages(_CHANNELS),
    ),
)
