"""Inputs of a network and the answers that are right: what travels with it to be tried by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from transom.errors import BundleError, brief
from transom.guard import Guard, check_guard, take_guard
from transom.manifest import Manifest

_LOGITS = "logits."
_METADATA, _TOLERANCE, _FLOAT32_TOLERANCE = "__metadata__", "tolerance", "float32_tolerance"

Floats = npt.NDArray[np.float32]
Logits = dict[str, Floats]


@dataclass(frozen=True)
class Goldens:
    """Inputs and the answers that a correct device gives to them.

    Attributes:
        crops: (N, S, S, 3) uint8 BGR.
        logits: By task, (N, C) float32, calibrated.
        tolerance: Largest difference of a logit that is still correct.
        guard: Held-out pictures by their embeddings, to try there what a device is taught; None
            in bundles of which the first reader knew of none.
        float32_tolerance: The same as `tolerance` where an INT8 network is run in float32; None =
            it was not made to be.
    """

    crops: npt.NDArray[np.uint8]
    logits: Logits
    tolerance: float
    guard: Guard | None = None
    float32_tolerance: float | None = None

    def guarding(self, embed: Callable[[npt.NDArray[np.uint8]], Floats]) -> Guard:
        """Return the guard; where there is none, the goldens and what must be answered to them.

        Args:
            embed: Gives the embedding, (N, D) float32, of crops.
        """
        if self.guard is not None:
            return self.guard
        targets = {name: logits.argmax(axis=1) for name, logits in self.logits.items()}
        return Guard(embed(self.crops), self.logits, targets)

    def encode(self) -> bytes:
        """Return the goldens as a safetensors file."""
        tensors: dict[str, npt.NDArray[Any]] = {"crops": np.ascontiguousarray(self.crops)}
        tensors |= {_LOGITS + name: np.ascontiguousarray(v) for name, v in self.logits.items()}
        tensors |= self.guard.tensors() if self.guard is not None else {}
        metadata = {_TOLERANCE: repr(float(self.tolerance))}
        if self.float32_tolerance is not None:
            metadata[_FLOAT32_TOLERANCE] = repr(float(self.float32_tolerance))
        return _with_metadata(safetensors.numpy.save(tensors), metadata)

    @classmethod
    def decode(cls, data: bytes) -> "Goldens":
        """Read what `encode` wrote.

        Raises:
            BundleError: The data is not such a file.
        """
        try:
            tensors = safetensors.numpy.load(data)
            metadata = _safetensors_header(data)[_METADATA]
            tolerance = float(metadata[_TOLERANCE])
            in_float32 = metadata.get(_FLOAT32_TOLERANCE)
            float32_tolerance = None if in_float32 is None else float(in_float32)
            crops = tensors.pop("crops")
        except (
            safetensors.SafetensorError,
            msgspec.DecodeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise BundleError(f"goldens.safetensors cannot be read: {brief(error)}") from error
        guard = take_guard(tensors)
        foreign = sorted(name for name in tensors if not name.startswith(_LOGITS))
        if foreign:
            raise BundleError(
                f"goldens.safetensors must hold crops and {_LOGITS}<task>, holds {foreign[0]!r}"
            )
        logits = {name.removeprefix(_LOGITS): value for name, value in tensors.items()}
        return cls(crops, logits, tolerance, guard, float32_tolerance)


def check_parts(manifest: Manifest, goldens: Goldens) -> None:
    """Refuse goldens that do not fit a manifest.

    Raises:
        BundleError: They do not.
    """
    size = manifest.input.size
    crops = goldens.crops
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
        raise BundleError(
            f"golden crops must be (N, {size}, {size}, 3) uint8, got {crops.shape} {crops.dtype}"
        )
    if not 1 <= len(crops) <= 1024:
        raise BundleError(f"golden crops must be 1 to 1024, are {len(crops)}")
    for what, tolerance in (
        ("golden tolerance", goldens.tolerance),
        ("golden float32 tolerance", goldens.float32_tolerance),
    ):
        if tolerance is not None and not 0.0 < tolerance < 100.0:
            raise BundleError(f"{what} must be above 0 and below 100, is {tolerance:g}")
    expected = {spec.name: (len(crops), len(spec.classes)) for spec in manifest.tasks}
    found = {name: value.shape for name, value in goldens.logits.items()}
    if found != expected:
        raise BundleError(f"golden logits must be {expected}, are {found}")
    if any(v.dtype != np.float32 or not np.isfinite(v).all() for v in goldens.logits.values()):
        raise BundleError("golden logits must be finite float32")
    if goldens.guard is not None:
        classes = {spec.name: len(spec.classes) for spec in manifest.tasks}
        check_guard(goldens.guard, manifest.embedding, classes)


def _safetensors_header(data: bytes) -> dict[str, Any]:
    """Return what stands at the head of a safetensors file."""
    header: dict[str, Any] = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with metadata in their order; the library writes them in any."""
    body = data[8 + int.from_bytes(data[:8], "little") :]
    header = msgspec.json.encode({_METADATA: metadata} | _safetensors_header(data))
    header += b" " * (-len(header) % 8)  # as the library does: the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + body
