"""Variation of training pictures, a whole batch at a time.

The crops are just those that the device will cut, byte for byte; nothing larger is decoded to
move around in. What a shift or a rotation uncovers repeats the border, as `crop_zone` does outside
the frame. A larger decode would show true surroundings there, but the unvaried picture would then
be a second kind of crop, resampled once more than what the device sees.
"""

import math

import torch
from torch.nn import functional

from train.network import to_image
from train.recipe import Augmentation

_BLUR_TAPS = 7
_MAX_BLUR_PX = 1.5
_GREY_WEIGHTS = (0.114, 0.587, 0.299)
"""Luma of B, G, R (ITU-R BT.601)."""


class Augment:
    """Varies batches as an `Augmentation` says.

    All random numbers come from the generator given with each batch, so that the same generator
    state and batch give the same pictures.
    """

    def __init__(self, amounts: Augmentation) -> None:
        self._amounts = amounts

    @torch.no_grad()
    def __call__(self, crops: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Vary a batch.

        Args:
            crops: (N, S, S, 3) uint8 BGR.
            random: A generator on the CPU; it moves on.

        Returns:
            (N, 3, S, S) float32 BGR, 0 to 255, channels-last.
        """
        image = self._place(to_image(crops).contiguous(), random)
        is_infrared = _chance(len(image), self._amounts.grey, random)
        image = self._colour(image, is_infrared, random)
        self._light(image, is_infrared, random)
        self._blur(image, random)
        self._noise(image, random)
        self._cutout(image.clamp_(0.0, 255.0), random)
        return image.contiguous(memory_format=torch.channels_last)

    def _place(self, image: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Mirror, zoom, stretch, shift and rotate in one resampling."""
        amounts, n = self._amounts, len(image)
        flip = torch.where(_chance(n, amounts.flip, random), -1.0, 1.0)
        widest = 1.0 + (1.0 - amounts.zoom) / 4
        zoom = _between(n, amounts.zoom, widest, random)
        stretch = torch.exp2(_either_way(n, math.log2(1 + amounts.stretch), random))
        angle = _either_way(n, math.radians(amounts.rotate_deg), random)
        shift = torch.stack([_either_way(n, 2 * amounts.shift, random) for _ in range(2)], 1)
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = [cosine * stretch * flip, -sine, sine * flip, cosine / stretch]
        matrix = torch.cat([torch.stack(rows, 1).view(n, 2, 2), shift[:, :, None]], 2)
        moved = (matrix - torch.eye(2, 3)).abs().amax((1, 2)) > 1e-6
        if not moved.any():
            return image
        grid = functional.affine_grid(
            matrix.to(image.device), list(image.shape), align_corners=False
        )
        return functional.grid_sample(
            image, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def _colour(
        self, image: torch.Tensor, is_infrared: torch.Tensor, random: torch.Generator
    ) -> torch.Tensor:
        """Gamma, then white balance, contrast, brightness and saturation as one matrix."""
        amounts, n = self._amounts, len(image)
        gamma = torch.exp2(_either_way(n, amounts.gamma, random))
        tint = 1 + torch.stack([_either_way(n, amounts.tint, random) for _ in range(3)], 1)
        contrast = 1 + _either_way(n, amounts.contrast, random)
        brightness = _either_way(n, 255 * amounts.brightness, random)
        saturation = 1 + _either_way(n, amounts.saturation, random)
        saturation = torch.where(is_infrared, 0.0, saturation)[:, None, None]
        if amounts.gamma:
            image = image.div_(255).clamp_(min=1e-4).pow_(_each(gamma, image)).mul_(255)
        middle = image.mean((1, 2, 3)).cpu()
        gain = contrast[:, None] * tint
        luma = torch.tensor(_GREY_WEIGHTS).expand(3, 3)
        mix = saturation * torch.eye(3) + (1 - saturation) * luma
        offset = mix @ (middle[:, None] * (1 - gain) + brightness[:, None])[:, :, None]
        matrix = mix * gain[:, None, :]
        mixed = torch.baddbmm(offset.to(image.device), matrix.to(image.device), image.flatten(2))
        return mixed.view_as(image)

    def _light(
        self, image: torch.Tensor, is_infrared: torch.Tensor, random: torch.Generator
    ) -> None:
        """Light infra-red pictures from the camera: a bright middle and dark corners."""
        n, (height, width) = len(image), image.shape[2:]
        centre = _between(2 * n, 0.25, 0.75, random).view(n, 2)[is_infrared]
        depth = _between(n, 0.0, 0.8, random)[is_infrared]
        y = torch.linspace(0, 1, height)[None, :, None] - centre[:, :1, None]
        x = torch.linspace(0, 1, width)[None, None, :] - centre[:, 1:, None]
        light = 1.1 - depth[:, None, None] * (x.square() + y.square())
        rows = is_infrared.to(image.device)
        image[rows] = image[rows] * light[:, None].to(image.device)

    def _blur(self, image: torch.Tensor, random: torch.Generator) -> None:
        n, (height, width) = len(image), image.shape[2:]
        chosen = _chance(n, self._amounts.blur, random)
        sigma = _between(n, 0.3, _MAX_BLUR_PX, random)[chosen]
        if not chosen.any():
            return
        reach = _BLUR_TAPS // 2
        taps = torch.arange(-reach, reach + 1)
        kernel = torch.exp(-0.5 * (taps / sigma[:, None]).square())
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0).to(image.device)
        rows = chosen.to(image.device)
        planes = image[rows].reshape(1, -1, height, width)
        planes = functional.pad(planes, (reach,) * 4, mode="replicate")
        for shape in ((-1, 1, 1, _BLUR_TAPS), (-1, 1, _BLUR_TAPS, 1)):
            planes = functional.conv2d(planes, kernel.view(shape), groups=planes.shape[1])
        image[rows] = planes.view(-1, 3, height, width)

    def _noise(self, image: torch.Tensor, random: torch.Generator) -> None:
        """Add noise to the brightness: cameras smooth away most of that of the colours."""
        n, (height, width) = len(image), image.shape[2:]
        if not self._amounts.noise:
            return
        sigma = _between(n, 0.0, self._amounts.noise, random)
        noise = torch.randn((n, 1, height, width), generator=random).to(image.device)
        image.add_(noise.mul_(_each(sigma, image)))

    def _cutout(self, image: torch.Tensor, random: torch.Generator) -> None:
        n, (height, width) = len(image), image.shape[2:]
        chosen = _chance(n, self._amounts.cutout, random)
        sides = _between(2 * n, 0.15, 0.5, random).view(2, n, 1)
        starts = _between(2 * n, 0.0, 1.0, random).view(2, n, 1) * (1 - sides)
        y, x = torch.linspace(0, 1, height)[None], torch.linspace(0, 1, width)[None]
        inside_y = (y >= starts[0]) & (y < starts[0] + sides[0])
        inside_x = (x >= starts[1]) & (x < starts[1] + sides[1])
        hole = inside_y[:, :, None] & inside_x[:, None, :] & chosen[:, None, None]
        image.masked_fill_(hole[:, None].to(image.device), 127.0)


def _chance(n: int, probability: float, random: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=random) < probability


def _between(n: int, low: float, high: float, random: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=random)


def _either_way(n: int, most: float, random: torch.Generator) -> torch.Tensor:
    return _between(n, -most, most, random)


def _each(values: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """One value a picture, shaped to multiply a batch."""
    return values.to(image.device).view(-1, 1, 1, 1)
