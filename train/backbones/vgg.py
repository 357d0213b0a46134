"""VGG16, as published and with batch normalisation: a heavy trunk for comparison and teaching.

References:
    Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015 (configuration D).
"""

from itertools import pairwise

from train.backbones.library import LibraryModel, cut, library_weights
from train.backbones.trunk import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone


def _add(name: str, about: str, ends: tuple[int, ...], checkpoint: str) -> None:
    """Register a member whose stages end behind the layers with these numbers, all max-pools."""
    stages = [
        [f"features.{layer}" for layer in range(begin, end)]
        for begin, end in pairwise((0, *(end + 1 for end in ends)))
    ]
    # timm builds the first two fully connected layers even for a trunk: 120 million weights, unless
    # they are narrow.
    model = LibraryModel(name, cut(*stages), {"mlp_ratio": 1 / 512})
    BACKBONES.add(
        name,
        Backbone(
            name=name,
            family="vgg",
            about=about,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            channels=(64, 128, 256, 512, 512),
            strides=(2, 4, 8, 16, 32),
            int8_friendly=True,
            int8="convolutions, ReLU and max-pooling; too heavy for a Pi all the same",
            stages=model.stages,
            weights=library_weights(
                model, tag=f"{name}.tv_in1k", licence="BSD-3-Clause", checkpoint=checkpoint
            ),
        ),
    )


_add(
    "vgg16",
    "VGG16 as published; from random weights it learns badly, take vgg16_bn",
    (4, 9, 16, 23, 30),
    "vgg16-397923af.pth",
)
_add("vgg16_bn", "VGG16 with batch normalisation", (6, 13, 23, 33, 43), "vgg16_bn-6c64b313.pth")
