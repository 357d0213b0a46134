"""Backbones by name; one file a family. `BACKBONES["efficientnet_lite0"].trunk(pretrained=True)`.

Importing a family builds nothing, reads no weights and imports no library of architectures.
"""

from train.backbones import (
    attention,
    autoencoder,
    deeplab,
    efficientnet_lite,
    inception,
    lenet,
    mobilenet,
    plain,
    resnet,
    vgg,
)
from train.backbones.trunk import (
    BACKBONES,
    Backbone,
    PretrainedWeights,
    Trunk,
    WeightsNotFoundError,
)

__all__ = [
    "BACKBONES",
    "Backbone",
    "PretrainedWeights",
    "Trunk",
    "WeightsNotFoundError",
    "attention",
    "autoencoder",
    "deeplab",
    "efficientnet_lite",
    "inception",
    "lenet",
    "mobilenet",
    "plain",
    "resnet",
    "vgg",
]
