"""Task attention: one trunk, and for each task a mask over the maps of every stage.

References:
    Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019 (MTAN).
"""

from collections.abc import Sequence

import torch
from torch import nn

from train.backbones import Backbone
from train.backbones.layers import ConvUnit
from train.fusion.sharing import EmbedEach, Fused, OneTrunk, Pretrained, match_size
from transom.tasks import TaskSet

_MOST_HIDDEN = 64


class TaskAttention(OneTrunk):
    """One trunk whose maps each task looks at through masks of its own.

    Differs from the paper in what INT8 needs and a device can afford: the masks are ReLU6, a
    straight line between 0 and 6, in place of a sigmoid; what a task carries from stage to stage
    is narrow, at most 64 channels.
    """

    def __init__(
        self, backbone: Backbone, tasks: TaskSet, *, embedding: int, pretrained: Pretrained
    ) -> None:
        super().__init__(backbone.trunk(pretrained), reads_every_map=True)
        self.paths = nn.ModuleList(_TaskPath(backbone) for _ in tasks)
        self.embed = EmbedEach(backbone.channels[-1], embedding, tasks)
        self.embedding_size = self.embed.width * len(tasks)
        self.task_sizes = dict.fromkeys(tasks.names, self.embed.width)

    def join(self, maps: Sequence[torch.Tensor]) -> Fused:
        """Run every task's path over the maps."""
        fused: Fused = self.embed([path(maps) for path in self.paths])
        return fused


class _TaskPath(nn.Module):
    """One task's way through the maps: mask a stage's, carry what is seen to the next."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        channels = backbone.channels
        hidden = [_hidden(count) for count in channels]
        self.reduce = nn.ModuleList(
            ConvUnit(count, narrow, 1, activates=False)
            for count, narrow in zip(channels, hidden, strict=True)
        )
        self.mask = nn.ModuleList(
            _mask(narrow, count) for count, narrow in zip(channels, hidden, strict=True)
        )
        steps = zip(backbone.strides, backbone.strides[1:], strict=False)
        self.carry = nn.ModuleList(
            nn.Sequential(
                ConvUnit(count, count, 3, after // before, groups=count),
                ConvUnit(count, narrow, 1, activates=False),
            )
            for count, narrow, (before, after) in zip(channels, hidden[1:], steps, strict=False)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the last of the maps (N, C, h, w) of each stage, as the task sees it."""
        seen = self._look(0, maps[0], None)
        for number in range(1, len(maps)):
            carried = self.carry[number - 1](seen)
            height, width = maps[number].shape[2:]
            seen = self._look(number, maps[number], match_size(carried, height, width))
        return seen

    def _look(
        self, number: int, shared: torch.Tensor, carried: torch.Tensor | None
    ) -> torch.Tensor:
        hidden = self.reduce[number](shared)
        hidden = torch.relu(hidden if carried is None else hidden + carried)
        # 0 to 6 rather than 0 to 1: normalisation follows wherever this goes.
        mask: torch.Tensor = self.mask[number](hidden)
        return shared * mask


def _hidden(channels: int) -> int:
    return min(_MOST_HIDDEN, max(16, channels // 4 // 16 * 16))


def _mask(inputs: int, outputs: int) -> ConvUnit:
    """A mask from 0 to 6 that starts in the middle, where ReLU6 is straight."""
    unit = ConvUnit(inputs, outputs, 1)
    nn.init.constant_(unit.norm.bias, 3.0)
    return unit
