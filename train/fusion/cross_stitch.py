"""Cross-stitch: a trunk for each task, whose maps are mixed after every stage.

References:
    Misra, Shrivastava, Gupta and Hebert, Cross-stitch Networks for Multi-task Learning, CVPR 2016.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from train.backbones import Backbone, Trunk
from train.fusion.sharing import EmbedEach, Fused, Fusion, Pretrained
from transom.tasks import TaskSet

_FROM_OTHERS = 0.1


class CrossStitch(Fusion):
    """As many trunks as tasks; each takes on a learnt share of the others' maps.

    On the device it costs a whole trunk for every task. The shares of a map start with the sum 1,
    so that trunks which start from the same pretrained weights give what one alone would.
    """

    def __init__(
        self, backbone: Backbone, tasks: TaskSet, *, embedding: int, pretrained: Pretrained
    ) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(backbone.trunk(pretrained) for _ in tasks)
        self.stitches = nn.ModuleList(_Stitch(len(tasks)) for _ in backbone.channels)
        self.embed = EmbedEach(backbone.channels[-1], embedding, tasks)
        self.embedding_size = self.embed.width * len(tasks)
        self.task_sizes = dict.fromkeys(tasks.names, self.embed.width)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what every trunk's first stage takes."""
        return cast(Trunk, self.trunks[0]).normalise(image)

    def fuse(self, pixels: torch.Tensor) -> Fused:
        """Run all trunks side by side."""
        maps = [pixels] * len(self.trunks)
        stages = zip(*(trunk.stages for trunk in self.trunks), strict=True)
        for equals, stitch in zip(stages, self.stitches, strict=True):
            maps = stitch([stage(one) for stage, one in zip(equals, maps, strict=True)])
        fused: Fused = self.embed(maps)
        return fused

    def pretrained_stages(self) -> Sequence[nn.Module]:
        """Return the trunks' parts of equal depth together."""
        parts = [trunk.pretrained_parts for trunk in self.trunks]
        return [nn.ModuleList(equals) for equals in zip(*parts, strict=True)]


class _Stitch(nn.Module):
    """Mixes T maps: each new one is a weighted sum of all."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        shares = torch.full((tasks, tasks), _FROM_OTHERS / max(tasks - 1, 1))
        shares.fill_diagonal_(1.0 - _FROM_OTHERS if tasks > 1 else 1.0)
        # Flat, because whatever has two dimensions decays towards 0.
        self.shares = nn.Parameter(shares.flatten())

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Mix maps (N, C, h, w), one from each trunk."""
        shares = self.shares.view(len(maps), len(maps))
        return [_weighted_sum(row, maps) for row in shares]


def _weighted_sum(shares: torch.Tensor, maps: Sequence[torch.Tensor]) -> torch.Tensor:
    # Products and sums of two, because those are integer operations in INT8.
    total = shares[0] * maps[0]
    for share, one in zip(shares[1:], maps[1:], strict=True):
        total = total + share * one
    return total
