"""MobileNetV2 and MobileNetV4-Conv-Small: small networks of convolutions and ReLU.

References:
    Sandler et al., MobileNetV2, CVPR 2018; Qin et al., MobileNetV4, ECCV 2024.
"""

from train.backbones.library import LibraryModel, cut, library_weights
from train.backbones.trunk import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone

_STRIDES = (2, 4, 8, 16, 32)

_V2 = LibraryModel(
    "mobilenetv2_100",
    cut(
        ("conv_stem", "bn1", "blocks.0"),
        ("blocks.1",),
        ("blocks.2",),
        ("blocks.3", "blocks.4"),
        ("blocks.5", "blocks.6", "conv_head", "bn2"),
    ),
    {},
)
BACKBONES.add(
    "mobilenetv2",
    Backbone(
        name="mobilenetv2",
        family="mobilenet",
        about="MobileNetV2 of width 1: inverted residuals with ReLU6",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        channels=(16, 24, 32, 96, 1280),
        strides=_STRIDES,
        int8_friendly=True,
        int8="convolutions, ReLU6 and additions",
        stages=_V2.stages,
        weights=library_weights(
            _V2,
            tag="mobilenetv2_100.ra_in1k",
            licence="Apache-2.0",
            checkpoint="mobilenetv2_100_ra-b33bc2c4.pth",
        ),
    ),
)

_V4 = LibraryModel(
    "mobilenetv4_conv_small",
    cut(
        ("conv_stem", "bn1"), ("blocks.0",), ("blocks.1",), ("blocks.2",), ("blocks.3", "blocks.4")
    ),
    {},
)
BACKBONES.add(
    "mobilenetv4_conv_small",
    Backbone(
        name="mobilenetv4_conv_small",
        family="mobilenet",
        about="MobileNetV4-Conv-Small: universal inverted bottlenecks with ReLU",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        channels=(32, 32, 64, 96, 960),
        strides=_STRIDES,
        int8_friendly=True,
        int8="convolutions, ReLU and additions",
        stages=_V4.stages,
        weights=library_weights(
            _V4,
            tag="mobilenetv4_conv_small.e2400_r224_in1k",
            licence="Apache-2.0",
            checkpoint="mobilenetv4_conv_small.e2400_r224_in1k.pth",
        ),
    ),
)
