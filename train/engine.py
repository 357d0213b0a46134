"""The machine a training runs on: its device, its arithmetic, and the others it shares work with.

The same loop runs on one CPU, on one GPU, and under `torchrun` on many: this is the only place
that knows of ranks.
"""

import atexit
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from train.allocator import keep_memory
from train.shared_norm import share_norms

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Engine:
    """One process of a training.

    Attributes:
        rank: Number of this process, 0 to `world` - 1.
        world: Number of processes.
        device: Where it computes.
        precision: Of the forward and backward pass; weights are always float32.
        local_rank: Number of this process among those of its machine.
        local_world: How many these are.
    """

    rank: int
    world: int
    device: torch.device
    precision: Precision
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def start(cls, precision: Literal["float32", "bf16", "auto"]) -> "Engine":
        """Find the device and, where `torchrun` set them, this process's rank and the world.

        Args:
            precision: `auto` is `bf16` on a GPU that has it, otherwise `float32`.
        """
        keep_memory()
        world = int(os.environ.get("WORLD_SIZE", "1"))
        has_gpu = torch.cuda.is_available()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
        if has_gpu:
            torch.cuda.set_device(device)
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        if world > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if has_gpu else "gloo")
            atexit.register(distributed.destroy_process_group)
        chosen = _fastest_precision(device) if precision == "auto" else precision
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            world=world,
            device=device,
            precision=chosen,
            local_rank=local,
            local_world=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return what to call in place of the network, so that gradients are averaged.

        Its normalisation is then over the whole batch: with the same pictures and no dropout,
        two processes train what one does, up to rounding.

        Call it again whenever parts of the network are frozen or thawed.
        """
        if self.world == 1:
            return network
        share_norms(network)
        return DistributedDataParallel(network)

    def part(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this process's share, (N / world,) or one more, of a batch's (N,) row indices."""
        return indices[self.rank :: self.world]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of `values`, of any shape, over all processes; without a gradient."""
        values = values.detach().clone()
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean of `values`, of any shape, over all processes; without a gradient."""
        return self.total(values) / self.world

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            distributed.barrier()

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass and the loss are computed."""
        is_low = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_low)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread on the CPU: where steps are small, others only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for one purpose, 0 to 2^63 - 1.

    Random numbers of an epoch follow from the recipe's seed and the epoch alone. So a training
    that goes on after an interruption has no generator's state to restore.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _fastest_precision(device: torch.device) -> Precision:
    # On a CPU, even one with bfloat16 matrices, depthwise convolutions and normalisation take
    # the time, and they are no faster in it.
    is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bf16" if is_fast else "float32"
