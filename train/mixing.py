"""Pictures mixed two by two within a batch, with the labels of both.

Each picture keeps its own labels for its share of the mixture and takes its partner's for the
rest. Where one of the two is not labelled for a task, the other counts for its own share only:
nothing is made up for the part that nobody has named.

References:
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers, ICCV 2019.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from train.fusion import Seen
from train.losses import TaskLosses
from train.recipe import Mixing

Given = TypeVar("Given", bound=torch.Tensor | Seen)


@dataclass(frozen=True)
class Mixed(Generic[Given]):
    """A batch of N pictures, mixed or as it was.

    Attributes:
        image: (N, 3, S, S) float32; or what is seen of them, where they are not mixed.
        partner: (N,) int64, the row of the batch that each is mixed with; None = not mixed.
        share: (N,) float32, how much of each is its own, 0 to 1; None = not mixed.
    """

    image: Given
    partner: torch.Tensor | None = None
    share: torch.Tensor | None = None

    def losses(
        self, losses: TaskLosses, logits: Mapping[str, torch.Tensor], targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each task's summed loss (T,) and its number of labelled rows (T,), by shares.

        Args:
            losses: Of the tasks.
            logits: By task (N, C), of the mixed pictures.
            targets: (N, T) int64 of the pictures as they were, -1 = not labelled.
        """
        if self.partner is None or self.share is None:
            plain: tuple[torch.Tensor, torch.Tensor] = losses(logits, targets)
            return plain
        own, own_count = losses(logits, targets, self.share)
        other, other_count = losses(logits, targets[self.partner], 1.0 - self.share)
        return own + other, own_count + other_count

    def part_of(self, values: torch.Tensor) -> torch.Tensor:
        """Return (N,) float32, what (N,) values of the pictures are in the mixed ones."""
        if self.partner is None or self.share is None:
            return values
        return torch.lerp(values[self.partner], values, self.share)


class Mix:
    """Mixes batches as a recipe says.

    Args:
        amounts: How.
    """

    def __init__(self, amounts: Mixing) -> None:
        self._amounts = amounts

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, random: torch.Generator) -> Mixed[torch.Tensor]:
        """Mix a batch.

        Args:
            image: (N, 3, S, S) float32.
            random: A generator on the CPU; it moves on, unless mixing is off.
        """
        if self._amounts.is_off:
            return Mixed(image)
        partner = torch.randperm(len(image), generator=random)
        if self._takes_rectangles(random):
            mixed, share = _paste(image, partner, self._amounts.cutmix, random)
        else:
            share = _beta(len(image), self._amounts.mixup, random)
            mixed = torch.lerp(image[partner], image, share.to(image.device).view(-1, 1, 1, 1))
        mixed = mixed.contiguous(memory_format=torch.channels_last)
        return Mixed(mixed, partner.to(image.device), share.to(image.device))

    def _takes_rectangles(self, random: torch.Generator) -> bool:
        if not (self._amounts.mixup and self._amounts.cutmix):
            return bool(self._amounts.cutmix)
        return bool(torch.rand((), generator=random) < 0.5)


def _paste(
    image: torch.Tensor, partner: torch.Tensor, alpha: float, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put a rectangle of each partner into the picture; the share is that of whole pixels."""
    n, (height, width) = len(image), image.shape[2:]
    side = (1.0 - _beta(n, alpha, random)).sqrt()
    middle = torch.rand(2, n, generator=random)
    inside = []
    for place, length in ((middle[0], height), (middle[1], width)):
        pixels = torch.arange(length)[None] + 0.5
        inside.append((pixels - place[:, None] * length).abs() < side[:, None] * length / 2)
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    share = 1.0 - hole.float().mean((1, 2))
    return torch.where(hole[:, None].to(image.device), image[partner], image), share


def _beta(n: int, alpha: float, random: torch.Generator) -> torch.Tensor:
    """Draw (n,) float32 from Beta(alpha, alpha); torch's own takes no generator."""
    seed = int(torch.randint(2**62, (1,), generator=random))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n).astype(np.float32))
