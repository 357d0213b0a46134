"""From calibrated logits to a class or `unknown`: one rule for evaluation and for the device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transom.manifest import TaskSpec

Floats = npt.NDArray[np.float32]

UNKNOWN_INDEX = -1


@dataclass(frozen=True)
class Prediction:
    """What a task says of N pictures.

    Attributes:
        probabilities: (N, C) float32, rows sum to 1.
        energy: (N,) float32; high = unlike training.
        distance: (N,) float32, likewise, by the embedding; None where the network gives none.
        unlike: (N,) bool, whether the rule for the unknown rejects the picture as unlike training.
        classes: (N,) int64, index of the believed class or `UNKNOWN_INDEX`.
    """

    probabilities: Floats
    energy: Floats
    distance: Floats | None
    unlike: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    """Return probabilities, float32 (N, C), of logits (N, C)."""
    with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, which is never believed
        exponentials = _exponentials(logits)
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)


def energy(logits: Floats) -> Floats:
    """Return -logsumexp of each row, float32 (N,), of logits (N, C)."""
    with np.errstate(invalid="ignore"):
        top = logits.max(axis=1)
        return np.asarray(-(top + np.log(_exponentials(logits).sum(axis=1))), np.float32)


def _exponentials(logits: Floats) -> npt.NDArray[np.float64]:
    """Return e to the power of what each logit is less than its row's largest.

    In float64, for numpy's exponential of float32 ends in another last bit on each processor, and
    a device must come to what a workstation comes to.
    """
    exact = logits.astype(np.float64)
    return np.asarray(np.exp(exact - exact.max(axis=1, keepdims=True)), np.float64)


def predict(logits: Floats, spec: TaskSpec, distance: Floats | None = None) -> Prediction:
    """Apply a task's thresholds and its rule for the unknown to calibrated logits.

    Args:
        logits: (N, C) float32, as the bundle's network gives them.
        spec: The task, from the bundle's manifest.
        distance: (N,) float32, where the network gives it.

    Raises:
        ValueError: The logits do not fit the task, or its rule asks for a distance.
    """
    if logits.ndim != 2 or logits.shape[1] != len(spec.classes):
        raise ValueError(
            f"logits of task {spec.name!r} must be (N, {len(spec.classes)}), got {logits.shape}"
        )
    probabilities, energies = softmax(logits), energy(logits)
    classes = probabilities.argmax(axis=1)
    believed = probabilities.max(axis=1) >= np.asarray(spec.thresholds, np.float32)[classes]
    unlike = np.zeros(len(logits), np.bool_)
    # Not above, but not at most: what is no number is unlike anything.
    if spec.unknown.max_energy is not None:
        unlike |= ~(energies <= spec.unknown.max_energy)
    if spec.unknown.max_distance is not None:
        if distance is None:
            raise ValueError(f"the rule of task {spec.name!r} asks for a distance, there is none")
        unlike |= ~(distance <= spec.unknown.max_distance)
    believed &= ~unlike
    return Prediction(
        probabilities, energies, distance, unlike, np.where(believed, classes, UNKNOWN_INDEX)
    )
