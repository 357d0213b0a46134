"""What compared networks cost on a device, and the table of a comparison."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from export.benchmark import machine, time_models
from export.graph import export_graph
from export.latency import Timing
from export.quantize import Quantization, calibration_indices, quantize
from train.compare import LoadCorpus
from train.comparison import Comparison, Row, held_out
from train.members import read_ensemble
from train.progress import Progress
from train.run import Run
from transom.atomic import write_file
from transom.errors import ExportError

LATENCY = "latency.json"
NETWORKS = "int8"

_CALIBRATION = Quantization(images=64)
_SECONDS_EACH = 2.0
_MOST_SECONDS = 60.0
_ABOUT_EQUAL = 1.05
_TRAINING_ONLY = frozenset(
    {
        "seed",
        "margin",
        "preprocess",
        "pretrained",
        "start",
        "dropout",
        "epochs",
        "frozen_epochs",
        "unfreeze_epochs",
        "batch",
        "learning_rate",
        "backbone_rate",
        "stage_decay",
        "weight_decay",
        "warmup",
        "clip",
        "average",
        "weighting",
        "task_weights",
        "label_smoothing",
        "reconstruction",
        "ordinal_loss",
        "class_weights",
        "sampling",
        "dataset_weights",
        "precision",
        "augment",
        "mix",
        "distill",
        "mutual",
    }
)
"""Recipe keys that leave the graph as it is; two runs that differ in no other are timed once."""


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed, all in turn in one process.

    Attributes:
        machine: Where.
        by_network: By the network's digest, milliseconds for one crop with one thread; None where
            it cannot be made INT8.
        p95: As `by_network`, the 95th percentile.
    """

    machine: str
    by_network: dict[str, float | None]
    p95: dict[str, float | None]


@dataclass(frozen=True)
class Judgement:
    """A comparison with what its networks cost on a device.

    Attributes:
        comparison: What was compared.
        int8_ms: By row, milliseconds for one crop in INT8, all its networks together, or None.
        p95_ms: As `int8_ms`, the 95th percentile.
        machine: Where that was measured.
    """

    comparison: Comparison
    int8_ms: tuple[float | None, ...]
    p95_ms: tuple[float | None, ...]
    machine: str

    @property
    def front(self) -> tuple[int, ...]:
        """Places of the rows that no other beats in accuracy without costing more, by cost."""
        accuracy = self.comparison.draws.means_of_tasks
        timed = [(ms, place) for place, ms in enumerate(self.int8_ms) if ms is not None]
        found: list[int] = []
        for _, place in sorted(timed, key=lambda entry: (entry[0], -accuracy[entry[1]])):
            if not found or accuracy[place] > accuracy[found[-1]]:
                found.append(place)
        return tuple(found)

    @property
    def choice(self) -> int:
        """The place of the row to take: the cheapest that cannot be told from the best.

        Of those that cost about the same, the most accurate.
        """
        comparison = self.comparison
        accuracy = comparison.draws.means_of_tasks
        good = [place for place in comparison.contenders if comparison.is_as_good(place)]
        cheapest = min(map(self._price, good))
        near = [place for place in good if self._price(place) <= _ABOUT_EQUAL * cheapest]
        return max(near, key=lambda place: float(accuracy[place]))

    def _price(self, place: int) -> float:
        contenders = self.comparison.contenders
        if all(self.int8_ms[other] is not None for other in contenders):
            return float(self.int8_ms[place] or 0.0)
        return float(self.comparison.rows[place].cost.macs)

    def table(self) -> list[dict[str, Any]]:
        """Return what `transom compare --json` prints: the rows, the most accurate first."""
        order = np.argsort(-self.comparison.draws.means_of_tasks, kind="stable")
        return [self._line(int(place)) for place in order]

    def _line(self, place: int) -> dict[str, Any]:
        comparison = self.comparison
        row, draws = comparison.rows[place], comparison.draws
        delta = comparison.delta(place)
        at_cost = comparison.delta(place, is_budget=True)
        line = {
            "name": row.variant.name,
            **row.variant.settings,
            "is_single": row.variant.is_single,
            "is_budget": row.variant.is_budget,
            "split": comparison.split,
            "seeds": len(row.runs),
            "tasks": {
                task: {
                    "accuracy": float(draws.means[place, column]),
                    "interval": draws.interval_of_share(draws.by_task[:, place, column]),
                    "by_seed": row.scores.by_seed[:, column].tolist(),
                }
                for column, task in enumerate(comparison.tasks)
            },
            "accuracy": float(draws.means_of_tasks[place]),
            "interval": draws.interval_of_share(draws.of_tasks[:, place]),
            "delta_m": delta[0] if delta else None,
            "delta_m_interval": delta[1] if delta else None,
            "delta_m_at_cost": at_cost[0] if at_cost else None,
            "delta_m_at_cost_interval": at_cost[1] if at_cost else None,
            "parameters": row.cost.parameters,
            "macs": row.cost.macs,
            "int8_ms": self.int8_ms[place],
            "int8_p95_ms": self.p95_ms[place],
            "train_s": row.seconds,
            "is_on_front": place in self.front,
            "is_within_noise": not row.variant.is_single and comparison.is_as_good(place),
            "is_choice": place == self.choice,
            "runs": [[str(run.folder) for run in seed] for seed in row.runs],
        }
        if place == self.choice and comparison.split != "test":
            line["test"] = held_out(comparison, place, "test")
        return line


def judge(
    comparison: Comparison,
    load: LoadCorpus,
    folder: Path,
    *,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Make every network INT8 and time them all, turn by turn, in one process.

    What has been timed together is not timed again; where one is missing, all are, because
    figures of two sittings cannot be set side by side.

    Args:
        comparison: What to judge.
        load: Gives the data of a recipe, for the calibration of INT8.
        folder: The comparison's; keeps the networks and the figures.
        seconds: About how long to time; None = by the number of networks.
        progress: Told how many networks are exported.

    Raises:
        ClassifierError: A network does not run on this machine.
    """
    networks = {_network_digest(run): run for row in comparison.rows for run in row.runs[0]}
    (folder / NETWORKS).mkdir(parents=True, exist_ok=True)
    models: dict[str, bytes] = {}
    for done, (digest, run) in enumerate(networks.items(), 1):
        model = _int8(run, load, folder / NETWORKS / f"{digest}.onnx")
        if model is not None:
            models[digest] = model
        if progress is not None:
            progress(done, len(networks))
    sizes = {digest: run.recipe.size for digest, run in networks.items()}
    latencies = _timed(models, sizes, folder / LATENCY, seconds)
    return Judgement(
        comparison,
        tuple(_together(row, latencies.by_network) for row in comparison.rows),
        tuple(_together(row, latencies.p95) for row in comparison.rows),
        latencies.machine,
    )


def _network_digest(run: Run) -> str:
    recipe = {k: v for k, v in msgspec.to_builtins(run.recipe).items() if k not in _TRAINING_ONLY}
    # What a class is called costs nothing: single-task networks of as many classes are alike.
    classes = [len(task.classes) for task in run.tasks]
    together = read_ensemble(run.folder)
    members = [msgspec.to_builtins(m.recipe) for m in together.members] if together else []
    shapes = [{k: v for k, v in member.items() if k not in _TRAINING_ONLY} for member in members]
    described = msgspec.json.encode([recipe, classes, shapes], order="deterministic")
    return hashlib.sha256(described).hexdigest()[:16]


def _int8(run: Run, load: LoadCorpus, path: Path) -> bytes | None:
    """The network in INT8, from the folder or made now; None where it cannot be made."""
    if path.is_file():
        return path.read_bytes() or None
    train = load(run.recipe).split("train")
    some = calibration_indices(train.targets, train.groups, _CALIBRATION.images)
    crops = np.array(train.crops[some])
    try:
        graph = export_graph(run.network(), run.tasks, run.recipe.size)
        model = quantize(graph, run.tasks, crops, _CALIBRATION)
    except ExportError:
        model = b""
    write_file(path, model)
    return model or None


def _timed(
    models: Mapping[str, bytes], sizes: Mapping[str, int], path: Path, seconds: float | None
) -> Latencies:
    if path.is_file():
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Latencies)
        except msgspec.DecodeError:
            found = None  # cut off, or of another version: time again
        if found and found.machine == machine() and set(models) <= set(found.by_network):
            return found
    timings: Sequence[Timing] = ()
    if models:
        wanted = seconds or min(_SECONDS_EACH * len(models), _MOST_SECONDS)
        timings = time_models(
            models, max(sizes.values()), sizes=sizes, threads=(1,), batches=(1,), seconds=wanted
        ).runs
    found = Latencies(
        machine=machine(),
        by_network={timing.precision: timing.median_ms for timing in timings},
        p95={timing.precision: timing.p95_ms for timing in timings},
    )
    write_file(path, msgspec.json.encode(found))
    return found


def _together(row: Row, by_network: Mapping[str, float | None]) -> float | None:
    """The sum over a row's networks: a device runs one after the other."""
    each = [by_network.get(_network_digest(run)) for run in row.runs[0]]
    known = [ms for ms in each if ms is not None]
    return sum(known) if len(known) == len(each) else None
