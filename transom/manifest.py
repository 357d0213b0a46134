"""What a bundle says of itself: what its network is fed, its tasks, and who can run it."""

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from transom import __version__
from transom.errors import BundleError, start_of
from transom.preprocess import Steps
from transom.session import Precision
from transom.tasks import Task, TaskSet

SCHEMA = 1
EMBEDDING, DISTANCE = "embedding", "distance"
"""Outputs of a network beside its tasks' logits; the second only where a rule asks for it."""

BundleName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]


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


def read_manifest(data: bytes) -> Manifest:
    """Read `manifest.json`.

    Raises:
        BundleError: It is none, or of another schema.
    """
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
        raise BundleError(f"manifest.json: {start_of(error)}") from error


def check_runtime(manifest: Manifest, name: str) -> None:
    """Refuse a bundle that needs a later Transom than this.

    Raises:
        BundleError: It does.
    """
    needed = manifest.minimum_runtime
    if _version(needed) > _version(__version__):
        raise BundleError(
            f"{name}: needs Transom {needed} or later, this is {__version__}; update Transom"
        )


def _version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, without trailing zeros: 1.2.0rc1 is (1, 2)."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
