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

        What is frozen has never moved, and neither have statistics of layers in evaluation, so
        they are their own average. To find them takes as long as a small step does, so they are
        not looked for in each.
        """
        pairs = {}
        for mine, theirs in zip(self.network.modules(), network.modules(), strict=True):
            moves = [name for name, p in theirs.named_parameters(recurse=False) if p.requires_grad]
            if theirs.training:
                moves += [name for name, _ in theirs.named_buffers(recurse=False)]
            for name in moves:
                target = getattr(mine, name)
                pairs[id(target)] = target, getattr(theirs, name).detach()
        self._floats = [pair for pair in pairs.values() if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs.values() if not pair[0].is_floating_point()]

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
