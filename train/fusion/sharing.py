"""What a fusion is, and the parts that several of them are made of."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from train.backbones import Trunk
from transom.errors import ConfigurationError
from transom.tasks import TaskSet


@dataclass(frozen=True)
class Fused:
    """What a fusion makes of N pictures.

    Attributes:
        embedding: (N, D) float32, never negative: what leaves the network beside the logits.
        by_task: What each task's head reads, (N, D of the task) float32.
    """

    embedding: torch.Tensor
    by_task: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Seen:
    """What the first stages of a fusion make of N pictures: all that the others need of them.

    Attributes:
        maps: Each (N, channels, h, w), float.
        stages: How many stages have looked.
    """

    maps: tuple[torch.Tensor, ...]
    stages: int


class Fusion(nn.Module, ABC):
    """A way of sharing.

    Attributes:
        embedding_size: D of the embedding.
        task_sizes: D of what each task's head reads.
    """

    embedding_size: int
    task_sizes: dict[str, int]

    @abstractmethod
    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what `fuse` takes, from float32 (N, 3, S, S) BGR 0 to 255.

        A fusion of several trunks does this once: in INT8 the network then takes the bytes.
        """

    @abstractmethod
    def fuse(self, pixels: torch.Tensor) -> Fused:
        """Map normalised pixels (N, 3, S, S) to what the heads read."""

    @abstractmethod
    def pretrained_stages(self) -> Sequence[nn.Module]:
        """Return what started from pretrained weights, shallow to deep.

        These parts are frozen in the first epochs and learn more slowly later; a part of equal
        depth in several trunks is one `ModuleList`. Empty when everything starts from scratch.
        """

    def resting_stages(self) -> Sequence[nn.Module]:
        """Return the first stages, as far as nothing in them is trained now.

        What they make of a picture stays the same as long as they rest, so it can be kept. Empty
        where a fusion cannot go on from there.
        """
        return ()

    def see(self, pixels: torch.Tensor, stages: int) -> Seen:
        """Run some first stages, at most those that rest, on normalised pixels (N, 3, S, S)."""
        return Seen((pixels,), 0)

    def go_on(self, seen: Seen) -> Fused:
        """Run what comes after: with `see` before, it is `fuse`."""
        [pixels] = seen.maps
        return self.fuse(pixels)

    def forward(self, image: torch.Tensor | Seen) -> Fused:
        """Map float32 (N, 3, S, S) BGR, 0 to 255, or what is seen of it, to what the heads read."""
        return self.go_on(image) if isinstance(image, Seen) else self.fuse(self.normalise(image))


class OneTrunk(Fusion):
    """A fusion of one trunk, and something upon its maps.

    Args:
        trunk: Its stages come first.
        reads_every_map: Whether `join` reads the map of every stage, not only the mean of the last.
    """

    trunk: Trunk

    def __init__(self, trunk: Trunk, *, reads_every_map: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self._reads_every_map = reads_every_map

    @abstractmethod
    def join(self, maps: Sequence[torch.Tensor]) -> Fused:
        """Make of the maps (N, C, h, w), of every stage or the last, what the heads read.

        Where only the last is read, it may be its mean over the map, (N, C, 1, 1).
        """

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the trunk's first stage takes."""
        return self.trunk.normalise(image)

    def fuse(self, pixels: torch.Tensor) -> Fused:
        """Run the trunk once, and join its maps."""
        return self.join(_run(self.trunk.stages, pixels))

    def pretrained_stages(self) -> Sequence[nn.Module]:
        """Return those of the trunk."""
        return self.trunk.pretrained_parts

    def resting_stages(self) -> Sequence[nn.Module]:
        """Return those of the trunk."""
        return list(itertools.takewhile(_rests, self.trunk.stages))

    def see(self, pixels: torch.Tensor, stages: int) -> Seen:
        """Run some first stages; what a join reads of their maps is kept, and no more."""
        maps = _run(self.trunk.stages[:stages], pixels)
        if self._reads_every_map:
            return Seen(tuple(maps), stages)
        is_whole = stages == len(self.trunk.stages)
        return Seen((mean_over_map(maps[-1]) if is_whole else maps[-1],), stages)

    def go_on(self, seen: Seen) -> Fused:
        """Run the other stages, and join."""
        return self.join([*seen.maps, *_run(self.trunk.stages[seen.stages :], seen.maps[-1])])


Pretrained = bool | str | Path
"""Where a trunk starts (see `Backbone.trunk`)."""

MakeFusion = Callable[..., Fusion]
"""Called as (backbone, tasks, embedding=…, pretrained=…)."""


def _run(stages: Iterable[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    """Return the map after each of some stages that follow one another."""
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps


def _rests(stage: nn.Module) -> bool:
    """Whether a stage gives the same for the same, now and after the next step."""
    return not (stage.training or any(p.requires_grad for p in stage.parameters()))


def mean_over_map(last_map: torch.Tensor) -> torch.Tensor:
    """Return the mean of a map (N, C, h, w) over its places, (N, C, 1, 1)."""
    return last_map.mean((2, 3), keepdim=True)


def width_per_task(embedding: int, tasks: TaskSet) -> int:
    """Return how long each task's part of an embedding is.

    Raises:
        ConfigurationError: Not every task gets one value.
    """
    width = embedding // len(tasks)
    if width == 0:
        raise ConfigurationError(
            f"recipe: embedding must be at least the number of tasks, {len(tasks)}, where each "
            f"task has a part of it, got {embedding}"
        )
    return width


class _OfOnePlace(nn.Conv2d):
    """A 1x1 convolution of maps (N, C, 1, 1), which trains as the matrix product that it is.

    A CPU takes several times as long for it as a convolution, and where nothing but this and the
    heads is trained little else is done in a step. What is exported stays a convolution.
    """

    def _conv_forward(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        y: torch.Tensor
        if self.training:
            # Channels last, as the weight lies in memory: its gradient shall lie likewise.
            matrix = weight.permute(0, 2, 3, 1).flatten(1)
            y = nn.functional.linear(x.flatten(1), matrix, bias)[:, :, None, None]
        else:
            y = super()._conv_forward(x, weight, bias)
        return y


class Embed(nn.Module):
    """From the last map to the embedding: average over the map, 1x1 convolution, norm, ReLU.

    Convolution, normalisation and ReLU become one integer operation in INT8. The normalisation
    gives every dimension a like spread, and ReLU keeps it at or above zero: small heads that a
    device fits on it, by ridge or logistic regression, are then well conditioned. It is narrow
    (128 by default, against the map's 1280) so that such a fit takes milliseconds and a stored
    embedding half a kilobyte.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.project = _OfOnePlace(channels, size, 1, bias=False)
        self.norm = nn.BatchNorm2d(size)
        nn.init.kaiming_normal_(self.project.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, last_map: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, h, w) to (N, size)."""
        pooled = mean_over_map(last_map)
        return torch.relu(self.norm(self.project(pooled))).flatten(1)


class EmbedEach(nn.Module):
    """An embedding of its own for each task; the device gets them one after the other.

    So the device's embedding is as long as with one for all, and all of it is trained. Each task's
    head reads its own part.

    Attributes:
        width: Length of each part.
    """

    def __init__(self, channels: int, embedding: int, tasks: TaskSet) -> None:
        super().__init__()
        self.width = width_per_task(embedding, tasks)
        self._names = tasks.names
        self.parts = nn.ModuleList(Embed(channels, self.width) for _ in tasks)

    def forward(self, last_maps: Sequence[torch.Tensor]) -> Fused:
        """Embed each task's last map (N, channels, h, w)."""
        parts = [embed(one) for embed, one in zip(self.parts, last_maps, strict=True)]
        return Fused(torch.cat(parts, 1), dict(zip(self._names, parts, strict=True)))


def match_size(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut or pad maps (N, C, h, w) around their middle, so that they lie on others.

    For maps of one stride whose borders were treated differently: a few pixels at most.
    """
    down, right = height - maps.shape[2], width - maps.shape[3]
    if down == 0 and right == 0:
        return maps
    # A negative number cuts.
    sides = (right // 2, right - right // 2, down // 2, down - down // 2)
    return nn.functional.pad(maps, sides)
