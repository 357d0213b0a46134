"""Mixture of experts: several small embeddings, of which each task takes its own blend.

References:
    Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts, KDD 2018 (MMoE).
    Tang et al., Progressive Layered Extraction, RecSys 2020 (its one-level form, CGC).
"""

from collections.abc import Sequence

import torch
from torch import nn

from train.backbones import Backbone
from train.fusion.sharing import (
    Embed,
    Fused,
    OneTrunk,
    Pretrained,
    mean_over_map,
    width_per_task,
)
from transom.tasks import TaskSet


class MixtureOfExperts(OneTrunk):
    """One trunk; experts on its last map; for each task a gate that looks at the picture.

    Args:
        backbone: Of the trunk.
        tasks: What shares.
        embedding: Length of all tasks' blends together; an expert is as wide as one blend.
        pretrained: Where the trunk starts (see `Backbone.trunk`).
        shared: How many experts every task may use.
        own: How many further experts each task has to itself.
    """

    def __init__(
        self,
        backbone: Backbone,
        tasks: TaskSet,
        *,
        embedding: int,
        pretrained: Pretrained,
        shared: int,
        own: int,
    ) -> None:
        super().__init__(backbone.trunk(pretrained))
        self._width = width_per_task(embedding, tasks)
        self._shared, self._own = shared, own
        channels = backbone.channels[-1]
        # All experts are one convolution, each a run of its channels.
        self.experts = Embed(channels, (shared + own * len(tasks)) * self._width)
        self.gates = nn.ModuleList(nn.Linear(channels, shared + own) for _ in tasks)
        self.embedding_size = self._width * len(tasks)
        self.task_sizes = dict.fromkeys(tasks.names, self._width)

    def join(self, maps: Sequence[torch.Tensor]) -> Fused:
        """Ask all experts once, and blend them for each task."""
        pooled = mean_over_map(maps[-1])
        experts = self.experts(pooled).view(-1, self._experts, self._width)
        blends = [
            self._blend(experts, gate(pooled.flatten(1)), task)
            for task, gate in enumerate(self.gates)
        ]
        return Fused(torch.cat(blends, 1), dict(zip(self.task_sizes, blends, strict=True)))

    @property
    def _experts(self) -> int:
        return self._shared + self._own * len(self.gates)

    def _blend(self, experts: torch.Tensor, scores: torch.Tensor, task: int) -> torch.Tensor:
        """Weigh experts (N, E, width) by scores (N, shared + own); return (N, width)."""
        usable = experts[:, : self._shared]
        if self._own:
            first = self._shared + task * self._own
            usable = torch.cat([usable, experts[:, first : first + self._own]], 1)
        return (scores.softmax(1)[:, None] @ usable)[:, 0]


class GatedExperts(MixtureOfExperts):
    """MMoE: four experts, all of them for every task."""

    def __init__(
        self, backbone: Backbone, tasks: TaskSet, *, embedding: int, pretrained: Pretrained
    ) -> None:
        super().__init__(
            backbone, tasks, embedding=embedding, pretrained=pretrained, shared=4, own=0
        )


class SharedAndOwnExperts(MixtureOfExperts):
    """CGC: two experts for every task, and two more that each task has to itself."""

    def __init__(
        self, backbone: Backbone, tasks: TaskSet, *, embedding: int, pretrained: Pretrained
    ) -> None:
        super().__init__(
            backbone, tasks, embedding=embedding, pretrained=pretrained, shared=2, own=2
        )
