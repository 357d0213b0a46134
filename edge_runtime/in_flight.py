"""What is under way over one connection: sent to the broker, and not yet acknowledged.

At most 15 messages are. Everything else waits in the outbox (events) or among the newest values,
so paho holds nothing that a restart could lose.

Of events a connection sends one, and with each answer one more at a time. A broker that ends the
connection over an event, as some do where they refuse it, takes the answers to those that follow it
with it; sent alone it is answered, so that it is never in the way of the others for ever.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from edge_runtime.clock import Clock
from edge_runtime.link import Acknowledged, Connected, Link
from edge_runtime.newest_values import NewestValues
from edge_runtime.outbox import Outbox
from edge_runtime.outbox_file import Entry
from transom.messages import Message

_log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 15

_QUOTA_PAUSE_S = 10.0
_NO_ALARM = ""  # in place of a topic

_ALLOW_IT = "allow this device to write it in the broker's access list"
_TAKE_MORE = "let the broker take larger packets (mosquitto: max_packet_size)"
_LATER = "it is sent again soon"


class Refusals:
    """What the broker refused, over all connections: told once a topic, until it is taken again.

    Attributes:
        count: How many messages.
    """

    def __init__(self) -> None:
        self.count = 0
        self._told: set[str] = set()

    def note(self, topic: str, reason: str, do: str, *, is_alarm: bool = True) -> None:
        """Count a message that was refused, and warn where it is the topic's first.

        Args:
            topic: The message's.
            reason: The broker's words.
            do: What to do about it.
            is_alarm: Whether the topic counts until it is taken again.
        """
        self.count += 1
        kind = topic if is_alarm else _NO_ALARM
        is_first = kind not in self._told
        self._told.add(kind)
        _log.log(
            logging.WARNING if is_first else logging.DEBUG,
            "broker refuses topic=%s reason=%s; %s",
            topic,
            reason,
            do,
        )

    def forget(self, topic: str) -> None:
        """Take in that the broker has taken a message of a topic."""
        if topic in self._told:
            self._told.remove(topic)
            _log.info("broker takes topic again topic=%s", topic)

    @property
    def topics(self) -> int:
        """Of how many topics the newest message was refused."""
        return len(self._told - {_NO_ALARM})


@dataclass(frozen=True, slots=True)
class _Sent:
    message: Message
    entry: Entry | None  # None = a newest value
    at_s: float


class InFlight:
    """The window of one connection; ends with it.

    Args:
        link: The connection.
        values: Sent first, they are few.
        outbox: Events, sent in order and removed when they are acknowledged.
        refusals: Told of what the broker does not take.
        clock: For pauses.
    """

    def __init__(
        self, link: Link, values: NewestValues, outbox: Outbox, refusals: Refusals, clock: Clock
    ) -> None:
        self._link = link
        self._values = values
        self._outbox = outbox
        self._refusals = refusals
        self._clock = clock
        self._sent: dict[int, _Sent] = {}  # by the id that the answer will carry, oldest first
        self._window = MAX_IN_FLIGHT
        self._event_window = 1
        self._max_packet_bytes: int | None = None
        self._last_id = 0  # of the events that were sent
        self._events_from_s = 0.0
        self._put_off: set[str] = set()  # topics of values that the broker takes later
        self._put_off_until_s = 0.0
        self._has_backlog = False

    def __len__(self) -> int:
        """Return how many messages are not yet acknowledged."""
        return len(self._sent)

    @property
    def is_drained(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return not (self._sent or self._values or self._outbox.pending(1, self._last_id))

    def begin(self, connected: Connected) -> None:
        """Take in what the broker takes, now that it has accepted the connection."""
        self._window = max(min(MAX_IN_FLIGHT, connected.window), 1)
        self._max_packet_bytes = connected.max_packet_bytes
        self._has_backlog = self._outbox.counts().queued > 0

    def fill(self) -> None:
        """Send what fits: newest values, then events."""
        if self._put_off and self._clock.monotonic_s() >= self._put_off_until_s:
            self._values.repeat_some(self._put_off)
            self._put_off.clear()
        while self._room > 0 and (message := self._values.next()) is not None:
            self.send(message)
        room = self._room_for_events
        if room <= 0 or self._clock.monotonic_s() < self._events_from_s:
            return
        entries = self._outbox.pending(room, self._last_id)
        if not entries and self._last_id and not self._events_under_way:
            # A store that could not be opened before holds what came before all this.
            entries = self._outbox.pending(room)
        for entry in entries:
            self._last_id = entry.id
            self.send(entry.message, entry)
        if self._has_backlog and not entries and not self._sent:
            # Who follows events must not be left with the past: the state speaks last.
            self._has_backlog = False
            self._values.repeat()

    def send(self, message: Message, entry: Entry | None = None) -> None:
        """Send one message, whether it fits or not; `entry` is the event that it is."""
        if self._is_too_large(message):
            self._refuse(message, entry, "larger than the broker's largest packet", _TAKE_MORE)
            return
        mid = self._link.publish(message)
        if message.qos:
            self._sent[mid] = _Sent(message, entry, self._clock.monotonic_s())
        else:
            self._refusals.forget(message.topic)  # without an answer, only its size can be refused

    def settle(self, answers: Iterable[Acknowledged]) -> None:
        """Take in what the broker says of what was sent; all events that it took cost one write."""
        delivered: list[int] = []
        for answer in answers:
            sent = self._sent.pop(answer.mid, None)
            if sent is None:
                continue
            entry = sent.entry
            if entry is not None:
                self._event_window = min(self._event_window + 1, MAX_IN_FLIGHT)
            if answer.refusal is None:
                delivered += [] if entry is None else [entry.id]
                self._refusals.forget(sent.message.topic)
            elif answer.is_temporary and entry is not None:
                self._last_id = min(self._last_id, entry.id - 1)
                self._events_from_s = self._clock.monotonic_s() + _QUOTA_PAUSE_S
            else:
                do = _LATER if answer.is_temporary else _ALLOW_IT
                self._refuse(sent.message, entry, answer.refusal, do)
                if answer.is_temporary:
                    self._put_off.add(sent.message.topic)
                    self._put_off_until_s = self._clock.monotonic_s() + _QUOTA_PAUSE_S
        if delivered:
            self._outbox.done(*delivered)

    def is_stalled(self, now_s: float) -> bool:
        """Return whether the broker has left a message unanswered for two keepalives."""
        oldest = next(iter(self._sent.values()), None)
        limit_s = 2.0 * self._link.keepalive_s
        return oldest is not None and limit_s > 0.0 and now_s - oldest.at_s > limit_s

    def give_back(self) -> None:
        """Make values due again that the broker did not acknowledge; events are in the outbox."""
        self._values.put_back(sent.message for sent in self._sent.values() if sent.entry is None)

    @property
    def _room(self) -> int:
        return self._window - len(self._sent)

    @property
    def _room_for_events(self) -> int:
        return min(self._room, self._event_window - self._events_under_way)

    @property
    def _events_under_way(self) -> int:
        return sum(sent.entry is not None for sent in self._sent.values())

    def _is_too_large(self, message: Message) -> bool:
        """Whether the broker would end the connection over this, now and at every new try."""
        limit = self._max_packet_bytes
        # The fixed header, the topic's length, the message's id and no properties.
        size = len(message.topic.encode()) + len(message.payload) + 5 + 2 + 2 + 1
        return limit is not None and size > limit

    def _refuse(self, message: Message, entry: Entry | None, reason: str, do: str) -> None:
        if entry is not None:
            self._outbox.refuse(entry.id, reason)
        # Answers to somebody have topics that are used this once, and what is taken back is of no
        # use to anybody: neither would ever be taken again, and the alarm be over.
        is_passing = entry is None and message.qos > 0 and not (message.retain and message.payload)
        self._refusals.note(message.topic, reason, do, is_alarm=not is_passing)
