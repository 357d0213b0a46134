"""Hard sharing: everything but the heads belongs to all tasks."""

from collections.abc import Sequence

import torch
from torch import nn

from train.backbones import Backbone, Trunk
from train.fusion.sharing import Embed, Fused, Fusion, Pretrained, run_stages
from transom.tasks import TaskSet


class HardSharing(Fusion):
    """One trunk and one embedding for all tasks."""

    def __init__(
        self, backbone: Backbone, tasks: TaskSet, *, embedding: int, pretrained: Pretrained
    ) -> None:
        super().__init__()
        self.trunk: Trunk = backbone.trunk(pretrained)
        self.embed = Embed(backbone.channels[-1], embedding)
        self.embedding_size = embedding
        self.task_sizes = dict.fromkeys(tasks.names, embedding)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the trunk's first stage takes."""
        return self.trunk.normalise(image)

    def fuse(self, pixels: torch.Tensor) -> Fused:
        """Embed the pictures once; every task reads the same embedding."""
        embedding = self.embed(run_stages(self.trunk, pixels)[-1])
        return Fused(embedding, dict.fromkeys(self.task_sizes, embedding))

    def pretrained_stages(self) -> Sequence[nn.Module]:
        """Return those of the trunk."""
        return self.trunk.pretrained_parts
