"""The network: pictures in, logits of every task and one embedding out."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from train.backbones import BACKBONES
from train.cache import take
from train.fusion import Fusion, Seen, build_fusion
from train.recipe import Recipe
from transom.tasks import TaskSet

Logits = dict[str, npt.NDArray[np.float32]]


class Network(nn.Module):
    """A fusion and a linear head per task.

    Attributes:
        tasks: The heads, in order.
        fusion: Everything between the picture and the heads.

    Args:
        fusion: Everything between the picture and the heads.
        tasks: The heads, in order.
        dropout: Share of what a head reads that is dropped in training.
        norm: Whether pretrained normalisation moves with each `batch`, or stays `frozen` at the
            statistics that it came with; its scale and offset are learnt in either case.
    """

    def __init__(
        self,
        fusion: Fusion,
        tasks: TaskSet,
        dropout: float = 0.0,
        norm: Literal["batch", "frozen"] = "batch",
    ) -> None:
        super().__init__()
        self._keeps_statistics = norm == "frozen"
        self.tasks = tasks
        self.fusion = fusion
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {
                _head(task.name): nn.Linear(fusion.task_sizes[task.name], len(task.classes))
                for task in tasks
            }
        )

    @property
    def embedding_size(self) -> int:
        """Length D of the embedding."""
        return self.fusion.embedding_size

    def forward(self, image: torch.Tensor | Seen) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Classify and embed.

        Args:
            image: (N, 3, S, S) float32 BGR, 0 to 255; normalisation happens inside. Or what the
                fusion's first stages have seen of it.

        Returns:
            By task, in order, logits (N, C); and the embedding (N, D).
        """
        fused = self.fusion(image)
        logits = {
            task.name: self.heads[_head(task.name)](self.dropout(fused.by_task[task.name]))
            for task in self.tasks
        }
        return logits, fused.embedding

    def head(self, task: str) -> nn.Linear:
        """Return a task's head."""
        return cast(nn.Linear, self.heads[_head(task)])

    def freeze_pretrained(self, stages: int) -> None:
        """Train all of what was pretrained but the first `stages`, the shallowest.

        See `train` for their statistics.
        """
        for height, stage in enumerate(self.fusion.pretrained_stages()):
            stage.requires_grad_(height >= stages)

    def train(self, mode: bool = True) -> "Network":
        """Switch between training and evaluation; frozen parts stay in evaluation.

        Otherwise the running statistics of frozen normalisation would still move.
        """
        super().train(mode)
        for stage in self.fusion.pretrained_stages():
            parameters = list(stage.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                stage.eval()
            elif self._keeps_statistics:
                _rest_norms(stage)
        return self

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Return optimiser groups: deeper pretrained stages learn faster, new parts fastest."""
        stages = self.fusion.pretrained_stages()
        rates: dict[nn.Parameter, float] = {}
        for height, stage in enumerate(reversed(stages)):
            rate = recipe.learning_rate * recipe.backbone_rate * recipe.stage_decay**height
            rates |= dict.fromkeys(stage.parameters(), rate)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            key = (rates.get(parameter, recipe.learning_rate), decay)
            groups.setdefault(key, []).append(parameter)
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]


def _rest_norms(stage: nn.Module) -> None:
    """Put the batch normalisation of a stage, and nothing else, into evaluation."""
    for module in stage.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _head(task: str) -> str:
    # A ModuleDict refuses keys that are names of its own attributes, such as `type`.
    return f"{task}_head"


def build_network(recipe: Recipe, tasks: TaskSet, pretrained: bool = True) -> Network:
    """Build what a recipe describes, with random heads, in float32 and channels-last.

    Args:
        recipe: Names the backbone, the fusion and the hand-made maps.
        tasks: A head is made for each.
        pretrained: False leaves out pretrained weights whatever the recipe says, because others
            are about to be loaded.

    Raises:
        ConfigurationError: A name is unknown, the crops are too small for the backbone, or weights
            or a library that it needs are not on this machine.
    """
    backbone = BACKBONES[recipe.backbone].scaled(recipe.width)
    backbone.require_size(recipe.size)
    fusion = build_fusion(recipe, backbone, tasks, pretrained=pretrained and recipe.pretrained)
    network = Network(fusion, tasks, recipe.dropout, recipe.norm)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def to_image(crops: torch.Tensor) -> torch.Tensor:
    """Return float32 (N, 3, S, S), 0 to 255, of uint8 crops (N, S, S, 3), in channels-last."""
    return crops.permute(0, 3, 1, 2).float()


def predict_logits(
    network: Network, crops: npt.NDArray[np.uint8], batch: int = 64
) -> tuple[Logits, npt.NDArray[np.float32]]:
    """Run the network in evaluation mode, float32, over any number of crops.

    Args:
        network: Left in the mode it was in.
        crops: (N, S, S, 3) uint8 BGR.
        batch: Crops at a time.

    Returns:
        By task logits (N, C) float32; and the embedding (N, D) float32.
    """
    device = next(network.parameters()).device
    images = (to_image(torch.from_numpy(part).to(device)) for part in _batches(crops, batch))
    return predict_batches(network, images)


@torch.inference_mode()
def predict_batches(
    network: Network, batches: Iterable[torch.Tensor | Seen]
) -> tuple[Logits, npt.NDArray[np.float32]]:
    """Do the same with batches as the network takes them.

    Args:
        network: The network; it is in the mode that it was in afterwards.
        batches: Each (B, 3, S, S) float32 as from `to_image`, or what a trunk has seen of one.

    Returns:
        By task logits (N, C) float32; and the embedding (N, D) float32.
    """
    was_training = network.training
    network.eval()
    try:
        parts = [network(batch) for batch in batches]
    finally:
        network.train(was_training)
    logits = {
        task.name: _joined([part[0][task.name] for part in parts], len(task.classes))
        for task in network.tasks
    }
    return logits, _joined([part[1] for part in parts], network.embedding_size)


def _batches(crops: npt.NDArray[np.uint8], batch: int) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(crops), batch):
        # A copy: torch cannot take a read-only memory map.
        yield take(crops, slice(start, start + batch))


def _joined(parts: list[torch.Tensor], width: int) -> npt.NDArray[np.float32]:
    if not parts:
        return np.zeros((0, width), np.float32)
    return torch.cat(parts).float().cpu().numpy()
