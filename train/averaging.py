"""The average of a network's weights over the last steps, which generalises better than the last.

References:
    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
"""

import copy

import torch

from train.network import Network


class Average:
    """An exponential moving average of a network, with normalisation's statistics.

    Attributes:
        network: The averaged network; never trained.

    Args:
        network: What is averaged; the average starts as a copy of it.
        steps: Over about how many steps; 0 = it is always the network as it is.
    """

    def __init__(self, network: Network, steps: float) -> None:
        self.network: Network = copy.deepcopy(network).requires_grad_(False)
        self._decay = 0.0 if steps <= 1 else 1.0 - 1.0 / steps

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move towards the network after its step number `step`, counted from 1.

        Early on the average is shorter, so that the random start is soon forgotten.
        """
        decay = min(self._decay, step / (step + 9.0))
        mine, theirs = self.network.state_dict(), network.state_dict()
        names = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in names], [theirs[n] for n in names], 1.0 - decay)
        for name in set(mine) - set(names):
            mine[name].copy_(theirs[name])
