"""Hand-made maps of edges and texture, computed inside the network from its pixels.

Each is a bank of fixed filters on the grey picture, followed by ReLU6: a filter and its negative
are two channels, so that no response is lost below zero. Convolution and ReLU6 are one integer
operation in INT8. The filters are buffers: they are stored with the weights and travel in the
bundle, and the device computes nothing beside the network.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from train.backbones.trunk import Colour
from train.registry import Registry

Filters = npt.NDArray[np.float64]

_LUMA_BGR = (0.114, 0.587, 0.299)
_STEEPEST = 6.0  # where ReLU6 ends


@dataclass(frozen=True)
class PixelMap:
    """One bank of filters.

    Attributes:
        filters: (K, k, k) float64 on a grey picture from 0, black, to 1, white; each sums to 0.
            k is 1 more than a multiple of 4, so that a stride of 2 meets the same pixels whatever
            k is.
        bias: Added to every response.
    """

    filters: Filters
    bias: float = 0.0


class PixelMaps(nn.Module):
    """The maps of several banks, one after the other.

    Attributes:
        channels: How many maps there are.

    Args:
        names: Of the banks.
        std: What the pixels B, G, R were divided by, grey levels.
        stride: Pixels a step, 1 or 2.
    """

    luma: torch.Tensor
    filters: torch.Tensor
    biases: torch.Tensor

    def __init__(self, names: tuple[str, ...], std: Colour, stride: int) -> None:
        super().__init__()
        banks = [MAPS[name] for name in names]
        side = max(bank.filters.shape[-1] for bank in banks)
        filters = np.concatenate([_widened(bank.filters, side) for bank in banks])
        biases = np.concatenate([np.full(len(bank.filters), bank.bias) for bank in banks])
        luma = torch.tensor(_LUMA_BGR) * torch.tensor(std) / 255.0
        self.channels = len(filters)
        self._stride = stride
        self.register_buffer("luma", luma.view(1, 3, 1, 1))
        self.register_buffer("filters", torch.from_numpy(filters).float()[:, None])
        self.register_buffer("biases", torch.from_numpy(biases).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map normalised pixels (N, 3, S, S) to (N, channels, S / stride, S / stride), 0 to 6.

        S / stride is rounded up. Where a filter reaches beyond the picture there is 0: whatever
        one adds around a picture has edges of its own.
        """
        kind = pixels.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            # bfloat16 does not tell neighbouring grey levels apart.
            with torch.autocast(kind, enabled=False):
                return self._respond(pixels.float())
        return self._respond(pixels)

    def _respond(self, pixels: torch.Tensor) -> torch.Tensor:
        # What was subtracted from the pixels is missing in the grey, and no filter sees it.
        grey = functional.conv2d(pixels, self.luma)
        response = functional.relu6(
            functional.conv2d(grey, self.filters, self.biases, self._stride)
        )
        before = self.filters.shape[2] // 2 // self._stride
        down = -(-grey.shape[2] // self._stride) - response.shape[2] - before
        right = -(-grey.shape[3] // self._stride) - response.shape[3] - before
        return functional.pad(response, (before, right, before, down))


def _widened(filters: Filters, side: int) -> Filters:
    border = (side - filters.shape[-1]) // 2
    return np.pad(filters, ((0, 0), (border, border), (border, border)))


def _with_negatives(filters: Filters) -> Filters:
    return np.concatenate([filters, -filters])


def edge_filters() -> Filters:
    """Return Scharr's two derivatives and their negatives, (4, 5, 5); 6 where black meets white.

    Scharr's weights respond to an edge of any direction more evenly than Sobel's.

    References:
        Scharr, Optimal Operators in Digital Image Processing, dissertation, Heidelberg 2000.
    """
    across = np.outer([3.0, 10.0, 3.0], [-1.0, 0.0, 1.0]) / 16.0
    both = np.pad(np.stack([across, across.T]), ((0, 0), (1, 1), (1, 1)))
    return _STEEPEST * _with_negatives(both)


def gabor_filters() -> Filters:
    """Return even Gabor filters and their negatives, (16, 9, 9): 4 directions, 2 wavelengths.

    Wavelengths are 4 and 8 pixels. A pattern that fits a filter with half of the full contrast
    gives 6.

    References:
        Daugman, Uncertainty relation for resolution in space, spatial frequency, and orientation
        optimized by two-dimensional visual cortical filters, JOSA A 2(7), 1985.
    """
    y, x = np.mgrid[-4:5, -4:5].astype(np.float64)
    bank = []
    for wavelength in (4.0, 8.0):
        envelope = np.exp(-(x**2 + y**2) / (2 * (0.4 * wavelength) ** 2))
        for direction in np.arange(4) * np.pi / 4:
            along = x * np.cos(direction) + y * np.sin(direction)
            wave = envelope * np.cos(2 * np.pi * along / wavelength)
            wave -= envelope * wave.sum() / envelope.sum()
            bank.append(wave / wave[wave > 0].sum())
    return 2 * _STEEPEST * _with_negatives(np.stack(bank))


_SURE = 8 / 255
"""A neighbour that is brighter by so much counts as brighter without a doubt."""


def neighbour_filters() -> Filters:
    """Return each of the 8 neighbours minus the middle, (8, 5, 5); `_SURE` gives 3."""
    places = [(y, x) for y in (1, 2, 3) for x in (1, 2, 3) if (y, x) != (2, 2)]
    filters = np.zeros((8, 5, 5))
    for one, place in zip(filters, places, strict=True):
        one[place], one[2, 2] = 1.0, -1.0
    return filters * (_STEEPEST / 2 / _SURE)


MAPS: Registry[PixelMap] = Registry("maps")
MAPS.add("edge", PixelMap(edge_filters()))
MAPS.add("texture", PixelMap(gabor_filters()))
# Local binary patterns with soft bits: 0 darker, 3 as bright, 6 brighter than the middle.
# Ojala, Pietikäinen and Mäenpää, Multiresolution Gray-Scale and Rotation Invariant Texture
# Classification with Local Binary Patterns, PAMI 24(7), 2002.
MAPS.add("binary_pattern", PixelMap(neighbour_filters(), bias=_STEEPEST / 2))
