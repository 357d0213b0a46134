"""DeepLabV3+ as a classification trunk: what it gives a pixel's class, its heads give a crop's.

ResNet-50 with output stride 16, atrous spatial pyramid pooling, and the decoder that joins the
result with the fine map of stride 4. Below about 256 pixels the wider atrous rates reach over the
rim of a 16 or fewer steps wide map, and see little more than its middle.

References:
    Chen et al., Encoder-Decoder with Atrous Separable Convolution (DeepLabv3+), ECCV 2018.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from train.backbones.library import LibraryModel, import_library, library_weights
from train.backbones.resnet import CHECKPOINTS, STEM
from train.backbones.trunk import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, Trunk

_RATES = (6, 12, 18)
_WIDTH = 256
_LOW_LEVEL_WIDTH = 48


class EncoderDecoder(nn.Module):
    """From the map of stride 4 down to stride 16, through the pyramid, and back to stride 4.

    Attributes:
        encoder: The deeper layers of the residual network.
        pyramid: Atrous spatial pyramid pooling, from torchvision.
    """

    def __init__(self, encoder: Sequence[nn.Module]) -> None:
        super().__init__()
        deeplab = import_library("torchvision.models.segmentation.deeplabv3", "deeplabv3plus")
        self.encoder = nn.ModuleList(encoder)
        self.pyramid: nn.Module = deeplab.ASPP(2048, list(_RATES), _WIDTH)
        self.low_level = _unit(256, _LOW_LEVEL_WIDTH, 1)
        self.fuse = nn.Sequential(
            _unit(_WIDTH + _LOW_LEVEL_WIDTH, _WIDTH, 3), _unit(_WIDTH, _WIDTH, 3)
        )

    def forward(self, fine: torch.Tensor) -> torch.Tensor:
        """Map (N, 256, S / 4, S / 4) to the same shape."""
        deep = fine
        for layer in self.encoder:
            deep = layer(deep)
        deep = functional.interpolate(
            self.pyramid(deep), size=fine.shape[-2:], mode="bilinear", align_corners=False
        )
        fused: torch.Tensor = self.fuse(torch.cat([deep, self.low_level(fine)], dim=1))
        return fused


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _assemble(model: nn.Module) -> list[nn.Module]:
    def part(name: str) -> nn.Module:
        return model.get_submodule(name)

    return [
        nn.Sequential(*map(part, STEM)),
        nn.Sequential(part("maxpool"), part("layer1")),
        EncoderDecoder([part("layer2"), part("layer3"), part("layer4")]),
    ]


def _pretrained_parts(trunk: Trunk) -> Sequence[nn.Module]:
    stem, first, last = trunk.stages
    if not isinstance(last, EncoderDecoder):
        raise TypeError("the trunk is not a DeepLabV3+")
    return [stem, first, *last.encoder]


_MODEL = LibraryModel("resnet50", _assemble, {"output_stride": 16})
BACKBONES.add(
    "deeplabv3plus",
    Backbone(
        name="deeplabv3plus",
        family="deeplab",
        about="DeepLabV3+ on ResNet-50: pyramid of atrous convolutions, low-level features joined",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        channels=(64, 256, _WIDTH),
        strides=(2, 4, 4),
        int8_friendly=False,
        int8="resizing stays in float, two concatenations rescale maps of unequal range",
        stages=_MODEL.stages,
        weights=library_weights(
            _MODEL,
            tag="resnet50.tv_in1k",
            licence="BSD-3-Clause",
            checkpoint=CHECKPOINTS["resnet50"],
            parts=_pretrained_parts,
        ),
    ),
)
