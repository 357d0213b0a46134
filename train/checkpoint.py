"""Where a training stands, in one safetensors file: tensors, and JSON in its header.

One file and not two, so that a power cut never leaves the tensors of one epoch beside the figures
of another. Nothing in it is code: it can be read, not run.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import nn

from train.history import EpochRecord
from transom.atomic import write_file
from transom.errors import RunError

NAME = "checkpoint.safetensors"
_STATE = "state"


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not a tensor.

    Attributes:
        recipe: Digest of the recipe.
        corpus: Digest of the data.
        step: Steps done.
        history: Epochs done.
    """

    recipe: str
    corpus: str
    step: int
    history: tuple[EpochRecord, ...] = ()


def save_checkpoint(
    folder: Path,
    standing: Standing,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint over the last one; it is replaced whole or not at all.

    Args:
        folder: The run's folder.
        standing: What is not a tensor.
        modules: By name, those whose state belongs to the training.
        optimizer: Its state is kept by the position of the parameter.

    Raises:
        OSError: The file cannot be written.
    """
    tensors = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for position, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{position}/{key}"] = value
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {_STATE: msgspec.json.encode(standing).decode()}
    write_file(folder / NAME, safetensors.torch.save(plain, metadata))


def load_checkpoint(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> Standing | None:
    """Restore what `save_checkpoint` wrote; None where there is no checkpoint.

    Raises:
        RunError: The file is damaged, or belongs to another network.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        with safetensors.safe_open(path, "pt") as file:
            standing = msgspec.json.decode((file.metadata() or {})[_STATE], type=Standing)
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}/"))
    except (safetensors.SafetensorError, msgspec.DecodeError, KeyError, RuntimeError) as error:
        raise RunError(
            f"{path}: cannot be used ({error}); remove the run's folder and train again"
        ) from error
    for position, parameter in enumerate(_parameters(optimizer)):
        state = _below(tensors, f"optimizer/{position}/")
        if state:
            optimizer.state[parameter] = {
                key: _like(parameter, value) for key, value in state.items()
            }
    return standing


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Place a moment as its parameter lies in memory; the step count stays where it is."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter).copy_(value)
