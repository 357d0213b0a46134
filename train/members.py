"""Several networks as one: trunks side by side, and one linear head a task over all of them.

A weighted mean of logits, or any linear map of them, of networks whose heads are linear is itself
a linear head on what their heads read. So an ensemble is a `Network` like any other: it is judged,
exported, quantised and learnt from by the same code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import msgspec
import torch
from torch import nn

from train.fusion import Fused, Fusion
from train.network import Network, build_network
from train.recipe import Recipe
from transom.errors import RunError
from transom.tasks import Task, TaskSet

NAME = "ensemble.json"

How = Literal["mean", "weighted", "stacked"]


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network of an ensemble.

    Attributes:
        name: What it is called among the members.
        recipe: How it was trained.
        tasks: Its own heads.
    """

    name: str
    recipe: Recipe
    tasks: tuple[Task, ...]


class TaskAgreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far the members of an ensemble say the same of a task on held-out rows.

    Attributes:
        n: Rows that are labelled for the task.
        accuracy: Share of right answers, 0 to 1, by member, and of the `ensemble`.
        agreement: For each member that knows the task, in the order of `accuracy`, the share of
            all held-out rows on which it says what each other one does.
        unanimous: Share of the labelled rows on which all say the same.
        accuracy_unanimous: Share of these that are right; None where there is none.
        accuracy_divided: The ensemble's share of right answers on the others; None likewise.
        one_right: Share of the labelled rows on which at least one member is right: what a
            perfect choice among them would reach.
        gain: The ensemble's accuracy less the mean of its members'.
        gain_interval: Its 95 % interval, paired by row, over groups; None with fewer than 2.
    """

    n: int
    accuracy: dict[str, float]
    agreement: tuple[tuple[float, ...], ...]
    unanimous: float
    accuracy_unanimous: float | None
    accuracy_divided: float | None
    one_right: float
    gain: float = 0.0
    gain_interval: tuple[float, float] | None = None


class EnsembleFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an ensemble is: `ensemble.json` in its run's folder.

    Attributes:
        how: How the members' answers become one.
        members: Its networks.
        weights: By task, each member's weight; empty where the answers are not simply weighed.
        agreement: By task, how far the members agree.
    """

    how: How
    members: tuple[Member, ...]
    weights: dict[str, dict[str, float]] = {}
    agreement: dict[str, TaskAgreement] = {}


class SideBySide(Fusion):
    """Several fusions on one picture; each head reads what the heads of all members read.

    Args:
        members: The fusions.
        tasks: Of the ensemble; a member without a task adds nothing to what its head reads.
    """

    def __init__(self, members: Sequence[Fusion], tasks: TaskSet) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._readers = {
            name: [place for place, member in enumerate(members) if name in member.task_sizes]
            for name in tasks.names
        }
        self.embedding_size = sum(member.embedding_size for member in members)
        self.task_sizes = {
            name: sum(members[place].task_sizes[name] for place in places)
            for name, places in self._readers.items()
        }
        self._normalises_once = _normalise_alike(members)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return what all members take, or the image itself where they differ in that."""
        return self._member(0).normalise(image) if self._normalises_once else image

    def fuse(self, pixels: torch.Tensor) -> Fused:
        """Run every member on (N, 3, S, S) float32; embeddings and readings, (N, D), are joined."""
        fused = []
        for place in range(len(self.members)):
            member = self._member(place)
            fused.append(member.fuse(pixels) if self._normalises_once else member(pixels))
        return Fused(
            torch.cat([one.embedding for one in fused], 1),
            {
                name: torch.cat([fused[place].by_task[name] for place in places], 1)
                for name, places in self._readers.items()
            },
        )

    def pretrained_stages(self) -> Sequence[nn.Module]:
        """Return none: an ensemble is put together, not trained."""
        return []

    def _member(self, place: int) -> Fusion:
        return cast(Fusion, self.members[place])


def build_ensemble(members: Sequence[Member], tasks: TaskSet) -> Network:
    """Build an ensemble's network with random weights, to load its own into.

    Raises:
        ConfigurationError: A member's recipe names what this Transom does not have.
    """
    fusions = [
        build_network(member.recipe, TaskSet(member.tasks), pretrained=False).fusion
        for member in members
    ]
    network = Network(SideBySide(fusions, tasks), tasks)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def read_ensemble(folder: Path) -> EnsembleFacts | None:
    """Read what ensemble a run's folder holds; None where it is the run of one network.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=EnsembleFacts)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}; make the ensemble again") from error


def read_members(folder: Path) -> tuple[Member, ...]:
    """Return the networks of the ensemble in a run's folder; none where it is no ensemble.

    Raises:
        RunError: The file that says so is damaged.
    """
    ensemble = read_ensemble(folder)
    return ensemble.members if ensemble else ()


@torch.no_grad()
def _normalise_alike(members: Sequence[Fusion]) -> bool:
    """Whether one normalisation serves all members; then bytes go into the INT8 network."""
    probe = torch.linspace(0.0, 255.0, 3 * 32 * 32).view(1, 3, 32, 32)
    first, *others = [member.normalise(probe) for member in members]
    return all(torch.equal(first, other) for other in others)
