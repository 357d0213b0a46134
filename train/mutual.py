"""Networks that learn from each other: each from the labels and from what the others say.

References:
    Zhang, Xiang, Hospedales and Lu, Deep Mutual Learning, CVPR 2018.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from train.backbones import BACKBONES
from train.distill import divergence
from train.engine import Engine, derived_seed
from train.fusion import Seen
from train.network import Network, build_network
from train.recipe import Recipe
from train.reconstruction import Painters
from train.shared_norm import share_norms
from train.start import begin_from
from train.weighting import WEIGHTINGS, Weighting
from transom.tasks import TaskSet


class Learner(nn.Module):
    """A network and its own balance of the tasks: what a step trains.

    Attributes:
        network: What is trained.
        weighting: How its losses become one.
        painters: What paints its pictures again, where a recipe wants that.
    """

    network: Network
    weighting: Weighting
    painters: Painters | None

    def __init__(
        self, network: Network, weighting: Weighting, painters: Painters | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.weighting = weighting
        self.painters = painters

    @classmethod
    def begin(cls, recipe: Recipe, tasks: TaskSet, engine: Engine, number: int = 0) -> "Learner":
        """Build one; number 0 is the one that is kept, others are its peers."""
        purpose = ("weights", number) if number else ("weights",)
        torch.manual_seed(derived_seed(recipe.seed, *purpose))
        network = build_network(recipe, tasks)
        if recipe.start:
            begin_from(network, recipe.start, recipe.width)
        network = network.to(engine.device)
        weighting = WEIGHTINGS[recipe.weighting](tasks, recipe.task_weights).to(engine.device)
        weighting.share_work(engine.mean)
        blank = torch.zeros(1, 3, recipe.size, recipe.size, device=engine.device)
        weighting.check_shared(*network.eval()(blank))
        if not recipe.reconstruction:
            return cls(network, weighting)
        painters = Painters(network, BACKBONES[recipe.backbone]).to(engine.device)
        if engine.world > 1:
            share_norms(painters)
        return cls(network, weighting, painters)

    def look(
        self, wrapped: nn.Module, image: torch.Tensor | Seen
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return logits by task (N, C), the embedding (N, D), and what painting again costs.

        Args:
            wrapped: The network, as `Engine.wrap` gives it.
            image: (N, 3, S, S) float32 BGR, 0 to 255; or, where nothing is painted, what its first
                stages have seen of it.
        """
        if self.painters is None or isinstance(image, Seen):
            logits, embedding = wrapped(image)
            return logits, embedding, torch.zeros((), device=embedding.device)
        with self.painters.watching(self.network) as last_maps:
            logits, embedding = wrapped(image)
        return logits, embedding, self.painters(self.network, last_maps, image)

    def share_gradients(self, engine: Engine) -> None:
        """Average what is beside the network over all processes; the network does so itself."""
        if self.painters is None or engine.world == 1:
            return
        for parameter in self.painters.parameters():
            if parameter.grad is not None:
                parameter.grad.copy_(engine.mean(parameter.grad))

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Return optimiser groups."""
        weighting = {
            "params": list(self.weighting.parameters()),
            "lr": recipe.learning_rate,
            "weight_decay": 0.0,
        }
        beside = list(self.painters.parameters()) if self.painters else []
        painting = {**weighting, "params": beside, "weight_decay": recipe.weight_decay}
        groups = [*self.network.parameter_groups(recipe), weighting]
        return [*groups, painting] if beside else groups


def disagreement(
    logits: Sequence[Mapping[str, torch.Tensor]], which: int, temperature: float = 1.0
) -> torch.Tensor:
    """Return how far one network's answers lie from the others', (T,) float32.

    The mean over the other networks and over the pictures of their divergence, task by task. No
    gradient flows into the others.

    Args:
        logits: For each network, by task (N, C).
        which: Of which network.
        temperature: Above 0.
    """
    mine = logits[which]
    others = [said for place, said in enumerate(logits) if place != which]
    return torch.stack(
        [
            torch.stack([divergence(mine[task], said[task], temperature).mean() for said in others])
            for task in mine
        ]
    ).mean(1)
