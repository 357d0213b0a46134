"""Weights that are learnt with the network."""

from collections.abc import Mapping

import torch
from torch import nn

from train.weighting.weighting import WEIGHTINGS, Weighting
from transom.tasks import TaskSet


@WEIGHTINGS.named("uncertainty")
class UncertaintyWeighting(Weighting):
    """Weights that are learnt: each task's loss over its own noise, plus a price for the noise.

    References:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty, CVPR 2018.
    """

    def __init__(self, tasks: TaskSet, weights: Mapping[str, float]) -> None:
        super().__init__(tasks, weights)
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))

    def combine(
        self, losses: torch.Tensor, labelled: torch.Tensor, shared: torch.Tensor
    ) -> torch.Tensor:
        """Return the sum of exp(-s) loss + s / 2 over the labelled tasks."""
        terms = torch.exp(-self.log_variance) * losses + 0.5 * self.log_variance
        return (terms * labelled).sum()
