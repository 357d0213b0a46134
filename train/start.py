"""Starting a training from a network that already knows doors and windows."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import torch

from train.backbones import BACKBONES
from train.fusion.hard import HardSharing
from train.network import Network
from train.run import Run, read_run
from transom.errors import ConfigurationError
from transom.starter import STARTER
from transom.tasks import TaskSet


def starter_run() -> Path:
    """Return the folder of the run behind the starter bundle; it need not exist."""
    return Path(str(resources.files("train"))) / "starter"


_SHAPE = (
    "size",
    "margin",
    "preprocess",
    "backbone",
    "width",
    "fusion",
    "maps",
    "maps_fusion",
    "embedding",
)
_NETWORK = frozenset(_SHAPE) - {"size", "margin", "preprocess", "width"} | {"start", "pretrained"}


def shape_of(start: str) -> dict[str, object]:
    """Return the keys of a start's recipe that decide which network it is, and what it is fed.

    Raises:
        RunError: There is no such run.
    """
    recipe = named_run(start).recipe
    return {key: getattr(recipe, key) for key in _SHAPE}


def asks_for_network(keys: Iterable[str]) -> bool:
    """Return whether some keys of a recipe say which network it is, or what it begins from."""
    return not _NETWORK.isdisjoint(keys)


def known_tasks(tasks: TaskSet) -> tuple[str, ...]:
    """Return the names of tasks of which the starter knows a class already."""
    known = named_run(STARTER).tasks
    return tuple(
        task.name
        for task in tasks
        if task.name in known.names and set(task.classes) & set(known[task.name].classes)
    )


def begin_from(network: Network, start: str, width: float | None = None) -> None:
    """Copy from a run what fits: everything, where backbone, fusion and tasks are the same.

    The head of a task starts anew where its classes are not the same in the same order. A narrower
    network starts from the most important channels of the run's.

    Args:
        network: Is changed.
        start: A run's folder, or `starter` for the one that comes with Transom.
        width: Of the network, as its recipe says; None = that of the run.

    Raises:
        RunError: There is no such run.
        ConfigurationError: It has another backbone or another fusion, or is narrower.
    """
    run = named_run(start)
    whole = run.network()
    theirs, mine = whole.state_dict(), network.state_dict()
    if width not in (None, run.recipe.width):
        _narrow(run, whole, network)
        # What was narrowed stands already; the rest is looked up below.
        theirs |= {name: tensor for name, tensor in mine.items() if _is_of_trunk(name)}
    anew = {
        f"heads.{key}"
        for key in network.heads.state_dict()
        if not _has_task(run.tasks, network.tasks, key.partition("_head.")[0])
    }
    fits = {
        name: tensor
        for name, tensor in theirs.items()
        if name in mine and mine[name].shape == tensor.shape and name not in anew
    }
    missing = sorted(name for name in mine if name.startswith("fusion.") and name not in fits)
    if missing:
        raise ConfigurationError(
            f"recipe: start = {start!r} has backbone {run.recipe.backbone!r}, fusion "
            f"{run.recipe.fusion!r} and embedding {run.recipe.embedding}, which do not give "
            f"{missing[0]}; take the same, or another start"
        )
    network.load_state_dict(fits, strict=False)


def _narrow(run: Run, whole: Network, network: Network) -> None:
    """Fill trunk and projection of a narrower network."""
    narrow = BACKBONES[run.recipe.backbone].narrow
    wide, small = whole.fusion, network.fusion
    if narrow is None or not isinstance(wide, HardSharing) or not isinstance(small, HardSharing):
        raise ConfigurationError(
            f"recipe: a start of another width must have fusion 'hard' and a backbone of several "
            f"widths; {run.folder} has {run.recipe.fusion!r} and {run.recipe.backbone!r}"
        )
    try:
        kept = narrow(wide.trunk, small.trunk)
    except ValueError as error:
        raise ConfigurationError(
            f"recipe: {run.folder}, of backbone {run.recipe.backbone!r} and width "
            f"{run.recipe.width:g}, must be at least as wide as what starts from it, and of the "
            f"same backbone: {error}"
        ) from error
    with torch.no_grad():
        small.embed.project.weight.copy_(wide.embed.project.weight[:, kept])


def _is_of_trunk(name: str) -> bool:
    return name.startswith("fusion.trunk.") or name == "fusion.embed.project.weight"


def named_run(start: str) -> Run:
    """Read a run, by its folder or the word starter.

    Raises:
        RunError: There is no such run.
    """
    return read_run(starter_run() if start == STARTER else Path(start))


def _has_task(theirs: TaskSet, mine: TaskSet, name: str) -> bool:
    return name in theirs and name in mine and theirs[name].classes == mine[name].classes
