"""Samples over MQTT: what a workstation asks a device for, and what the device answers.

A device answers only where its configuration consents, and only what it is asked for: nothing of it
lies at the broker, and whoever asks decides the pace. An answer that gets lost is asked for again.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from transom.config import Name
from transom.messages import Payload, decode
from transom.tasks import NAME_PATTERN
from transom.updates import Digest, Request

PAGE = 50
"""Samples of which one message tells: some 40 KB."""

MOST_BYTES = 2 << 20
"""A picture on the way; the largest that a device keeps is a tenth of it."""

_MOST_CLASSES = 1000

Class = Annotated[str, Meta(pattern=NAME_PATTERN.replace("$", r"\Z"))]
Label = Annotated[str, Meta(pattern=r"^[a-z0-9_|-]{1,1024}\Z")]
Classes = Annotated[tuple[Class, ...], Meta(min_length=2, max_length=_MOST_CLASSES)]
Moment = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]
Word = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}\Z")]
SampleId = Annotated[int, Meta(ge=1, lt=2**53)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]


class _Ask(Payload, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        request: Under which name the answers come.
    """

    request: Request


class AskOffer(_Ask, frozen=True, kw_only=True, tag_field="what", tag="offer"):
    """How much there is: answered by a `SamplesOffer`."""


class AskList(_Ask, frozen=True, kw_only=True, tag_field="what", tag="list"):
    """What is known of the samples after one, the oldest first: answered by a `SamplesPage`."""

    after: Count


class AskPicture(_Ask, frozen=True, kw_only=True, tag_field="what", tag="picture"):
    """A picture: answered by its chunks, or by an empty first one where it is no longer kept."""

    id: SampleId


Ask = AskOffer | AskList | AskPicture
_ASK: Any = Ask  # a union is no type to mypy


class SharedTask(Payload, frozen=True, kw_only=True):
    """A task of the bundle that serves."""

    classes: Classes
    ordinal: bool


class SamplesOffer(Payload, frozen=True, kw_only=True):
    """What there is to fetch.

    Attributes:
        samples: Pictures.
        labelled: Those of them that have a label.
        model: Name of the bundle that serves.
        sequence: Its sequence.
        digest: Its SHA-256.
        tasks: Those of its tasks that zones of the device are told by.
    """

    samples: Count
    labelled: Count
    model: Annotated[str, Meta(max_length=64)]
    sequence: Count
    digest: Digest
    tasks: Mapping[Class, SharedTask]


class SharedSample(Payload, frozen=True, kw_only=True):
    """All of a sample but its picture and its embedding; see `edge_runtime.sample.Sample`.

    Attributes:
        camera: That the zone belongs to now; None = the device watches it no longer.
        shape: The zone in the picture, as `labels.csv` writes it.
        model: Digest of the bundle that answered.
        sha256: Of the picture.
        size_bytes: Of the picture.
    """

    id: SampleId
    camera: Name | None = None
    zone: Name
    task: Class
    why: Word
    taken_at: Moment
    shape: Annotated[str, Meta(max_length=512)]
    model: Digest
    classes: Classes
    probabilities: Annotated[
        tuple[Annotated[float, Meta(ge=0.0, le=1.001)], ...], Meta(max_length=_MOST_CLASSES)
    ]
    label: Label | None = None
    labelled_by: Word | None = None
    labelled_at: Moment | None = None
    copies: Count
    drawn: Count
    sha256: Digest
    size_bytes: Annotated[int, Meta(ge=1, lt=2**53)]


class SamplesPage(Payload, frozen=True, kw_only=True):
    """A part of the list: one damaged entry must not cost the others, so each is read by itself."""

    samples: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=PAGE)]
    is_last: bool


Part = Literal["offer", "list"]


def part_topic(root: str, request: str, part: Part, number: int = 0) -> str:
    """Return where an offer, or the list after sample `number`, is answered.

    Examples:
        >>> part_topic("transom/hall-pi/samples", "a1", "list", 50)
        'transom/hall-pi/samples/a1/list/50'
    """
    return f"{root}/{request}/{part}/{number}"


def chunk_topic(root: str, request: str, id_: int, chunk: int) -> str:
    """Return where a chunk of a picture comes.

    Examples:
        >>> chunk_topic("transom/hall-pi/samples", "a1", 7, 0)
        'transom/hall-pi/samples/a1/7/0'
    """
    return f"{root}/{request}/{id_}/{chunk}"


def read_ask(payload: bytes, topic: str) -> Ask:
    """Return what is asked for.

    Raises:
        MessageError: The payload says something else.
    """
    ask: Ask = decode(payload, _ASK, topic)
    return ask
