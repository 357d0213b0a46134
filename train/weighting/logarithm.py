"""Logarithms of the losses: a task is improved in proportion, whatever the size of its loss."""

import torch

from train.weighting.gradients import GradientWeighting
from train.weighting.weighting import WEIGHTINGS, LossWeighting

_TINY = 1e-8
"""Added to a loss, as the paper does, so that one of zero has a logarithm."""


@WEIGHTINGS.named("log")
class LogWeighting(LossWeighting):
    """The sum of the logarithms, by its gradient: each loss divided by its own value.

    References:
        Lin et al., Dual-Balancing for Multi-Task Learning, arXiv:2308.12029, section 3.1.
    """

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return the inverse of the losses."""
        return 1.0 / (losses + _TINY)


@WEIGHTINGS.named("db")
class DualBalancing(GradientWeighting):
    """The logarithm, and gradients on the embedding that are all as long as the longest.

    The paper smooths each task's gradient over steps. On the embedding there is nothing to
    smooth: its rows are other pictures at every step.

    References:
        Lin et al., Dual-Balancing for Multi-Task Learning, arXiv:2308.12029, section 3.2.
    """

    def objectives(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the logarithms."""
        return (losses + _TINY).log()

    def weigh(self, gramian: torch.Tensor) -> torch.Tensor:
        """Return the longest gradient's length over each one's."""
        lengths = gramian.diagonal().clamp(min=0.0).sqrt()
        return torch.where(lengths > 0.0, lengths.max() / lengths, 1.0)
