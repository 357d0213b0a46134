"""The folder of a run: what was trained, on what, and how good it is.

`recipe.toml` (with what it met on its way under `[run]`), `weights.safetensors`, `metrics.json`,
`report.html`, `events/` for TensorBoard. `metrics.json` comes last: with it the run is complete.
"""

import hashlib
import importlib.util
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import safetensors
import safetensors.torch
import torch

from train.corpus import Corpus
from train.engine import Engine
from train.history import EpochRecord
from train.members import build_ensemble, read_ensemble, read_members
from train.network import Network, build_network
from train.recipe import RUN_TABLE, Recipe, load_recipe, read_toml, toml_text
from transom import __version__
from transom.atomic import write_file
from transom.dataset import SPLITS
from transom.errors import RunError
from transom.manifest import InputSpec, TaskSpec
from transom.tasks import TaskSet

RECIPE = "recipe.toml"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"
REPORT = "report.html"
EVENTS = "events"


class _Classes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    classes: tuple[str, ...]
    ordinal: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a training met on its way: the table `[run]` of its `recipe.toml`.

    Attributes:
        created: UTC, ISO 8601, when it began.
        corpus: Digest of the data.
        datasets: Folders of the data sets, as they were named.
        rows: Number of rows by split.
        precision: Of the arithmetic, after `auto` was decided.
        device: `cpu` or `cuda`.
        processes: How many shared the work.
        versions: Of what computed it, by name.
        tasks: The network's heads, in order.
        teachers: Runs that it learnt from: SHA-256 of the weights by folder.
        members: Runs that it is put together from, likewise.
    """

    created: str
    corpus: str
    datasets: tuple[str, ...] = ()
    rows: dict[str, int]
    precision: str
    device: str
    processes: int
    versions: dict[str, str]
    tasks: dict[str, _Classes]
    teachers: dict[str, str] = {}
    members: dict[str, str] = {}


class Metrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How good a run is: `metrics.json`.

    Attributes:
        temperatures: By task, what its logits are divided by.
        specs: The tasks with thresholds and the rule for the unknown.
        history: Every epoch.
        evaluations: By split, what `transom evaluate --json` says.
        seconds: Wall time of the training, without reading data and judging.
        images_per_s: Training pictures a second, all epochs together.
    """

    temperatures: dict[str, float]
    specs: tuple[TaskSpec, ...]
    history: tuple[EpochRecord, ...] = ()
    evaluations: dict[str, dict[str, Any]] = {}
    seconds: float = 0.0
    images_per_s: float = 0.0


@dataclass(frozen=True)
class Run:
    """A training that is done.

    Attributes:
        folder: Where it lies.
        recipe: How it was trained.
        facts: What it met on its way.
        results: How good it is.
    """

    folder: Path
    recipe: Recipe
    facts: Facts
    results: Metrics

    @property
    def tasks(self) -> TaskSet:
        """The network's heads."""
        return TaskSet(spec.as_task() for spec in self.results.specs)

    @property
    def input(self) -> InputSpec:
        """What the network is fed."""
        recipe = self.recipe
        return InputSpec(size=recipe.size, margin=recipe.margin, preprocess=recipe.preprocess)

    @property
    def specs(self) -> tuple[TaskSpec, ...]:
        """The heads with thresholds and the rule for the unknown."""
        return self.results.specs

    @property
    def temperatures(self) -> dict[str, float]:
        """By task, what its logits are divided by."""
        return self.results.temperatures

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds, as plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self.results)
        return plain

    @property
    def created(self) -> datetime:
        """When the training began, UTC."""
        return datetime.fromisoformat(self.facts.created)

    @property
    def datasets(self) -> tuple[Path, ...]:
        """Folders of the data sets, where they were when it was trained."""
        return tuple(Path(folder) for folder in self.facts.datasets)

    @property
    def versions(self) -> dict[str, str]:
        """Of what computed it, by name."""
        return self.facts.versions

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, hexadecimal."""
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()

    @property
    def has_learnt_from_val(self) -> bool:
        """Whether rows of `val` decided its weights: what it says of them is then no evidence.

        Raises:
            RunError: The file that says so is damaged.
        """
        ensemble = read_ensemble(self.folder)
        return ensemble is not None and ensemble.how != "mean"

    def network(self) -> Network:
        """Return the network in evaluation mode, float32, on the CPU.

        Raises:
            RunError: `weights.safetensors` is missing, damaged, or not of this network.
        """
        path = self.folder / WEIGHTS
        members = read_members(self.folder)
        network = (
            build_ensemble(members, self.tasks)
            if members
            else build_network(self.recipe, self.tasks, pretrained=False)
        )
        try:
            network.load_state_dict(safetensors.torch.load(path.read_bytes()))
        except (OSError, safetensors.SafetensorError, RuntimeError) as error:
            raise RunError(f"{path}: cannot be used ({error}); train again") from error
        return network.eval()


def read_run(folder: Path) -> Run:
    """Read a run; its weights are read when its network is asked for.

    Raises:
        RunError: The folder is not that of a finished run, or a file in it is damaged.
        ConfigurationError: Its `recipe.toml` says what no recipe of this Transom can.
    """
    missing = [name for name in (RECIPE, WEIGHTS, METRICS) if not (folder / name).is_file()]
    if missing:
        if RECIPE in missing:
            what = "is that the folder of a run?"
        elif METRICS in missing:
            what = "the training is not finished; go on with transom train --resume"
        else:
            what = (
                "they were taken away, as transom tune does with those of its trials; train again: "
                f"transom train --recipe {folder / RECIPE}"
            )
        raise RunError(f"{folder}: has no {', '.join(missing)}; {what}")
    path = folder / METRICS
    try:
        results = msgspec.json.decode(path.read_bytes(), type=Metrics)
    except msgspec.DecodeError as error:
        raise RunError(f"{path}: cannot be read: {error}; train again") from error
    return Run(folder, load_recipe(folder / RECIPE), read_facts(folder), results)


def read_facts(folder: Path) -> Facts:
    """Read what a training met on its way, finished or not.

    Raises:
        RunError: `recipe.toml` has no such table, or it is damaged.
    """
    path = folder / RECIPE
    try:
        return msgspec.convert(read_toml(path).get(RUN_TABLE), Facts)
    except msgspec.ValidationError as error:
        raise RunError(f"{path}: [{RUN_TABLE}]: {error}; train again") from error


def require_new(folder: Path, *, can_resume: bool = False) -> None:
    """Refuse a folder that holds something.

    Args:
        folder: Of a run that is about to begin.
        can_resume: Say that a training which is there can be gone on with.

    Raises:
        RunError: It does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        is_begun = can_resume and (folder / RECIPE).is_file()
        go_on = ", or go on with what is there with --resume" if is_begun else ""
        raise RunError(f"{folder}: must be a new or empty folder; name another{go_on}")


def begin_run(
    folder: Path,
    recipe: Recipe,
    corpus: Corpus,
    tasks: TaskSet,
    engine: Engine,
    datasets: Sequence[Path],
    teachers: Sequence[Run] = (),
    members: Sequence[Run] = (),
) -> Facts:
    """Make the folder and write the resolved recipe; return what it was met with.

    Raises:
        RunError: The folder holds something already.
    """
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = Facts(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        corpus=corpus.digest,
        datasets=tuple(str(path.resolve()) for path in datasets),
        rows={split: int((corpus.splits == split).sum()) for split in SPLITS},
        precision=engine.precision,
        device=engine.device.type,
        processes=engine.world,
        versions=_versions(),
        tasks={task.name: _Classes(task.classes, task.ordinal) for task in tasks},
        teachers={str(run.folder.resolve()): run.digest for run in teachers},
        members={str(run.folder.resolve()): run.digest for run in members},
    )
    tree = {**msgspec.to_builtins(recipe), RUN_TABLE: msgspec.to_builtins(facts)}
    write_file(folder / RECIPE, toml_text(tree).encode())
    return facts


def check_resumable(folder: Path, recipe: Recipe, corpus: Corpus) -> None:
    """Refuse to go on with a training that was begun by another recipe, or on other data.

    Raises:
        RunError: It was, or nothing was begun there.
    """
    if not (folder / RECIPE).is_file():
        raise RunError(f"{folder}: has no {RECIPE}, so there is nothing to resume")
    facts = read_facts(folder)
    if load_recipe(folder / RECIPE) != recipe:
        raise RunError(f"{folder / RECIPE}: is another recipe than the one to resume; train anew")
    if facts.corpus != corpus.digest:
        raise RunError(
            f"{folder}: was begun on data with digest {facts.corpus[:12]}…, these have "
            f"{corpus.digest[:12]}…; labels, splits or pictures have changed: train anew"
        )


def read_teachers(folder: Path) -> list[Run]:
    """Return the teachers that a training began with.

    Raises:
        RunError: One cannot be read, or has other weights now.
    """
    runs = []
    for teacher, digest in read_facts(folder).teachers.items():
        run = read_run(Path(teacher))
        if run.digest != digest:
            raise RunError(
                f"{run.folder}: this teacher has other weights than when {folder} was begun; "
                "train anew"
            )
        runs.append(run)
    return runs


def write_weights(folder: Path, network: torch.nn.Module) -> None:
    """Write a network's weights; the file is replaced whole or not at all."""
    state = {name: v.detach().cpu().contiguous() for name, v in network.state_dict().items()}
    write_file(folder / WEIGHTS, safetensors.torch.save(state))


def write_metrics(run: Run) -> None:
    """Write how good a run is, and so declare it complete."""
    data = msgspec.json.format(msgspec.json.encode(run.results), indent=1)
    write_file(run.folder / METRICS, data + b"\n")


class Events:
    """Figures of each epoch for TensorBoard, where it is installed.

    Args:
        folder: The run's folder.
        done: Epochs done before; anything later that an interrupted training wrote is dropped.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            _await_second_after(folder / EVENTS)
            self._writer = SummaryWriter(str(folder / EVENTS), purge_step=done + 1)

    def add(self, record: EpochRecord) -> None:
        """Write an epoch's figures."""
        if self._writer is not None:
            for name, value in record.flat().items():
                self._writer.add_scalar(name.replace(" ", "/"), value, record.epoch)
            self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def _await_second_after(folder: Path) -> None:
    """Wait until a file that TensorBoard makes here sorts behind those that are there.

    Their names begin with the second in which they were made, and within one they sort by a counter
    whose 10 comes before its 9.
    """
    names = [file.name.split(".") for file in folder.glob("events.out.tfevents.*")]
    started = max((int(parts[3]) for parts in names), default=0)
    # Never longer: the clock may have been set back since.
    time.sleep(min(max(started + 1 - time.time(), 0.0), 1.0))


def _versions() -> dict[str, str]:
    return {
        "transom": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
