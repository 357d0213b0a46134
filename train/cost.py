"""What a network costs, known before it is trained."""

import copy

import msgspec
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class NetworkCost(msgspec.Struct, frozen=True, kw_only=True):
    """Size of a network.

    Attributes:
        macs: Multiply-accumulates of convolutions and linear layers for one crop. What the bundle
            costs is the same (see `export.cost`).
        parameters: What is trained.
    """

    macs: int
    parameters: int


def network_cost(network: nn.Module, size: int) -> NetworkCost:
    """Count a network's work on one crop, without doing it.

    Args:
        network: Takes (1, 3, size, size); left as it is.
        size: Side of the crop in pixels.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shadow(torch.zeros(1, 3, size, size, device="meta"))
    return NetworkCost(
        macs=counter.get_total_flops() // 2,  # it counts the product and the sum
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
