"""Hand-made maps that join the network at its embedding."""

from collections.abc import Sequence

import torch
from torch import nn

from train.backbones import Backbone
from train.backbones.layers import ConvUnit
from train.fusion.maps import PixelMaps
from train.fusion.sharing import Embed, Fused, Fusion, MakeFusion, Pretrained, Seen
from transom.tasks import TaskSet

_BRANCH = (16, 32)


class LateMaps(Fusion):
    """Any fusion, and beside it a small branch on the maps, whose embedding every head reads too.

    The branch gets a quarter of the embedding, the fusion the rest.

    Args:
        make: Makes the fusion.
        backbone: Of the fusion.
        tasks: What shares.
        maps: Names in `train.fusion.maps`.
        embedding: Length of both embeddings together.
        pretrained: Where trunks start (see `Backbone.trunk`).
    """

    def __init__(
        self,
        make: MakeFusion,
        backbone: Backbone,
        tasks: TaskSet,
        maps: tuple[str, ...],
        *,
        embedding: int,
        pretrained: Pretrained,
    ) -> None:
        super().__init__()
        width = embedding // 4
        self.fusion = make(backbone, tasks, embedding=embedding - width, pretrained=pretrained)
        self.maps = PixelMaps(maps, backbone.std, stride=2)
        self.branch = nn.Sequential(
            ConvUnit(self.maps.channels, _BRANCH[0], 3, 2),
            ConvUnit(_BRANCH[0], _BRANCH[1], 3, 2),
            Embed(_BRANCH[1], width),
        )
        self.embedding_size = self.fusion.embedding_size + width
        self.task_sizes = {task: size + width for task, size in self.fusion.task_sizes.items()}

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the fusion takes."""
        return self.fusion.normalise(image)

    def fuse(self, pixels: torch.Tensor) -> Fused:
        """Run the fusion and the branch side by side."""
        return self._joined(self.fusion.fuse(pixels), self.maps(pixels))

    def resting_stages(self) -> Sequence[nn.Module]:
        """Return those of the fusion."""
        return self.fusion.resting_stages()

    def see(self, pixels: torch.Tensor, stages: int) -> Seen:
        """Run some stages of the fusion, and make the maps, in which nothing is trained."""
        seen = self.fusion.see(pixels, stages)
        return Seen((*seen.maps, self.maps(pixels)), seen.stages)

    def go_on(self, seen: Seen) -> Fused:
        """Run the rest of both."""
        *maps, made = seen.maps
        return self._joined(self.fusion.go_on(Seen(tuple(maps), seen.stages)), made)

    def _joined(self, learnt: Fused, maps: torch.Tensor) -> Fused:
        made = self.branch(maps)
        by_task = {task: torch.cat([one, made], 1) for task, one in learnt.by_task.items()}
        return Fused(torch.cat([learnt.embedding, made], 1), by_task)

    def pretrained_stages(self) -> Sequence[nn.Module]:
        """Return those of the fusion; the branch starts from scratch."""
        return self.fusion.pretrained_stages()
