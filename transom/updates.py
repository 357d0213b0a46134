"""How a bundle is offered to a device over MQTT, how it travels, and what the device answers.

A bundle lies at the broker in retained chunks, each with its own digest in front. A device asks for
the chunks that it lacks, one after the other, so that a broken download goes on where it was.
Whether the bundle is one to trust, only its signature says.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta

from transom.chunks import chunk_count, cut_file
from transom.manifest import BundleName
from transom.messages import Message, Payload, decode

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Request = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]

Step = Literal[
    "accepted",
    "waiting",
    "verified",
    "tried",
    "shadow",
    "started",
    "committed",
    "refused",
    "rolled_back",
    "withdrawn",
]
"""How far a device is with what it was asked for."""

FINAL: tuple[Step, ...] = ("committed", "refused", "rolled_back", "withdrawn")
"""The steps after which nothing more comes."""


class Wish(Payload, frozen=True, kw_only=True):
    """What a device is asked for.

    Attributes:
        request: Name of this wish; the device answers each once, however often it is delivered.
        name: Of the bundle, as its manifest has it.
        sequence: Of the bundle, as its manifest has it.
    """

    request: Request
    name: BundleName
    sequence: Annotated[int, Meta(ge=0, lt=2**53)]


class Install(Wish, frozen=True, kw_only=True, tag_field="action", tag="install"):
    """Payload of `…/model/desired`: install this bundle.

    Attributes:
        digest: SHA-256 of the file.
        size_bytes: Of the file.
        url: Where to fetch it, https; null = in chunks, from the broker.
    """

    digest: Digest
    size_bytes: Annotated[int, Meta(ge=1)]
    url: Annotated[str, Meta(max_length=2048)] | None = None

    @property
    def chunks(self) -> int:
        """Into how many chunks the file is cut."""
        return chunk_count(self.size_bytes)


class Rollback(Wish, frozen=True, kw_only=True, tag_field="action", tag="rollback"):
    """Payload of `…/model/desired`: leave this bundle for the one before."""


Desired = Install | Rollback
_DESIRED: Any = Desired  # a union is no type to mypy


class ModelReport(Payload, frozen=True, kw_only=True):
    """Payload of `…/model/report`: one step of the way, or why it ends.

    Attributes:
        request: The wish that this answers, or that brought the bundle.
        step: What has happened: `waiting` is for somebody to ask, `tried` that its golden vectors
            are right, `shadow` that it has run beside the serving one; after the last four nothing
            more comes.
        name: Of the bundle.
        sequence: Of the bundle.
        digest: Of the bundle; empty in answers to a rollback.
        at: UTC, ISO 8601.
        reason: Why, where the device refuses or rolls back.
        decisions: Looks that both the new network and the old one have judged.
        agreement: Share of them on which they said the same, 0 to 1.
        inference_ms: Median time of the new network for one crop, on this device.
        precision: In which the new network is to run on this device: `int8` or `float32`.
        precision_why: Why, with figures.
    """

    request: str
    step: Step
    name: str
    sequence: int
    digest: str
    at: str
    reason: str = ""
    decisions: int | None = None
    agreement: float | None = None
    inference_ms: float | None = None
    precision: str | None = None
    precision_why: str = ""


class TrustedKeys(Payload, frozen=True, kw_only=True):
    """Payload of `…/model/trusted`: whose signature counts.

    Attributes:
        sequence: Of the key statement that is followed; 0 = none.
        trusted: Fingerprints of the keys.
        refused: Why the last statement was not taken; empty = it was.
    """

    sequence: int
    trusted: tuple[str, ...]
    refused: str = ""


def depot_topic(prefix: str, digest: str, chunk: int) -> str:
    """Return where a chunk of a bundle is retained.

    Examples:
        >>> depot_topic("transom", "ab" * 32, 3)[:22]
        'transom/depot/abababab'
    """
    return f"{prefix}/depot/{digest}/{chunk}"


class DepotEntry(Payload, frozen=True, kw_only=True):
    """Payload of `…/depot/<digest>/bundle`: what lies there.

    Attributes:
        name: Of the bundle.
        sequence: Of the bundle.
        chunks: How many there are, or will be.
        since: When it was brought; UTC, ISO 8601.
    """

    name: str
    sequence: int
    chunks: Annotated[int, Meta(ge=1, le=65536)]
    since: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]


def entry_topic(prefix: str, digest: str) -> str:
    """Return where it is retained what a bundle's chunks are."""
    return f"{prefix}/depot/{digest}/bundle"


def cut(data: bytes, prefix: str, digest: str) -> Iterator[Message]:
    """Yield the retained messages that bring a file to the broker."""
    for chunk, payload in enumerate(cut_file(data)):
        yield Message(depot_topic(prefix, digest, chunk), payload, qos=1, retain=True)


def read_desired(payload: bytes, topic: str) -> Desired | None:
    """Return what is desired; None = nothing any more, which an empty payload says.

    Raises:
        MessageError: The payload says something else.
    """
    return decode(payload, _DESIRED, topic) if payload else None
