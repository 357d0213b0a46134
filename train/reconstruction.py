"""Reconstruction: a decoder that paints the picture again from a trunk's last map.

It needs no labels. As an auxiliary task its loss keeps in the trunk what the labels do not ask for;
as a task of its own it pretrains a trunk on pictures that nobody has labelled (`train.pretrain`). A
device never runs it.

References:
    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science
    2006; Le, Patterson and White, Supervised Autoencoders, NeurIPS 2018 (the auxiliary task).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn import functional

from train.backbones import Backbone, Trunk
from train.backbones.layers import ConvUnit

_NARROWEST = 16


class Decoder(nn.Module):
    """Doubles a map's size until it is a picture's.

    Args:
        channels: Of the map that it starts from.
        stride: Pixels of the picture a step of that map; a power of 2.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for _ in range(stride.bit_length() - 1):
            narrower = max(_NARROWEST, min(channels // 2, 256))
            steps += [nn.Upsample(scale_factor=2, mode="nearest"), ConvUnit(channels, narrower, 3)]
            channels = narrower
        self.steps = nn.Sequential(*steps)
        self.paint = nn.Conv2d(channels, 3, 1)

    def forward(self, last_map: torch.Tensor, size: int) -> torch.Tensor:
        """Map (N, channels, h, w) to a normalised picture (N, 3, size, size)."""
        picture: torch.Tensor = self.paint(self.steps(last_map))
        if picture.shape[-1] == size:
            return picture
        return functional.interpolate(picture, size=(size, size), mode="bilinear")


class Reconstruction(nn.Module):
    """The task of painting the picture again.

    Args:
        backbone: Of the trunk whose last map is painted from.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.decoder = Decoder(backbone.channels[-1], backbone.strides[-1])

    def forward(self, trunk: Trunk, last_map: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return how far each painted picture is from the truth, (N,) float32.

        The mean squared difference of normalised pixels: with most normalisations, painting
        everything in the mean colour costs a little below 1.

        Args:
            trunk: Knows the normalisation.
            last_map: (N, C, h, w), of pictures that may have been spoilt.
            truth: (N, 3, S, S) float32 BGR, 0 to 255: what the pictures were before.
        """
        painted = self.decoder(last_map, truth.shape[-1])
        loss: torch.Tensor = (painted.float() - trunk.normalise(truth)).square().mean((1, 2, 3))
        return loss


class Painters(nn.Module):
    """The task of painting the picture again, for every trunk of a network.

    A network of several trunks has a painter for each. They are beside the network and not in it:
    neither its weights nor its graph know of them.

    Args:
        network: Whose trunks.
        backbone: Of the trunks.
    """

    def __init__(self, network: nn.Module, backbone: Backbone) -> None:
        super().__init__()
        self.tasks = nn.ModuleList(Reconstruction(backbone) for _ in _trunks(network))

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[list[torch.Tensor]]:
        """Catch the last map (N, C, h, w) of each trunk while the block runs the network once."""
        last_maps: list[torch.Tensor] = []

        def catch(stage: nn.Module, inputs: object, output: torch.Tensor) -> None:
            last_maps.append(output)

        with ExitStack() as hooks:
            for trunk in _trunks(network):
                hooks.callback(trunk.stages[-1].register_forward_hook(catch).remove)
            yield last_maps

    def forward(
        self, network: nn.Module, last_maps: Sequence[torch.Tensor], truth: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean loss over pictures and trunks (see `Reconstruction`).

        Args:
            network: Knows the normalisation.
            last_maps: Of each trunk, as caught.
            truth: (N, 3, S, S) float32 BGR, 0 to 255.
        """
        losses = [
            task(trunk, last_map, truth).mean()
            for task, trunk, last_map in zip(self.tasks, _trunks(network), last_maps, strict=True)
        ]
        return torch.stack(losses).mean()


def _trunks(network: nn.Module) -> list[Trunk]:
    return [module for module in network.modules() if isinstance(module, Trunk)]
