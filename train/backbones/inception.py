"""Inception-v3: branches of several kernel sizes side by side.

References:
    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016.
"""

from train.backbones.library import LibraryModel, cut, library_weights
from train.backbones.trunk import BACKBONES, Backbone

_MODEL = LibraryModel(
    "inception_v3",
    cut(
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
        ("Pool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        ("Pool2", "Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
    ),
    {},
)
BACKBONES.add(
    "inception_v3",
    Backbone(
        name="inception_v3",
        family="inception",
        about="Inception-v3; does not pad its first convolutions, so small crops lose their rim",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        channels=(64, 192, 288, 768, 2048),
        strides=(2, 4, 8, 16, 32),
        int8_friendly=False,
        int8="all operators are integer, but 15 concatenations rescale branches of unequal range",
        stages=_MODEL.stages,
        minimum_size=75,
        weights=library_weights(
            _MODEL,
            tag="inception_v3.tv_in1k",
            licence="Apache-2.0",
            checkpoint="inception_v3_google-0cc3c7bd.pth",
        ),
    ),
)
