"""Batch normalisation over a batch that several processes share.

Each process would otherwise normalise by its own part of the batch, and a training under two
processes would be another one than under one. PyTorch's `SyncBatchNorm` does the same on GPUs
only.
"""

from typing import Any

import torch
from torch import distributed, nn


class SharedNorm(nn.BatchNorm2d):
    """`BatchNorm2d` whose mean and variance are those of all processes' rows together.

    Parameters, buffers and evaluation are those of `BatchNorm2d`, so weights go from one to the
    other.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "SharedNorm":
        """Take the place of a normalisation, with its very parameters and buffers."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine)
        shared.weight, shared.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(shared, name, buffer)
        return shared.train(norm.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W) float."""
        if not self.training:
            return super().forward(x)
        rows = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        count = _sum_over_processes(rows)
        values = x.float()
        mean = _sum_over_processes(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        # Two passes, because the difference of two large sums would lose the small variances.
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), (variance * count / (count - 1).clamp(min=1)).detach())
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        normal = centred * scale[:, None, None]
        if self.affine:
            normal = normal + self.bias[:, None, None]
        return normal.to(x.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def share_norms(network: nn.Module) -> None:
    """Replace every `BatchNorm2d` of a network in its place."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedNorm.of(child))


class _Sum(torch.autograd.Function):
    """The sum over processes, through which gradients flow to all of them."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total
