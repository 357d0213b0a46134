"""What a backbone is: stages of convolutions, and what must be known to use them."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from train.registry import Registry
from transom.errors import ConfigurationError

Colour = tuple[float, float, float]
Tensors = Mapping[str, torch.Tensor]

IMAGENET_MEAN: Colour = (103.53, 116.28, 123.675)
IMAGENET_STD: Colour = (57.375, 57.12, 58.395)
"""What most published weights expect, B, G, R in grey levels 0 to 255."""


class Trunk(nn.Module):
    """Stages from shallow to deep, behind the normalisation that they expect.

    Attributes:
        stages: Each maps the map of the stage before; they are apart so that a fusion can come
            between them and a recipe can give the deeper ones a higher learning rate.
        pretrained_parts: What started from pretrained weights, shallow to deep: all stages, some,
            or parts of them; empty when everything starts from scratch.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, stages: Sequence[nn.Module], mean: Colour, std: Colour) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.pretrained_parts: tuple[nn.Module, ...] = ()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the first stage takes, from float32 (N, 3, S, S) BGR 0 to 255."""
        return (image - self.mean) * self.scale

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the map after every stage.

        Args:
            image: (N, 3, S, S) float32 BGR, 0 to 255.

        Returns:
            For each stage (N, channels, S / stride, S / stride), shallow to deep; rounded, and a
            few steps smaller where a family does not pad its convolutions.
        """
        x = self.normalise(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class WeightsNotFoundError(LookupError):
    """Pretrained weights are not on this machine; the message says where they were looked for."""


def _all_stages(trunk: Trunk) -> Sequence[nn.Module]:
    return list(trunk.stages)


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights that somebody has published.

    Attributes:
        source: Their published name: a package, or a model of a hub.
        licence: SPDX name of what the weights are under, as their publisher says.
        data: What they were trained on.
        find: Returns them from this machine, by the publisher's names, and never downloads;
            raises WeightsNotFoundError.
        adopt: Puts tensors with the publisher's names into a trunk, and turns the first
            convolution from RGB to BGR; raises ValueError where names or shapes are of another
            network.
        parts: What of a trunk they fill, shallow to deep.
        comes_with_train: Whether installing the extra `train` brings them.
    """

    source: str
    licence: str
    data: str
    find: Callable[[], Tensors]
    adopt: Callable[[Trunk, Tensors], None]
    parts: Callable[[Trunk], Sequence[nn.Module]] = _all_stages
    comes_with_train: bool = False


@dataclass(frozen=True)
class Backbone:
    """One backbone by name.

    Attributes:
        name: As a recipe says it.
        family: The file it is in.
        about: What it is, in a line.
        mean: Subtracted from the channels B, G, R; grey levels 0 to 255.
        std: Divides them after that; grey levels.
        channels: Of the map after each stage.
        strides: Pixels of the picture a step of each stage's map.
        int8_friendly: Whether it consists of what keeps its accuracy and gains speed in INT8:
            convolutions, ReLU or ReLU6, additions.
        int8: Why, or why not, in a line.
        stages: Makes the stages with random weights; raises ConfigurationError where the library
            that they come from is not installed.
        minimum_size: Smallest side of a crop, pixels.
        weights: Pretrained ones, or None where there are none.
        at_width: Makes the same backbone with a share of the channels; None where it comes in one
            width only.
        narrow: Fills a trunk of fewer channels with the most important ones of a wider trunk of
            the same backbone; returns which channels of the last map it kept, (C,) int64.
    """

    name: str
    family: str
    about: str
    mean: Colour
    std: Colour
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    int8_friendly: bool
    int8: str
    stages: Callable[[], Sequence[nn.Module]]
    minimum_size: int = 32
    weights: PretrainedWeights | None = None
    at_width: "Callable[[float], Backbone] | None" = None
    narrow: Callable[[Trunk, Trunk], torch.Tensor] | None = None

    def scaled(self, width: float) -> "Backbone":
        """Return it with a share of its channels.

        Raises:
            ConfigurationError: It comes in one width only.
        """
        if width == 1.0:
            return self
        if self.at_width is None:
            raise ConfigurationError(
                f"recipe: width must be 1 for backbone {self.name!r}, which comes in one width "
                f"only, got {width:g}; take one of the efficientnet_lite family"
            )
        return self.at_width(width)

    def trunk(self, pretrained: bool | str | Path) -> Trunk:
        """Build the trunk.

        Args:
            pretrained: True starts from the published weights, or from random ones where none
                have been published; False from random ones; a file (`.safetensors`, or a
                checkpoint of torch, of which only tensors are read) from what it holds: a trunk
                of this backbone (see `train.pretrain`), or weights as published.

        Raises:
            ConfigurationError: The weights, or a library that the architecture comes from, are
                not on this machine, or a file does not fit.
        """
        trunk = Trunk(self.stages(), self.mean, self.std)
        if isinstance(pretrained, str | Path):
            self._load_file(trunk, Path(pretrained))
        elif pretrained and self.weights is not None:
            self._load_published(trunk, self.weights)
        return trunk

    def require_size(self, size: int) -> None:
        """Refuse crops that are too small for the backbone.

        Raises:
            ConfigurationError: They are.
        """
        if size < self.minimum_size:
            raise ConfigurationError(
                f"recipe: size must be at least {self.minimum_size} for backbone {self.name!r}, "
                f"got {size}; enlarge it or take a smaller backbone"
            )

    def _load_published(self, trunk: Trunk, weights: PretrainedWeights) -> None:
        try:
            tensors = weights.find()
        except WeightsNotFoundError as error:
            raise ConfigurationError(
                f"recipe: backbone {self.name!r} starts from the weights {weights.source}, which "
                f"are not on this machine ({error}); put them there, name a file with pretrained "
                '= "FILE", or say pretrained = false'
            ) from error
        try:
            weights.adopt(trunk, tensors)
        except ValueError as error:
            raise ConfigurationError(
                f"recipe: what this machine has as the weights {weights.source} is not of "
                f"backbone {self.name!r} ({error}); fetch them again"
            ) from error
        trunk.pretrained_parts = tuple(weights.parts(trunk))

    def _load_file(self, trunk: Trunk, path: Path) -> None:
        tensors = read_tensors(path)
        try:
            if any(name.startswith("stages.") for name in tensors):
                _fill(trunk, tensors)
                trunk.pretrained_parts = tuple(trunk.stages)
            elif self.weights is not None:
                self.weights.adopt(trunk, tensors)
                trunk.pretrained_parts = tuple(self.weights.parts(trunk))
            else:
                raise ValueError("names do not begin with 'stages.'")
        except ValueError as error:
            raise ConfigurationError(
                f"recipe: pretrained = {str(path)!r} does not hold weights of backbone "
                f"{self.name!r}: {error}"
            ) from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from a `.safetensors` file or a checkpoint of torch.

    Of a checkpoint nothing but tensors and plain containers is read (`weights_only`).

    Raises:
        ConfigurationError: The file cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigurationError(f"{path}: cannot be read as weights: {error}") from error
    except safetensors.SafetensorError as error:
        raise ConfigurationError(f"{path}: cannot be read as weights: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    is_weights = isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )
    if not is_weights:
        raise ConfigurationError(
            f"{path}: must hold tensors by name, holds {type(content).__name__}"
        )
    return dict(content)


def _fill(trunk: Trunk, tensors: Tensors) -> None:
    try:
        trunk.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ValueError(str(error)) from error


BACKBONES: Registry[Backbone] = Registry("backbone")
