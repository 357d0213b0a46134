"""The convolution unit that the families are built from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Convolution(nn.Conv2d):
    """A convolution that keeps the size or halves it (rounding down), as TensorFlow's `SAME` does.

    On an even side, stride 2 pads one more at the right and bottom than at the left and top.
    Weights that were trained so are half a step out of place under symmetric padding.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        total = kernel - stride
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride,
            padding=0 if total % 2 else total // 2,
            groups=groups,
            bias=False,
        )
        self._uneven = (total // 2, total - total // 2) if total % 2 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, outputs, H / stride, W / stride)."""
        return super().forward(self._padded(x))

    def normalised(self, x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        """Convolve and normalise by fixed statistics, in one pass over the map.

        What `norm(self(x))` gives in evaluation, up to rounding. Gradients reach the weights of
        both. A normalisation of its own would read and write the whole map once more, there and
        back, and on a CPU that takes as long as the convolution.

        Args:
            x: (N, C, H, W).
            norm: Of the outputs, with running statistics.
        """
        scale, shift = _as_scale(norm)
        weight = self.weight * scale.view(-1, 1, 1, 1)
        y: torch.Tensor = self._conv_forward(self._padded(x), weight, shift)
        return y

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        if self._uneven is None:
            return x
        before, after = self._uneven
        # A stride beyond the kernel leaves edges out instead of adding to them.
        if before < 0 or torch.compiler.is_exporting():
            return functional.pad(x, (before, after, before, after))
        padded: torch.Tensor = _Pad.apply(x, before, after)  # type: ignore[no-untyped-call]
        return padded


def _as_scale(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a normalisation by its running statistics multiplies by and adds, (C,) each."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("the normalisation must have running statistics")
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class ReLU6(nn.Module):
    """Clamps to 0 to 6.

    In place, as a map is large and nobody else reads what comes in; `clamp` says the same where
    the network is exported, and gives the simpler ONNX graph in a fraction of the time.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same; what is given is overwritten."""
        if torch.compiler.is_exporting():
            return x.clamp(0.0, 6.0)
        y: torch.Tensor = _ClampInPlace.apply(x)  # type: ignore[no-untyped-call]
        return y


class _ClampInPlace(torch.autograd.Function):
    """PyTorch's own keeps a copy of what it overwrites; what comes out says as much."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.mark_dirty(x.clamp_(0.0, 6.0))
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (y,) = ctx.saved_tensors
        passed: torch.Tensor = torch.ops.aten.hardtanh_backward(gradients[0], y, 0.0, 6.0)
        return passed


class _Pad(torch.autograd.Function):
    """Zeros around a map; PyTorch's own writes the whole map once more, there and back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, before: int, after: int) -> torch.Tensor:
        height, width = x.shape[2:]
        ctx.inside = (slice(before, before + height), slice(before, before + width))
        order = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
        padded = torch.empty(
            (*x.shape[:2], before + height + after, before + width + after),
            dtype=x.dtype,
            device=x.device,
            memory_format=order,
        )
        padded[..., *ctx.inside] = x
        for rim in (slice(0, before), slice(-after, None)):
            padded[:, :, rim] = 0.0
            padded[:, :, :, rim] = 0.0
        return padded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0][..., *ctx.inside], None, None


def _is_channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


class ConvUnit(nn.Module):
    """Convolution, batch normalisation and, unless told otherwise, ReLU6.

    The normalisation keeps PyTorch's momentum of 0.1 rather than ImageNet's 0.01: a training on a
    few hundred pictures is over before slower statistics have left the old domain. Where its
    statistics rest, in evaluation or by the recipe's `norm`, it is folded into the convolution; an
    exporter does that by itself, and better, because it does it once.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        activates: bool = True,
    ) -> None:
        super().__init__()
        self.conv = Convolution(inputs, outputs, kernel, stride, groups)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.activation = ReLU6() if activates else nn.Identity()
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        is_folded = not (self.norm.training or torch.compiler.is_exporting())
        y = self.conv.normalised(x, self.norm) if is_folded else self.norm(self.conv(x))
        activated: torch.Tensor = self.activation(y)
        return activated


def plain_stages(channels: Sequence[int]) -> list[nn.Module]:
    """Return a stage for each channel count: two 3x3 convolutions, the first of which halves."""
    inputs = (3, *channels[:-1])
    return [
        nn.Sequential(ConvUnit(before, after, 3, 2), ConvUnit(after, after, 3))
        for before, after in zip(inputs, channels, strict=True)
    ]
