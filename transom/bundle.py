"""The bundle: one file that carries a network from the workstation to the devices.

A bundle is a zip of stored members in a fixed order, with fixed dates. Because the same members
always give the same bytes, a reader can demand that the file be exactly what the writer would
have written: a byte that belongs to no member, a changed header or a second central directory
is refused without a special case for any of them.
"""

import hashlib
import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from msgspec import Meta

from transom.atomic import write_file
from transom.errors import BundleError, SignatureError, brief
from transom.guard import Guard, check_guard, take_guard
from transom.preprocess import Steps
from transom.session import Precision
from transom.signing import PrivateKey, PublicKey, is_as_written, sign, verify
from transom.tasks import Task, TaskSet

SCHEMA = 1
MEMBERS = ("manifest.json", "model.onnx", "goldens.safetensors", "report.json", "signature.json")
MAX_BUNDLE_BYTES = 64 * 1024 * 1024
"""Larger files are refused before they are read: a Pi with 1 GB must survive any of them."""

MOST_TEXT_BYTES = {"manifest.json": 1 << 20, "report.json": 4 << 20, "signature.json": 1 << 16}
"""Of members that are read as JSON, which takes many times its size in memory. The signature is
read before it is known who has signed."""

EMBEDDING, DISTANCE = "embedding", "distance"
"""Outputs of a network beside its tasks' logits; the second only where a rule asks for it."""

BundleName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]

_SIGNED = MEMBERS[:-1]
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_ZIP_MEMBER = struct.Struct("<4s5H3I2H")  # the header that stands before each member
_LOGITS = "logits."
_METADATA, _TOLERANCE, _FLOAT32_TOLERANCE = "__metadata__", "tolerance", "float32_tolerance"

Floats = npt.NDArray[np.float32]
Logits = dict[str, Floats]


class InputSpec(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What the network is fed: uint8 BGR crops (N, size, size, 3).

    A manifest names `preprocess` only where there are steps: a bundle without any is read by a
    Transom that knows of none, and one with them is refused by it.

    Attributes:
        size: Side of the crop in pixels.
        margin: Context around the zone, as a share of its own sides (see `crop_zone`).
        preprocess: Steps on the crop, in this order (see `transom.preprocess`).
    """

    size: Annotated[int, Meta(ge=16, le=1024)]
    # A factory, because a manifest states the margin even where it is the default.
    margin: Annotated[float, Meta(ge=0.0, le=1.0)] = msgspec.field(default_factory=float)
    preprocess: Steps = ()


class UnknownRule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """When a task's answer is `unknown` whatever its probabilities say.

    Attributes:
        max_energy: Largest energy, -logsumexp(logits), at which a class is believed; None = any.
            Pictures unlike the training ones have a high energy.
        max_distance: Largest value of the network's output `distance` at which a class is believed;
            None = any, and the network need not have that output. It says how far a picture's
            embedding lies from those of training.

    References:
        Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020.
        Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, 2021.
    """

    max_energy: float | None = None
    max_distance: float | None = None

    def __post_init__(self) -> None:
        # JSON has no NaN: it would be written as null, which believes everything.
        for key in ("max_energy", "max_distance"):
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{key} must be a finite number or None, got {value}")


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One head of the network, as the device needs it.

    Attributes:
        thresholds: For each class, the least probability at which it is believed, 0 to 1.
        unknown: The rule for pictures unlike training.
    """

    name: str
    classes: tuple[str, ...]
    ordinal: bool = False
    thresholds: tuple[Annotated[float, Meta(ge=0.0, le=1.0)], ...]
    unknown: UnknownRule = UnknownRule()

    def __post_init__(self) -> None:
        self.as_task()
        if len(self.thresholds) != len(self.classes):
            raise ValueError(
                f"task {self.name!r} has {len(self.classes)} classes and "
                f"{len(self.thresholds)} thresholds"
            )

    def as_task(self) -> Task:
        """Return the task itself, without what calibration found."""
        return Task(name=self.name, classes=self.classes, ordinal=self.ordinal)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says of itself.

    Attributes:
        schema: Version of this structure.
        name: What the bundle is called, in messages and file names.
        sequence: Grows with every bundle of a name; an older one is not installed unasked.
        created: UTC, ISO 8601, like 2026-11-23T12:00:00Z.
        input: What the network is fed.
        tasks: Its heads, in the order of its outputs.
        embedding: Length D of the embedding.
        precision: Of the network's arithmetic.
        metrics: As evaluated on held-out groups, with the data set's digest.
        training: Recipe digest and versions.
        minimum_runtime: Least version of Transom on the device.
    """

    schema: Literal[1] = 1
    name: BundleName
    sequence: Annotated[int, Meta(ge=0, lt=2**53)]
    created: Annotated[
        str,
        Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)\Z"),
    ]
    input: InputSpec
    tasks: Annotated[tuple[TaskSpec, ...], Meta(min_length=1)]
    embedding: Annotated[int, Meta(ge=1, le=65536)]
    precision: Precision
    metrics: dict[str, Any] = {}
    training: dict[str, Any] = {}
    minimum_runtime: Annotated[str, Meta(pattern=r"^\d{1,4}(\.\d{1,4}){1,3}[0-9a-z.+-]{0,32}\Z")]

    def __post_init__(self) -> None:
        self.task_set()

    def task_set(self) -> TaskSet:
        """Return the tasks by name."""
        return TaskSet(spec.as_task() for spec in self.tasks)

    def widths(self) -> dict[str, int]:
        """Return the network's outputs, each float32 (N, width), by name."""
        widths = {spec.name: len(spec.classes) for spec in self.tasks}
        widths[EMBEDDING] = self.embedding
        if any(spec.unknown.max_distance is not None for spec in self.tasks):
            widths[DISTANCE] = 1
        return widths


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


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and verified.

    Attributes:
        manifest: What it says of itself.
        model: The ONNX network, bytes. Load it from these, never from a path: what was verified
            is then what runs, and ONNX cannot refer to files outside.
        goldens: Vectors to try the network with.
        report: The evaluation, as `transom export` wrote it.
        digest: SHA-256 of the file, hexadecimal.
    """

    manifest: Manifest
    model: bytes
    goldens: Goldens
    report: dict[str, Any]
    digest: str

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """In which precisions the network can be run, its own first."""
        own = self.manifest.precision
        if own == "int8" and self.goldens.float32_tolerance is not None:
            return own, "float32"
        return (own,)


def write_bundle(
    path: Path,
    *,
    manifest: Manifest,
    model: bytes,
    goldens: Goldens,
    report: Mapping[str, Any],
    key: PrivateKey,
) -> str:
    """Write and sign a bundle; the file appears whole or not at all.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        BundleError: The parts do not fit each other, or the file would be too large.
        OSError: The file cannot be written.
    """
    _check_parts(manifest, goldens)
    written_manifest = _json(manifest)
    _read_manifest(written_manifest)  # a struct made in Python has not been checked yet
    members = {
        "manifest.json": written_manifest,
        "model.onnx": model,
        "goldens.safetensors": goldens.encode(),
        "report.json": _json(report),
    }
    for name, content in members.items():
        _check_size(name, len(content))
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    members["signature.json"] = sign(digests, manifest.name, key)
    data = _zip(members)
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"{path}: would have {len(data):,} bytes, {MAX_BUNDLE_BYTES:,} is the most; "
            "use a smaller backbone"
        )
    write_file(path, data)
    return hashlib.sha256(data).hexdigest()


def read_bundle(path: Path, trusted_keys: Sequence[PublicKey] | None) -> Bundle:
    """Read and verify a bundle file.

    Args:
        path: The file.
        trusted_keys: Keys of which one must have signed it. None checks everything but who has
            signed: for the workstation's own files only.

    Raises:
        SignatureError: No trusted key has signed it.
        BundleError: The file is missing or not exactly what a writer of bundles writes.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BUNDLE_BYTES:
            raise BundleError(f"{path}: has {size:,} bytes, {MAX_BUNDLE_BYTES:,} is the most")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_bundle(data, str(path), trusted_keys)


def parse_bundle(data: bytes, name: str, trusted_keys: Sequence[PublicKey] | None) -> Bundle:
    """Verify a bundle that is in memory; `name` is what errors call it. See `read_bundle`."""
    try:
        if len(data) > MAX_BUNDLE_BYTES:
            raise BundleError(f"has {len(data):,} bytes, {MAX_BUNDLE_BYTES:,} is the most")
        members = _unzip(data)
        _check_signature(members, trusted_keys)
        if not is_as_written(members["signature.json"], trusted_keys) or _zip(members) != data:
            raise BundleError(
                "is not, byte for byte, what a writer of bundles writes; fetch it again"
            )
        manifest = _read_manifest(members["manifest.json"])
        goldens = Goldens.decode(members["goldens.safetensors"])
        _check_parts(manifest, goldens)
        report = msgspec.json.decode(members["report.json"], type=dict[str, Any])
    except SignatureError as error:
        raise SignatureError(f"{name}: {error}") from error
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{name}: report.json cannot be read: {error}") from error
    return Bundle(
        manifest, members["model.onnx"], goldens, report, hashlib.sha256(data).hexdigest()
    )


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


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=1)


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in MEMBERS:
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    """Cut a file at its members' headers, in one pass that copies what is there and no more.

    Only headers are read: that the rest of the file is what `_zip` writes is checked against
    `_zip` itself. The archive's directory is never trusted, so no entry of it can lie.
    """
    members: dict[str, bytes] = {}
    offset = 0
    for name in MEMBERS:
        found, size, start = _read_member_header(data, offset)
        if found is None and not members:
            raise BundleError(
                "is no bundle; name the file that transom export wrote, or fetch it again"
            )
        if found != name:
            raise BundleError(
                f"must hold {', '.join(MEMBERS)} in this order, "
                f"has {_shown(found)} where {name} belongs; fetch it again"
            )
        _check_size(name, size)
        offset = start + size
        if offset > len(data):
            raise BundleError(
                f"ends within {name}: {len(data) - start:,} of its {size:,} bytes are there; "
                "fetch it again"
            )
        members[name] = data[start:offset]
    if data[offset : offset + 4] == b"PK\x03\x04":
        further, _, _ = _read_member_header(data, offset)
        raise BundleError(
            f"must hold {', '.join(MEMBERS)} and nothing else, holds {_shown(further)} too"
        )
    return members


def _check_size(name: str, size: int) -> None:
    most = MOST_TEXT_BYTES.get(name)
    if most is not None and size > most:
        raise BundleError(f"{name} has {size:,} bytes, {most:,} is the most; export again")


def _read_member_header(data: bytes, offset: int) -> tuple[str | None, int, int]:
    """Return a member's name, its size in bytes and where its content begins."""
    try:
        magic, _, _, method, _, _, _, size, full_size, name_length, extra_length = (
            _ZIP_MEMBER.unpack_from(data, offset)
        )
    except struct.error:
        return None, 0, offset
    if magic != b"PK\x03\x04":
        return None, 0, offset
    start = offset + _ZIP_MEMBER.size
    name = data[start : start + name_length].decode("utf-8", "replace")
    if method != zipfile.ZIP_STORED or size != full_size:
        raise BundleError(f"{_shown(name)} must be stored, not compressed; fetch it again")
    return name, size, start + name_length + extra_length


def _shown(name: str | None) -> str:
    """Return a name that a stranger chose, fit for a terminal."""
    return "no member" if name is None else ascii(name[:64])


def _check_signature(
    members: Mapping[str, bytes], trusted_keys: Sequence[PublicKey] | None
) -> None:
    digests = verify(members["signature.json"], trusted_keys)
    if set(digests) != set(_SIGNED):
        raise BundleError(
            f"signature must cover {', '.join(_SIGNED)}, "
            f"covers {_shown(', '.join(sorted(digests)))}"
        )
    for name in _SIGNED:
        found = hashlib.sha256(members[name]).hexdigest()
        if found != digests[name]:
            raise BundleError(
                f"{name} has sha256 {found[:12]}…, the signature says {digests[name][:12]}…; "
                "fetch it again"
            )


def _read_manifest(data: bytes) -> Manifest:
    try:
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise BundleError(
                f"manifest.json has schema {ascii(schema)[:64]}, this Transom reads schema "
                f"{SCHEMA}; "
                "update Transom or export again"
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"manifest.json: {error}") from error


def _check_parts(manifest: Manifest, goldens: Goldens) -> None:
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
