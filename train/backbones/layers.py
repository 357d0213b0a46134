"""The convolution unit that the families are built from."""

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
        self._uneven = (total // 2, total - total // 2) * 2 if total % 2 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, outputs, H / stride, W / stride)."""
        return super().forward(x if self._uneven is None else functional.pad(x, self._uneven))


class ReLU6(nn.Module):
    """Clamps to 0 to 6.

    In training as `torch.nn.ReLU6`, in place; in evaluation by `clamp`, which says the same and is
    exported to ONNX in a fraction of the time.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same."""
        return functional.relu6(x, inplace=True) if self.training else x.clamp(0.0, 6.0)


class ConvUnit(nn.Module):
    """Convolution, batch normalisation and, unless told otherwise, ReLU6.

    The normalisation keeps PyTorch's momentum of 0.1 rather than ImageNet's 0.01: a training on a
    few hundred pictures is over before slower statistics have left the old domain.
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
        y: torch.Tensor = self.activation(self.norm(self.conv(x)))
        return y
