"""From calibrated logits to a class or `unknown`: one rule for evaluation and for the device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transom.bundle import TaskSpec

Floats = npt.NDArray[np.float32]

UNKNOWN_INDEX = -1


@dataclass(frozen=True)
class Prediction:
    """What a task says of N pictures.

    Attributes:
        probabilities: (N, C) float32, rows sum to 1.
        energy: (N,) float32; high = unlike training.
        classes: (N,) int64, index of the believed class or `UNKNOWN_INDEX`.
    """

    probabilities: Floats
    energy: Floats
    classes: npt.NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    """Return probabilities, float32 (N, C), of logits (N, C)."""
    with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, which is never believed
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def energy(logits: Floats) -> Floats:
    """Return -logsumexp of each row, float32 (N,), of logits (N, C)."""
    with np.errstate(invalid="ignore"):
        top = logits.max(axis=1)
        return np.asarray(-(top + np.log(np.exp(logits - top[:, None]).sum(axis=1))), np.float32)


def predict(logits: Floats, spec: TaskSpec) -> Prediction:
    """Apply a task's thresholds and its rule for the unknown to calibrated logits.

    Args:
        logits: (N, C) float32, as the bundle's network gives them.
        spec: The task, from the bundle's manifest.

    Raises:
        ValueError: The logits do not fit the task.
    """
    if logits.ndim != 2 or logits.shape[1] != len(spec.classes):
        raise ValueError(
            f"logits of task {spec.name!r} must be (N, {len(spec.classes)}), got {logits.shape}"
        )
    probabilities, energies = softmax(logits), energy(logits)
    classes = probabilities.argmax(axis=1)
    believed = probabilities.max(axis=1) >= np.asarray(spec.thresholds, np.float32)[classes]
    if spec.unknown.max_energy is not None:
        believed &= energies <= spec.unknown.max_energy
    return Prediction(probabilities, energies, np.where(believed, classes, UNKNOWN_INDEX))
