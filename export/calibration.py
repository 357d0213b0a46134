"""The numbers of a bundle that held-out rows decide, fitted on what its own network says."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from train.calibrate import calibrated_spec, fit_temperature
from train.corpus import MISSING
from train.predictor import Said
from train.run import Run
from train.unlike import Distance
from transom.manifest import TaskSpec


@dataclass(frozen=True)
class Calibration:
    """What was fitted.

    Attributes:
        temperatures: By task, what the network's logits are to be divided by.
        specs: The tasks with thresholds and the rule for the unknown.
        distance: From training pictures, by the network's embedding; None where there is none.
    """

    temperatures: Mapping[str, float]
    specs: tuple[TaskSpec, ...]
    distance: Distance | None


def calibrate(
    run: Run, said: Said, targets: npt.NDArray[np.int64], distance: Distance | None
) -> Calibration:
    """Calibrate an exported network on the rows of `val`.

    A network that has learnt from these rows is surer of them than of any others: it keeps the
    temperatures, thresholds and limits of the energy that its run found by fits that left them
    out. A distance is of the embedding, which has not learnt from them.

    Args:
        run: What was exported.
        said: What the exported network says of the N rows; no temperature yet.
        targets: (N, T) int64 in the order of the run's tasks, `MISSING` = not labelled.
        distance: Fitted on its embedding of training rows.
    """
    temperatures = _temperatures(run, said, targets)
    far = None if distance is None else distance(said.embedding)
    specs = tuple(
        calibrated_spec(
            task,
            np.asarray(said.logits[task.name] / temperatures[task.name], np.float32),
            targets[:, column],
            distance=far,
        )
        for column, task in enumerate(run.tasks)
    )
    if run.has_learnt_from_val:
        specs = tuple(_of_run(spec, theirs) for spec, theirs in zip(specs, run.specs, strict=True))
    return Calibration(temperatures, specs, distance)


def _of_run(spec: TaskSpec, theirs: TaskSpec) -> TaskSpec:
    by_energy = spec.unknown.max_distance is None and theirs.unknown.max_distance is None
    unknown = theirs.unknown if by_energy else spec.unknown
    return msgspec.structs.replace(spec, thresholds=theirs.thresholds, unknown=unknown)


def _temperatures(run: Run, said: Said, targets: npt.NDArray[np.int64]) -> dict[str, float]:
    """Fit each task's temperature; the run's own where `val` does not label the task.

    Weights are the same either way, because the heads, where a temperature goes, are not
    quantised.
    """
    if run.has_learnt_from_val:
        return dict(run.temperatures)
    return {
        task: fit_temperature(said.logits[task], targets[:, column])
        if (targets[:, column] != MISSING).any()
        else run.temperatures.get(task, 1.0)
        for column, task in enumerate(run.tasks.names)
    }
