"""What a training does when: which pretrained stages rest, and how large the learning rate is."""

import math

from train.recipe import Recipe


class Schedule:
    """The course of a training, from its first step to its last.

    Args:
        recipe: How to train.
        steps: Of an epoch.
        stages: Pretrained ones of the network, which rest at first.
    """

    def __init__(self, recipe: Recipe, steps: int, stages: int) -> None:
        self._recipe = recipe
        self._steps = steps
        self._stages = stages
        self._frozen_epochs = recipe.frozen_epochs if stages else 0

    def frozen_stages(self, epoch: int) -> int:
        """Return how many of the pretrained stages, from the shallowest, rest in an epoch.

        Args:
            epoch: From 0.
        """
        if epoch < self._frozen_epochs:
            return self._stages
        if not self._recipe.unfreeze_epochs:
            return 0
        thawing = epoch - self._frozen_epochs
        return max(self._stages - 1 - thawing // self._recipe.unfreeze_epochs, 0)

    def alike(self, epoch: int) -> list[int]:
        """Return the epochs in which as many stages rest as in one, that one among them."""
        frozen = self.frozen_stages(epoch)
        return [e for e in range(self._recipe.epochs) if self.frozen_stages(e) == frozen]

    def rate_at(self, step: int) -> float:
        """Return the share of the largest learning rate: 1 while frozen, a warm-up, a cosine.

        Args:
            step: From 0, of the whole training.
        """
        frozen = self._frozen_epochs * self._steps
        if step < frozen:
            return 1.0
        done, steps = step - frozen, self._steps * self._recipe.epochs - frozen
        warmup = self._recipe.warmup * steps
        if done < warmup:
            return (done + 1) / (warmup + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / max(steps - warmup, 1))
