"""The guard: a few held-out pictures as a network sees them, to try what a device is taught.

A bundle carries their embeddings, what its network says of them and what is true, not the pictures:
some kilobytes. What a device is taught about one of its zones must not lose what is right here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from transom.errors import BundleError

MOST = 256
UNLABELLED = -1

_EMBEDDING, _SCALE = "guard.embedding", "guard.scale"
_LOGITS = "guard.logits."
_TARGETS = "guard.targets."

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Guard:
    """G held-out pictures.

    Attributes:
        embedding: (G, D) float32; in a bundle they have 16 bits.
        logits: By task, (G, C) float32, calibrated, likewise.
        targets: By task, (G,) int64, index of the true class; `UNLABELLED` where nobody said.
    """

    embedding: Floats
    logits: Mapping[str, Floats]
    targets: Mapping[str, Indices]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a bundle holds of it, by name: shapes as above, and a scale, (1,) float32."""
        # 16 bits end at 65504, an embedding need not.
        scale = np.maximum(np.abs(self.embedding).max(keepdims=True)[0], 1e-30)
        return {
            _SCALE: np.ascontiguousarray(scale, np.float32),
            _EMBEDDING: np.ascontiguousarray(self.embedding / scale, np.float16),
            **{_LOGITS + k: np.ascontiguousarray(v, np.float16) for k, v in self.logits.items()},
            **{_TARGETS + k: np.ascontiguousarray(v, np.int16) for k, v in self.targets.items()},
        }


def take_guard(tensors: dict[str, npt.NDArray[Any]]) -> Guard | None:
    """Take a guard's tensors out of those of a bundle; None where there are none.

    Args:
        tensors: By name, with shapes as `Guard.tensors` gives them; the guard's are removed.

    Raises:
        BundleError: Some of them are there and others are not.
    """
    if not any(name.startswith("guard.") for name in tensors):
        return None
    scale, embedding = tensors.pop(_SCALE, None), tensors.pop(_EMBEDDING, None)
    if scale is None or embedding is None or scale.shape != (1,):
        raise BundleError(f"guard must have {_EMBEDDING} and {_SCALE} (1,); export again")
    logits, targets = {}, {}
    for name in list(tensors):
        if name.startswith(_LOGITS):
            logits[name.removeprefix(_LOGITS)] = tensors.pop(name).astype(np.float32)
        elif name.startswith(_TARGETS):
            targets[name.removeprefix(_TARGETS)] = tensors.pop(name).astype(np.int64)
    return Guard(embedding.astype(np.float32) * scale.astype(np.float32), logits, targets)


def check_guard(guard: Guard, embedding: int, classes: Mapping[str, int]) -> None:
    """Check that a guard fits a network.

    Args:
        guard: The guard.
        embedding: Length D of the network's embedding.
        classes: How many classes each of its tasks has.

    Raises:
        BundleError: It does not; the message says where.
    """
    rows = len(guard.embedding)
    if guard.embedding.shape != (rows, embedding) or not 1 <= rows <= MOST:
        raise BundleError(
            f"guard's embedding must be (1 to {MOST}, {embedding}), is {guard.embedding.shape}"
        )
    shapes = {name: values.shape for name, values in guard.logits.items()}
    expected = {name: (rows, count) for name, count in classes.items()}
    if shapes != expected:
        raise BundleError(f"guard's logits must be {expected}, are {shapes}")
    if any(not np.isfinite(values).all() for values in (guard.embedding, *guard.logits.values())):
        raise BundleError("guard's embedding and logits must be finite")
    targets = {name: values.shape for name, values in guard.targets.items()}
    if targets != dict.fromkeys(classes, (rows,)):
        raise BundleError(f"guard's targets must be ({rows},) for each task, are {targets}")
    for name, values in guard.targets.items():
        if values.min() < UNLABELLED or values.max() >= classes[name]:
            raise BundleError(
                f"guard's targets of {name} must be {UNLABELLED} to {classes[name] - 1}, "
                f"are {values.min()} to {values.max()}"
            )
