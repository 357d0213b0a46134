"""Starting a training from a network that already knows doors and windows."""

from importlib import resources
from pathlib import Path

from train.network import Network
from train.run import Run, read_run
from transom.errors import ConfigurationError
from transom.starter import STARTER
from transom.tasks import TaskSet


def starter_run() -> Path:
    """Return the folder of the run behind the starter bundle; it need not exist."""
    return Path(str(resources.files("train"))) / "starter"


_SHAPE = ("size", "margin", "preprocess", "backbone", "fusion", "maps", "maps_fusion", "embedding")


def shape_of(start: str) -> dict[str, object]:
    """Return the keys of a start's recipe that decide which network it is, and what it is fed.

    Raises:
        RunError: There is no such run.
    """
    recipe = _read(start).recipe
    return {key: getattr(recipe, key) for key in _SHAPE}


def begin_from(network: Network, start: str) -> None:
    """Copy from a run what fits: everything, where backbone, fusion and tasks are the same.

    The head of a task starts anew where its classes are not the same in the same order.

    Args:
        network: Is changed.
        start: A run's folder, or `starter` for the one that comes with Transom.

    Raises:
        RunError: There is no such run.
        ConfigurationError: It has another backbone or another fusion.
    """
    run = _read(start)
    theirs, mine = run.network().state_dict(), network.state_dict()
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


def _read(start: str) -> Run:
    return read_run(starter_run() if start == STARTER else Path(start))


def _has_task(theirs: TaskSet, mine: TaskSet, name: str) -> bool:
    return name in theirs and name in mine and theirs[name].classes == mine[name].classes
