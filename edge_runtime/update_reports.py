"""What a device says of bundles that it is offered, to Home Assistant and to who offers them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from edge_runtime.clock import Clock, iso
from edge_runtime.outbox import Outbox
from edge_runtime.precision import Chosen
from transom.manifest import Manifest
from transom.messages import Message, ModelState, Topics, encode
from transom.signing import PublicKey
from transom.updates import Desired, Install, ModelReport, Step, TrustedKeys

_SUMMARY_LENGTH = 255


@dataclass(frozen=True)
class Measured:
    """What a step has found out; see `ModelReport`."""

    decisions: int | None = None
    agreement: float | None = None
    inference_ms: float | None = None
    chosen: Chosen | None = None


class Voice(Protocol):
    """The way to the broker; see `mqtt.Publisher`."""

    def send(self, message: Message) -> None:
        """Publish the newest value of a topic, now or when the broker is back."""

    def flush_events(self) -> None:
        """Say that the outbox has something new."""


class UpdateReports:
    """Tells each step once, surely and in order; and what Home Assistant's update entity shows.

    Args:
        topics: The device's.
        outbox: Takes the steps: a rollback must be heard of even if the broker is away.
        voice: Takes the state.
        clock: For times.
    """

    def __init__(self, topics: Topics, outbox: Outbox, voice: Voice, clock: Clock) -> None:
        self._topics = topics
        self._outbox = outbox
        self._voice = voice
        self._clock = clock

    def step(
        self,
        step: Step,
        wish: Desired,
        reason: str = "",
        measured: Measured = Measured(),
    ) -> None:
        """Tell how far a wish is."""
        report = ModelReport(
            request=wish.request,
            step=step,
            name=wish.name,
            sequence=wish.sequence,
            digest=wish.digest if isinstance(wish, Install) else "",
            at=iso(self._clock.wall()),
            reason=reason,
            decisions=measured.decisions,
            agreement=None if measured.agreement is None else round(measured.agreement, 4),
            inference_ms=measured.inference_ms,
            precision=None if measured.chosen is None else measured.chosen.precision,
            precision_why="" if measured.chosen is None else measured.chosen.why,
        )
        self._outbox.put(Message(self._topics.model_report, encode(report)), str(uuid.uuid4()))
        self._voice.flush_events()

    def keys(self, sequence: int, trusted: Sequence[PublicKey], refused: str = "") -> None:
        """Show whose signature counts; see `TrustedKeys`."""
        told = TrustedKeys(
            sequence=sequence,
            trusted=tuple(key.fingerprint for key in trusted),
            refused=refused,
        )
        self._voice.send(Message(self._topics.model_trusted, encode(told), qos=1, retain=True))

    def state(
        self,
        serving: Manifest,
        wish: Desired | None = None,
        summary: str = "",
        percent: int | None = None,
    ) -> None:
        """Show which bundle serves, which one is on offer, and how far it is.

        Args:
            serving: Of the bundle that serves.
            wish: What is on offer; None = nothing else.
            summary: For people; shortened to what Home Assistant takes.
            percent: 0 to 100 while it is fetched and tried; None = nothing is in progress.
        """
        state = ModelState(
            installed_version=str(serving.sequence),
            latest_version=str((wish or serving).sequence),
            title=serving.name,
            release_summary=summary[:_SUMMARY_LENGTH],
            in_progress=percent is not None,
            update_percentage=percent,
        )
        payload = msgspec.json.encode(state)
        self._voice.send(Message(self._topics.model_state, payload, qos=1, retain=True))
