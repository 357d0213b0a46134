"""Weights that follow how fast each task's loss falls."""

from collections.abc import Mapping

import torch

from train.weighting.weighting import WEIGHTINGS, LossWeighting, labelled_softmax
from transom.tasks import TaskSet

_TINY = 1e-8  # below any loss that still teaches


@WEIGHTINGS.named("dwa")
class DynamicAverage(LossWeighting):
    """More weight for tasks whose loss fell least from the epoch before last to the last.

    Equal in a task's first two epochs.

    References:
        Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019,
        equation 7, with its temperature of 2.
    """

    temperature = 2.0
    last: torch.Tensor
    before_last: torch.Tensor

    def __init__(self, tasks: TaskSet, weights: Mapping[str, float]) -> None:
        super().__init__(tasks, weights)
        self.register_buffer("last", torch.full((len(tasks),), torch.nan))
        self.register_buffer("before_last", torch.full((len(tasks),), torch.nan))

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return the softmax of the ratios of the last two epochs' losses, times the count."""
        ratios = torch.nan_to_num(self.last / self.before_last.clamp(min=_TINY), nan=1.0)
        return labelled_softmax(ratios / self.temperature, labelled) * labelled.sum()

    def end_epoch(self, losses: Mapping[str, float]) -> None:
        """Remember the epoch's losses of the tasks that had labels."""
        for place, name in enumerate(self.tasks.names):
            if name in losses:
                self.before_last[place] = self.last[place]
                self.last[place] = losses[name]


@WEIGHTINGS.named("famo")
class FastAdaptive(LossWeighting):
    """More weight for tasks whose loss falls more slowly, relative to itself, from step to step.

    How much a step improved a task is read from the next batch that has labels of it, instead of
    from a second pass over the same one: a step costs no more than with equal weights.

    References:
        Liu, Feng, Stone and Liu, FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023,
        algorithm 1; step and decay of its authors' code.
    """

    step = 0.025
    decay = 0.001
    scores: torch.Tensor
    previous: torch.Tensor

    def __init__(self, tasks: TaskSet, weights: Mapping[str, float]) -> None:
        super().__init__(tasks, weights)
        self.register_buffer("scores", torch.zeros(len(tasks)))
        self.register_buffer("previous", torch.full((len(tasks),), torch.nan))

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Settle what the last steps brought, then weigh each logarithm by the softmax."""
        logs = losses.clamp(min=_TINY).log()
        known = labelled & ~self.previous.isnan()
        if known.any():
            improved = torch.where(known, self.previous - logs, 0.0)
            trust = labelled_softmax(self.scores, known)
            slope = trust * (improved - (trust * improved).sum())
            moved = self.scores - self.step * (slope + self.decay * self.scores)
            self.scores[known] = moved[known]
        self.previous[labelled] = logs[labelled]
        weights = labelled_softmax(self.scores, labelled) / losses.clamp(min=_TINY)
        return weights / weights[labelled].sum() * labelled.sum()
