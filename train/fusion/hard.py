"""Hard sharing: everything but the heads belongs to all tasks."""

from collections.abc import Sequence

import torch

from train.backbones import Backbone
from train.fusion.sharing import Embed, Fused, OneTrunk, Pretrained
from transom.tasks import TaskSet


class HardSharing(OneTrunk):
    """One trunk and one embedding for all tasks."""

    def __init__(
        self, backbone: Backbone, tasks: TaskSet, *, embedding: int, pretrained: Pretrained
    ) -> None:
        super().__init__(backbone.trunk(pretrained))
        self.embed = Embed(backbone.channels[-1], embedding)
        self.embedding_size = embedding
        self.task_sizes = dict.fromkeys(tasks.names, embedding)

    def join(self, maps: Sequence[torch.Tensor]) -> Fused:
        """Embed the pictures once; every task reads the same embedding."""
        embedding = self.embed(maps[-1])
        return Fused(embedding, dict.fromkeys(self.task_sizes, embedding))
