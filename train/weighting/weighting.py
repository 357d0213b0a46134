"""What a weighting is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import nn

from train.registry import Registry
from transom.errors import ConfigurationError
from transom.tasks import TaskSet

Mean = Callable[[torch.Tensor], torch.Tensor]
"""From a tensor to its mean over all processes of the training."""


class Weighting(nn.Module, ABC):
    """A way of balancing.

    Parameters of a weighting are trained with the network; whatever else it remembers belongs in
    a buffer, so that it is in the checkpoint. Random numbers come from `random`, which every
    epoch seeds alike in all processes.

    Attributes:
        tasks: What is balanced, T tasks.
        random: A generator on the CPU.

    Args:
        tasks: What is balanced.
        weights: The recipe's `task_weights`; refused here, because only `fixed` takes them.
    """

    def __init__(self, tasks: TaskSet, weights: Mapping[str, float]) -> None:
        super().__init__()
        if weights and not self.takes_weights:
            raise ConfigurationError(
                "recipe: task_weights has an effect with weighting = 'fixed' only; say that, or "
                "leave task_weights out"
            )
        self.tasks = tasks
        self.random = torch.Generator()
        self._mean: Mean = torch.Tensor.detach

    takes_weights = False
    """Whether the recipe's `task_weights` mean something to it."""

    def forward(
        self, losses: torch.Tensor, labelled: torch.Tensor, shared: torch.Tensor
    ) -> torch.Tensor:
        """Return the scalar whose gradient is the step to take.

        Args:
            losses: (T,) float32, each task's mean over its labelled rows; 0 where there are none.
                With several processes each has its own part, and their mean is the batch's loss.
            labelled: (T,) bool, whether the batch has a label of the task. A task without one
                contributes nothing, and what is remembered of it does not change.
            shared: (N, D) embedding, part of the graph: a weighting that compares the tasks'
                gradients asks for them here.
        """
        # The value is the whole batch's, so that all processes decide alike; the gradient is
        # this process's own.
        losses = losses + (self.mean(losses) - losses.detach())
        return self.combine(losses, labelled, shared)

    @abstractmethod
    def combine(
        self, losses: torch.Tensor, labelled: torch.Tensor, shared: torch.Tensor
    ) -> torch.Tensor:
        """Do what `forward` says, shapes too, with losses of the whole batch instead of a part."""

    def check_shared(self, logits: Mapping[str, torch.Tensor], shared: torch.Tensor) -> None:
        """Refuse a network whose heads do not share what this weighting compares.

        Args:
            logits: By task (N, C), of any pictures.
            shared: (N, D) their embedding.

        Raises:
            ConfigurationError: It is such a network.
        """

    def share_work(self, mean: Mean) -> None:
        """Learn how to average over the processes of the training; otherwise it is alone."""
        self._mean = mean

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean of values of any shape over all processes; without a gradient."""
        return self._mean(values)

    def begin_epoch(self, seed: int) -> None:
        """Seed the random numbers of an epoch."""
        self.random.manual_seed(seed)

    def end_epoch(self, losses: Mapping[str, float]) -> None:
        """Take note of the epoch's mean loss by task; most weightings do not care."""


class LossWeighting(Weighting):
    """A weighting that looks at the values of the losses only."""

    def combine(
        self, losses: torch.Tensor, labelled: torch.Tensor, shared: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum over the labelled tasks."""
        if not labelled.any():
            return losses.sum() * 0.0
        weights = torch.zeros_like(losses)
        weights[labelled] = self.weigh(losses.detach(), labelled)[labelled]
        return (losses * weights).sum()

    @abstractmethod
    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return (T,) weights, about 1 on average; those of unlabelled tasks do not count.

        Args:
            losses: (T,) float32, without a graph.
            labelled: (T,) bool, at least one True.
        """


MakeWeighting = Callable[[TaskSet, Mapping[str, float]], Weighting]

WEIGHTINGS: Registry[MakeWeighting] = Registry("weighting")


def labelled_softmax(scores: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the labelled tasks, (T,), 0 elsewhere; at least one is labelled."""
    return scores.masked_fill(~labelled, -torch.inf).softmax(0)
