"""Architectures from timm, cut into stages, with the weights that its users have.

timm is the optional extra `backbones`; it is imported when a trunk is built, never before.

References:
    Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from train.backbones.layers import ReLU6
from train.backbones.torchvision_operators import prepare_torchvision
from train.backbones.trunk import (
    PretrainedWeights,
    Tensors,
    Trunk,
    WeightsNotFoundError,
    read_tensors,
)
from transom.errors import ConfigurationError

Assemble = Callable[[nn.Module], Sequence[nn.Module]]
"""Makes a trunk's stages of a model's parts."""

# What stands above the trunk in the published networks, by the first part of its name.
_HEADS = frozenset(
    {"fc", "classifier", "head", "conv_head", "norm_head", "pre_logits", "AuxLogits"}
)


@dataclass(frozen=True)
class LibraryModel:
    """An architecture of timm and how it becomes a trunk.

    Attributes:
        name: As timm calls it.
        assemble: Makes the stages of its parts.
        options: Further arguments of `timm.create_model`.
        added: Part of the names of tensors that published weights lack, because the architecture
            adds them; empty = none.
    """

    name: str
    assemble: Assemble
    options: Mapping[str, Any]
    added: str = ""

    def make(self) -> nn.Module:
        """Build it with random weights and without its classifier.

        Raises:
            ConfigurationError: timm or torchvision is not installed.
        """
        timm = import_library("timm", self.name)
        model: nn.Module = timm.create_model(
            self.name, pretrained=False, num_classes=0, **self.options
        )
        _replace_relu6(model)
        return model

    def stages(self) -> Sequence[nn.Module]:
        """Build the stages with random weights.

        Raises:
            ConfigurationError: timm or torchvision is not installed.
        """
        return self.assemble(self.make())

    def adopt(self, trunk: Trunk, tensors: Tensors) -> None:
        """Put tensors with the library's names into a trunk; RGB becomes BGR.

        Raises:
            ValueError: Names or shapes are not those of this architecture.
        """
        model = self.make()
        stages = nn.ModuleList(self.assemble(model))
        mine = {id(tensor) for tensor in stages.state_dict(keep_vars=True).values()}
        wanted = {name for name, v in model.state_dict(keep_vars=True).items() if id(v) in mine}
        theirs = {k: v for k, v in tensors.items() if k.partition(".")[0] not in _HEADS}
        self._check_names(wanted, set(theirs))
        try:
            model.load_state_dict(theirs, strict=False)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        with torch.no_grad():
            stem = next(m for m in stages.modules() if isinstance(m, nn.Conv2d))
            stem.weight.copy_(stem.weight.flip(1))
        trunk.stages.load_state_dict(stages.state_dict())

    def _check_names(self, wanted: set[str], given: set[str]) -> None:
        optional = {
            name
            for name in wanted
            if name.endswith("num_batches_tracked") or (self.added and self.added in name)
        }
        missing, unknown = sorted(wanted - optional - given), sorted(given - wanted)
        if missing:
            raise ValueError(f"it lacks {missing[0]} and {len(missing) - 1} more")
        if unknown:
            raise ValueError(f"it holds {unknown[0]} and {len(unknown) - 1} more that are unknown")


def import_library(name: str, wanted: str) -> Any:
    """Import timm or a module of torchvision, fit for this PyTorch or not.

    Args:
        name: The module.
        wanted: What it is needed for; the error says so.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        prepare_torchvision()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about compiled image readers, which nothing uses
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"recipe: the architecture {wanted!r} comes from timm and torchvision, and "
            f"{error.name} is not installed: pip install 'transom[backbones]', or, to keep the "
            "PyTorch that is there, pip install --no-deps timm torchvision and "
            "pip install huggingface_hub pyyaml"
        ) from error


def cut(*stages: Sequence[str]) -> Assemble:
    """Return what makes each stage of the model's parts with these names, in order."""

    def assemble(model: nn.Module) -> list[nn.Module]:
        return [nn.Sequential(*(model.get_submodule(name) for name in names)) for names in stages]

    return assemble


def library_weights(
    model: LibraryModel,
    *,
    tag: str,
    licence: str,
    checkpoint: str,
    parts: Callable[[Trunk], Sequence[nn.Module]] | None = None,
) -> PretrainedWeights:
    """Describe weights that the workstation may have in a cache.

    Args:
        model: The architecture that they fill.
        tag: Name of the model in timm's collection on the Hugging Face hub.
        licence: SPDX name, as the collection says.
        checkpoint: File name in the cache of `torch.hub`.
        parts: What of a trunk they fill, where that is not every stage.
    """

    def find() -> Tensors:
        return read_tensors(_cached(tag, checkpoint))

    weights = PretrainedWeights(
        source=f"timm/{tag}", licence=licence, data="ImageNet-1k", find=find, adopt=model.adopt
    )
    if parts is None:
        return weights
    return PretrainedWeights(**{**vars(weights), "parts": parts})


def _cached(tag: str, checkpoint: str) -> Path:
    """Return the file of the weights on this machine; nothing is downloaded."""
    path = Path(torch.hub.get_dir(), "checkpoints", checkpoint)
    if path.is_file():
        return path
    try:
        hub = importlib.import_module("huggingface_hub")
        found = hub.try_to_load_from_cache(f"timm/{tag}", "model.safetensors")
    except ModuleNotFoundError:
        found = None
    if isinstance(found, str):
        return Path(found)
    raise WeightsNotFoundError(f"neither {path} nor timm/{tag} in the Hugging Face cache")


def _replace_relu6(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, ReLU6())
        else:
            _replace_relu6(child)
