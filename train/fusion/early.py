"""Hand-made maps that join the network at its first stage."""

from dataclasses import dataclass

import torch
from torch import nn

from train.backbones import Backbone, Trunk
from train.fusion.maps import PixelMaps
from train.fusion.sharing import Pretrained, match_size


@dataclass(frozen=True)
class WithEarlyMaps(Backbone):
    """A backbone whose trunks see hand-made maps too, whatever their first stage is.

    Attributes:
        maps: Names in `train.fusion.maps`.
    """

    maps: tuple[str, ...] = ()

    def trunk(self, pretrained: Pretrained) -> Trunk:
        """Build the trunk, and put the maps into its first stage (see `Backbone.trunk`)."""
        trunk = super().trunk(pretrained)
        trunk.stages[0] = _StageWithMaps(trunk.stages[0], self)
        return trunk


class _StageWithMaps(nn.Module):
    """The first stage plus a convolution of the maps, which starts at zero.

    A sum behind the stage, not further channels before it: the stage stays as it was pretrained,
    its first step changes nothing, and in INT8 it still takes the bytes of the picture.
    """

    def __init__(self, stage: nn.Module, backbone: WithEarlyMaps) -> None:
        super().__init__()
        self.stage = stage
        stride = backbone.strides[0]
        step = 2 if stride % 2 == 0 else 1
        self.maps = PixelMaps(backbone.maps, backbone.std, step)
        self.adapter = nn.Conv2d(
            self.maps.channels,
            backbone.channels[0],
            3,
            stride // step,
            padding=1,
            bias=False,
        )
        nn.init.zeros_(self.adapter.weight)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map normalised pixels (N, 3, S, S) to the stage's map."""
        learnt: torch.Tensor = self.stage(pixels)
        made = self.adapter(self.maps(pixels))
        return learnt + match_size(made, learnt.shape[2], learnt.shape[3])
