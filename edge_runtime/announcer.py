"""What the daemon says, as messages: events into the outbox, newest values to the publisher."""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Literal, Protocol

import cv2

from edge_runtime.clock import Clock, iso
from edge_runtime.decision import Decision
from edge_runtime.link import Received
from edge_runtime.mqtt import PublisherCounters
from edge_runtime.outbox import OutboxCounts
from edge_runtime.zone_memory import ZoneMemory, decode_memory, encode_memory
from transom.crop import Image, cut_around
from transom.geometry import Zone
from transom.manifest import Manifest
from transom.messages import (
    OFFLINE,
    ONLINE,
    CameraProblem,
    Contact,
    Diagnostics,
    EventType,
    Message,
    ModelState,
    Reason,
    TaskAnswer,
    Taught,
    Topics,
    ZoneEvent,
    ZoneState,
    encode,
)

SNAPSHOT_QUALITY = 85
_SNAPSHOT_MARGIN = 0.1


class EventStore(Protocol):
    """Where events are safe until the broker has them; see `outbox.Outbox`."""

    def put(
        self, message: Message, event_id: str, memory: Mapping[str, bytes] | None = None
    ) -> None:
        """Accept an event, and what to remember with it; durable when this returns."""

    def recall(self, key: str) -> bytes | None:
        """Return what was remembered last under a key."""

    def counts(self) -> OutboxCounts:
        """Return what waits and what was lost."""


class Broker(Protocol):
    """The way to the broker; see `mqtt.Publisher`."""

    def start(self) -> None:
        """Connect, and keep connecting, in the background; nothing where that has begun."""

    def send(self, message: Message) -> None:
        """Publish the newest value of a topic, now or when the broker is back."""

    def flush_events(self) -> None:
        """Say that the event store has something new."""

    def stop(self, timeout_s: float) -> None:
        """Publish `offline` and disconnect."""

    def counters(self) -> PublisherCounters:
        """Return what became of the connection so far."""

    def listen(
        self, topic_filter: str, take: Callable[[Received], None], qos: Literal[0, 1] = 1
    ) -> None:
        """Have every message of a topic taken, in the connection's thread."""

    def alive(self) -> bool:
        """Whether the connection is looked after."""


class Announcer:
    """Turns what was decided into messages and hands them on.

    Args:
        topics: The device's topics.
        manifest: Of the bundle that serves.
        clock: For times and for the delay of an event.
        outbox: Takes events.
        broker: Takes everything else.

    Attributes:
        topics: The device's topics.
    """

    def __init__(
        self,
        topics: Topics,
        manifest: Manifest,
        clock: Clock,
        outbox: EventStore,
        broker: Broker,
    ) -> None:
        self.topics = topics
        self._manifest = manifest
        self._clock = clock
        self._outbox = outbox
        self._broker = broker
        self._boot_id = clock.boot_id()

    def wall_at(self, monotonic_ns: int) -> datetime:
        """Return the wall time, UTC, of a moment in this boot."""
        age_us = (self._clock.monotonic_ns() - monotonic_ns) / 1000.0
        return self._clock.wall() - timedelta(microseconds=age_us)

    def event(
        self,
        zone: str,
        event_type: EventType,
        decision: Decision,
        taken_ns: int,
        open_s: float | None = None,
        memory: ZoneMemory | None = None,
    ) -> None:
        """Store an event, then have it sent.

        Args:
            zone: The zone's name.
            event_type: What happened.
            decision: What was decided; its `previous` is the state before.
            taken_ns: Monotonic time of the frame that decided it.
            open_s: Seconds that the zone has been open, with `left_open`.
            memory: What the zone must still know after a restart.
        """
        at = iso(self.wall_at(taken_ns))
        topic = self.topics.event(zone)
        event = ZoneEvent(
            event_id=self._event_id(topic, event_type, taken_ns, at),
            event_type=event_type,
            state=decision.state,
            previous=decision.previous,
            at=at,
            time_synced=self._clock.is_synchronised(),
            boot_id=self._boot_id,
            monotonic_ns=taken_ns,
            confidence=round(decision.confidence, 4),
            latency_ms=round((self._clock.monotonic_ns() - taken_ns) / 1e6, 3),
            open_s=None if open_s is None else round(open_s, 1),
            reason=decision.reason,
        )
        kept = None if memory is None else {_memory_key(zone): encode_memory(memory)}
        self._outbox.put(Message(topic, encode(event), qos=1), event.event_id, kept)
        self._broker.flush_events()

    def recall(self, zone: str) -> ZoneMemory | None:
        """Return what a zone knew at its newest event, in this run or one before it."""
        return decode_memory(self._outbox.recall(_memory_key(zone)))

    def age_s(self, memory: ZoneMemory) -> float | None:
        """Return the seconds since a memory; None where no clock knows."""
        return memory.age_s(self._clock)

    def moment(self, memory: ZoneMemory) -> int | datetime:
        """Return when a memory was: monotonic within this boot, whose clock may be set meanwhile.

        From another boot its wall time is all that is known.
        """
        if memory.boot_id == self._boot_id:
            return memory.monotonic_ns
        return datetime.fromisoformat(memory.at)

    def memory(
        self, state: str, taken_ns: int, open_s: float | None, told_s: float | None
    ) -> ZoneMemory:
        """Return what a zone must still know after a restart; see `ZoneMemory`."""
        return ZoneMemory(
            state=state,
            at=iso(self.wall_at(taken_ns)),
            time_synced=self._clock.is_synchronised(),
            boot_id=self._boot_id,
            monotonic_ns=taken_ns,
            open_s=open_s,
            is_told=told_s is not None,
            told_s=told_s,
        )

    def state(
        self,
        zone: str,
        decision: Decision,
        *,
        since: datetime,
        last_known: tuple[str, datetime] | None,
        tasks: Mapping[str, TaskAnswer],
        kind: str | None,
        taught: Taught | None,
        contact: Contact | None,
    ) -> None:
        """Publish a zone's state, retained."""
        state = ZoneState(
            state=decision.state,
            kind=kind,
            confidence=round(decision.confidence, 4),
            since=iso(since),
            last_known=last_known[0] if last_known else None,
            last_known_at=iso(last_known[1]) if last_known else None,
            reason=decision.reason,
            model=self._manifest.name,
            sequence=self._manifest.sequence,
            tasks=tasks,
            taught=taught,
            contact=contact,
        )
        self._retain(self.topics.state(zone), encode(state))

    def snapshot(self, zone: str, shape: Zone, frame: Image) -> None:
        """Publish a JPEG of a zone, retained.

        Args:
            zone: The zone's name.
            shape: The zone; its bounding rectangle, a little larger, is what is shown.
            frame: (H, W, 3) uint8 BGR.
        """
        part, _ = cut_around(frame, shape, _SNAPSHOT_MARGIN)
        done, jpeg = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, SNAPSHOT_QUALITY])
        if done:
            self._retain(self.topics.snapshot(zone), jpeg.tobytes())

    def camera_status(self, camera: str, is_online: bool) -> None:
        """Publish whether a camera delivers frames, retained."""
        payload = ONLINE if is_online else OFFLINE
        self._retain(self.topics.camera_status(camera), payload.encode())

    def camera_problem(self, camera: str, reason: Reason | None) -> None:
        """Publish what is wrong with a camera's picture, retained; None = nothing."""
        problem = CameraProblem(problem=reason is not None, reason=reason)
        self._retain(self.topics.camera_problem(camera), encode(problem))

    def model(self) -> None:
        """Publish which bundle serves, retained."""
        version = str(self._manifest.sequence)
        state = ModelState(
            installed_version=version, latest_version=version, title=self._manifest.name
        )
        self._retain(self.topics.model_state, encode(state))

    def diagnostics(self, figures: Diagnostics) -> None:
        """Publish figures about the daemon; cheap to lose, so neither retained nor stored."""
        self._broker.send(Message(self.topics.diagnostics, encode(figures), qos=0))

    def _retain(self, topic: str, payload: bytes) -> None:
        self._broker.send(Message(topic, payload, qos=1, retain=True))

    def _event_id(self, topic: str, event_type: str, taken_ns: int, at: str) -> str:
        """Return an id that the same event has in every copy, and no other event."""
        what = f"{self._boot_id} {topic} {event_type} {taken_ns} {at}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, what))


def _memory_key(zone: str) -> str:
    return f"zone/{zone}"
