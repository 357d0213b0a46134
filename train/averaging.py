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
        self.follow(network)

    def follow(self, network: Network) -> None:
        """Average what of a network is trained now, until told otherwise.

        What is frozen has never moved, so it is its own average. To find it takes as long as a
        small step does, so it is not looked for in each.
        """
        frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
        mine, theirs = self.network.state_dict(), network.state_dict()
        pairs = [(mine[name], theirs[name]) for name in mine if name not in frozen]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the network after its step number `step`, counted from 1.

        Early on the average is shorter, so that the random start is soon forgotten.
        """
        decay = min(self._decay, step / (step + 9.0))
        mine, theirs = zip(*self._floats, strict=True)
        torch._foreach_lerp_(mine, theirs, 1.0 - decay)
        for counted, counter in self._others:
            counted.copy_(counter)
