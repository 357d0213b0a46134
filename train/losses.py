"""What a task's logits cost, row by row; rows without a label cost nothing and teach nothing."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from train.recipe import Recipe
from transom.tasks import TaskSet

NOT_LABELLED = -1


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the cross entropy of each row, (N,) float32; 0 where there is no label.

    Args:
        logits: (N, C).
        targets: (N,) int64, -1 = not labelled.
        smoothing: Share of the truth that is spread over all classes.
        class_weights: (C,) float32, or None for 1.
    """
    return functional.cross_entropy(
        logits.float(),
        targets,
        weight=class_weights,
        ignore_index=NOT_LABELLED,
        label_smoothing=smoothing,
        reduction="none",
    )


def earth_mover(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how far each row's probability lies from its ordered class, (N,) float32.

    The sum of squared differences of the cumulative distributions: a confusion of neighbours
    costs 1, of classes two apart 2. 0 where there is no label.

    Args:
        logits: (N, C), classes in their order.
        targets: (N,) int64, -1 = not labelled.

    References:
        Hou, Yu and Samaras, Squared Earth Mover's Distance-based Loss, arXiv:1611.05916.
    """
    believed = logits.float().softmax(1).cumsum(1)
    levels = torch.arange(logits.shape[1], device=logits.device)
    truth = (levels >= targets[:, None]).to(believed.dtype)
    return (believed - truth).square().sum(1) * (targets != NOT_LABELLED)


class TaskLosses(nn.Module):
    """The summed loss of each task over a batch.

    Args:
        recipe: Smoothing, the loss of ordinal tasks, whether classes are weighted.
        tasks: In the order of the columns of `targets`.
        targets: (N, T) int64 of all training rows, -1 = not labelled; class weights are inverse
            to the counts in it, and 1 on average over the labelled rows.
    """

    def __init__(self, recipe: Recipe, tasks: TaskSet, targets: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self._tasks = tasks
        self._smoothing = recipe.label_smoothing
        self._by_distance = recipe.ordinal_loss == "earth_mover"
        if recipe.class_weights:
            for column, task in enumerate(tasks):
                weights = inverse_frequency(targets[:, column], len(task.classes))
                self.register_buffer(f"{task.name}_classes", weights, persistent=False)

    def forward(
        self,
        logits: Mapping[str, torch.Tensor],
        targets: torch.Tensor,
        shares: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each task's summed loss (T,) and its number of labelled rows (T,) float32.

        Args:
            logits: By task (N, C).
            targets: (N, T) int64, -1 = not labelled.
            shares: (N,) float32, how much of a row each one counts; None for 1.
        """
        sums = []
        for column, task in enumerate(self._tasks):
            scores, truth = logits[task.name], targets[:, column]
            rows = cross_entropy(
                scores,
                truth,
                smoothing=self._smoothing,
                class_weights=getattr(self, f"{task.name}_classes", None),
            )
            if task.ordinal and self._by_distance:
                rows = rows + earth_mover(scores, truth)
            sums.append((rows if shares is None else rows * shares).sum())
        counted = (targets != NOT_LABELLED).float()
        return torch.stack(sums), (counted if shares is None else counted * shares[:, None]).sum(0)


def inverse_frequency(targets: npt.NDArray[np.int64], classes: int) -> torch.Tensor:
    """Return a weight for each class, (C,) float32: inverse to its count, 1 on average over rows.

    A class without a row has weight 0.
    """
    counts = np.bincount(targets[targets != NOT_LABELLED], minlength=classes)
    present = max(int((counts > 0).sum()), 1)
    weights = np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights.astype(np.float32))
