"""Layers that round as INT8 does and let the gradient through: what an INT8 graph is trained with.

References:
    Steps that learn: Esser et al., Learned Step Size Quantization, ICLR 2020.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Floats = npt.NDArray[np.float32]

_WEIGHT_RANGE = (-128, 127)


class RoundedActivation(nn.Module):
    """Rounds a tensor as QuantizeLinear and DequantizeLinear do; its step can learn.

    Attributes:
        growth: Logarithm of what the step has been multiplied by, (); 0 at first. A step that is
            driven down gets finer, and never reaches zero.
    """

    step: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, step: Floats, zero_point: npt.NDArray[np.integer]) -> None:
        super().__init__()
        limits = np.iinfo(zero_point.dtype)
        self._limits = (int(limits.min), int(limits.max))
        self.register_buffer("step", torch.tensor(float(step)))
        self.register_buffer("zero_point", torch.tensor(int(zero_point), dtype=torch.int32))
        self.growth = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same.

        Dividing by the gain before and multiplying after gives it the gradient of a learnt step.
        """
        gain = self.growth.exp()
        rounded = torch.fake_quantize_per_tensor_affine(
            x / gain, self.step, self.zero_point, *self._limits
        )
        return rounded * gain

    def learnt_step(self) -> Floats:
        """Return the step as it is now, ()."""
        return np.asarray((self.step * self.growth.detach().exp()).item(), np.float32)


class RoundedWeight(nn.Module):
    """A weight that is rounded with one step for each output channel, as the graph stores it.

    Attributes:
        shares: (O, ...) float32, the weight before rounding over the channel's largest at first:
            a quiet channel then learns as fast as a loud one.
        peaks: (O, 1, ...) float32, those largest.
        least_steps: (O,) float32, below which a step does not go. A bias is stored in steps of its
            weight's: where the weight is next to nothing, the graph has a larger step than the
            weight needs, so that the bias fits into 32 bits.

    Args:
        value: (O, ...), as the graph has it.
        steps: (O,), of the graph.
    """

    peaks: torch.Tensor
    least_steps: torch.Tensor
    zero_points: torch.Tensor

    def __init__(self, value: Floats, steps: Floats) -> None:
        super().__init__()
        peaks = np.abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True)
        needed = peaks.reshape(-1) / _WEIGHT_RANGE[1]
        least = np.where(steps > 1.01 * needed, steps, 0.0).astype(np.float32)
        self.register_buffer("peaks", torch.tensor(np.maximum(peaks, 1e-12)))
        self.register_buffer("least_steps", torch.tensor(np.maximum(least, 1e-12)))
        self.register_buffer("zero_points", torch.zeros(len(value), dtype=torch.int32))
        self.shares = nn.Parameter(torch.tensor(value) / self.peaks)

    def forward(self) -> torch.Tensor:
        """Return it rounded, (O, ...) float32."""
        value = self.shares * self.peaks
        return torch.fake_quantize_per_channel_affine(
            value, self.steps(), self.zero_points, 0, *_WEIGHT_RANGE
        )

    def steps(self) -> torch.Tensor:
        """Return the step of each output channel, (O,): its largest weight is 127 of them."""
        peaks = (self.shares.detach() * self.peaks).flatten(1).abs().amax(1)
        return torch.maximum(peaks / _WEIGHT_RANGE[1], self.least_steps)

    def integers(self) -> npt.NDArray[np.int8]:
        """Return the weight as the graph stores it, (O, ...), -128 to 127."""
        value = self.shares.detach() * self.peaks
        steps = self.steps().view(-1, *[1] * (value.ndim - 1))
        return torch.round(value / steps).clamp(*_WEIGHT_RANGE).numpy().astype(np.int8)


class LearntBias(nn.Module):
    """A bias; the graph stores it so finely that its rounding does not matter.

    Attributes:
        shares: (O,) float32, the bias over its own size at first.
        sizes: (O,) float32, those; of tiny ones a hundredth of the layer's largest.
    """

    sizes: torch.Tensor

    def __init__(self, value: Floats) -> None:
        super().__init__()
        sizes = np.maximum(np.abs(value), max(0.01 * float(np.abs(value).max()), 1e-12))
        self.register_buffer("sizes", torch.tensor(sizes))
        self.shares = nn.Parameter(torch.tensor(value) / self.sizes)

    def forward(self) -> torch.Tensor:
        """Return it, (O,) float32."""
        return self.shares * self.sizes
