"""Weights that do not follow the training: equal, the recipe's own, or drawn at random."""

from collections.abc import Mapping

import torch

from train.weighting.weighting import WEIGHTINGS, LossWeighting, labelled_softmax
from transom.errors import ConfigurationError
from transom.tasks import TaskSet


@WEIGHTINGS.named("equal")
class EqualWeighting(LossWeighting):
    """The plain sum of the losses."""

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return ones."""
        return torch.ones_like(losses)


@WEIGHTINGS.named("fixed")
class FixedWeighting(LossWeighting):
    """The sum of the losses, each times its weight; 1 where the recipe names none."""

    takes_weights = True
    weights: torch.Tensor

    def __init__(self, tasks: TaskSet, weights: Mapping[str, float]) -> None:
        super().__init__(tasks, weights)
        unknown = sorted(set(weights) - set(tasks.names))
        if unknown:
            raise ConfigurationError(
                f"recipe: task_weights names {', '.join(unknown)}; the data has the tasks "
                f"{', '.join(tasks.names)}"
            )
        values = [weights.get(name, 1.0) for name in tasks.names]
        self.register_buffer("weights", torch.tensor(values), persistent=False)

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return the recipe's weights."""
        return self.weights


@WEIGHTINGS.named("rlw")
class RandomWeighting(LossWeighting):
    """New random weights at every step.

    The weights are the softmax of normal numbers over the labelled tasks, times their count, so
    that the step is as long as with equal weights.

    References:
        Lin, Ye, Zhang and Tsang, Reasonable Effectiveness of Random Weighting, TMLR 2022.
    """

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Draw weights."""
        scores = torch.randn(len(losses), generator=self.random).to(losses)
        return labelled_softmax(scores, labelled) * labelled.sum()
