"""ResNet-18 and ResNet-50, and ResNet-18 with attention to channels and places (CBAM).

References:
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from train.backbones.library import LibraryModel, cut, library_weights
from train.backbones.trunk import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, Trunk

STEM = ("conv1", "bn1", "act1")
CHECKPOINTS = {"resnet18": "resnet18-f37072fd.pth", "resnet50": "resnet50-0676ba61.pth"}
"""torchvision's first weights, of which timm has a copy."""

_ASSEMBLE = cut(STEM, ("maxpool", "layer1"), ("layer2",), ("layer3",), ("layer4",))


def _nothing(trunk: Trunk) -> Sequence[nn.Module]:
    # A fresh attention module in every block changes what the layers behind it see: none of them
    # is held fast while the others learn.
    return []


def _add(
    name: str,
    about: str,
    channels: tuple[int, ...],
    *,
    of: str,
    options: Mapping[str, Any],
    added: str = "",
    int8: str = "",
) -> None:
    model = LibraryModel(of, _ASSEMBLE, options, added)
    BACKBONES.add(
        name,
        Backbone(
            name=name,
            family="resnet",
            about=about,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            channels=channels,
            strides=(2, 4, 8, 16, 32),
            int8_friendly=not int8,
            int8=int8 or "convolutions, ReLU and additions",
            stages=model.stages,
            weights=library_weights(
                model,
                tag=f"{of}.tv_in1k",
                licence="BSD-3-Clause",
                checkpoint=CHECKPOINTS[of],
                parts=_nothing if added else None,
            ),
        ),
    )


_add("resnet18", "ResNet-18", (64, 64, 128, 256, 512), of="resnet18", options={})
_add("resnet50", "ResNet-50", (64, 256, 512, 1024, 2048), of="resnet50", options={})
_add(
    "resnet18_cbam",
    "ResNet-18 whose every block weighs its channels, then its places (CBAM)",
    (64, 64, 128, 256, 512),
    of="resnet18",
    options={"block_args": {"attn_layer": "cbam"}},
    added=".se.",
    int8="maxima and means over channels leave the integers in every block and come back",
)
