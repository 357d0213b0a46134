"""Publishing: events until the broker has acknowledged them, the newest value of all the rest.

One thread of ours owns the connection. Others hand it messages and wake it; nothing else touches
the network. It sends at most 15 messages that are not yet acknowledged and keeps everything else
in the outbox (events) or in a table of newest values by topic, so paho holds nothing that a
restart could lose.

Of events a connection sends one, and with each answer one more at a time. A broker that ends the
connection over an event, as some do where they refuse it, takes the answers to those that follow it
with it; sent alone it is answered, so that it is never in the way of the others for ever.

With protocol 5 a refused message is known by its reason code. With 3.1.1 it is not: a broker that
may not pass an event on acknowledges it like any other, and the event is silently gone.
"""

import logging
import random
import ssl
import threading
from dataclasses import dataclass
from typing import Literal

from paho.mqtt.client import topic_matches_sub

from edge_runtime.clock import Clock
from edge_runtime.link import (
    Access,
    Acknowledged,
    Connected,
    Link,
    Received,
    Subscribed,
    Take,
)
from edge_runtime.loss import ONE_NAME_EACH, Lost
from edge_runtime.outbox import Entry, Outbox
from edge_runtime.wake import Wake
from transom.config import MqttConfig
from transom.messages import OFFLINE, ONLINE, Message, Topics

_log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 15
MAX_RECEIVED_BYTES = 128 * 1024
"""A chunk of a bundle with its topic, and nothing larger: of what comes, hundreds may wait."""

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
STABLE_AFTER_S = 10.0
"""A connection that lasted this long has ended for a new reason, which is worth a log line."""

_TURN_S = 0.5
_QUOTA_PAUSE_S = 10.0
_GOODBYE_S = 0.2
"""For the thread to end; one that still waits for TCP or TLS has sent nothing and is left."""
_STUCK_AFTER_S = 180.0
"""Looking up a host name may block this long; longer and the thread counts as dead."""


@dataclass(frozen=True, slots=True)
class PublisherCounters:
    """What became of the connection.

    Attributes:
        reconnects: Connections after the first.
        refused: Messages that the broker refused.
    """

    reconnects: int
    refused: int


class Publisher:
    """Everything that the device says to its broker.

    Args:
        config: The broker.
        topics: The device's topics.
        outbox: Events to deliver.
        secret: The password, if there is one.
        clock: For deadlines.
        tls: How to encrypt; None = as the system does, where the configuration wants it.
        birth_topic: Where Home Assistant says that it has started; None = do not listen.
    """

    def __init__(
        self,
        config: MqttConfig,
        topics: Topics,
        outbox: Outbox,
        *,
        secret: str | None,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        birth_topic: str | None = "homeassistant/status",
    ) -> None:
        self._wake = Wake()
        if tls is None and config.uses_tls:
            tls = ssl.create_default_context()
        self._access = Access(config, secret, tls)
        self._client_id = topics.root.replace("/", "-")
        self._status = topics.status
        self._listeners: dict[str, tuple[Take, Literal[0, 1]]] = {}
        self._asked: set[str] = set()  # topic filters that the broker knows of, this connection
        if birth_topic is not None:
            self._listeners[birth_topic] = (self._meet_birth, 1)
        self._outbox = outbox
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: dict[str, Message] = {}  # retained topics, in the order of their first value
        self._due: dict[str, Message] = {}
        self._stop_at_s: float | None = None
        self._beat_s = clock.monotonic_s()
        self._connection: _Connection | None = None
        self._troubles = _Troubles()
        self._connects = 0
        self._refused = 0
        self._refused_topics: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    # ---------------------------------------------------------------- for the daemon's thread

    def start(self) -> None:
        """Connect, and keep connecting, in the background; nothing where that has begun."""
        if self._thread.ident is not None:
            return
        config = self._access.config
        if config.protocol == "3.1.1":
            _log.warning(
                "mqtt protocol 3.1.1: a refused event cannot be told from a delivered one; "
                'set mqtt.protocol = "5" if the broker speaks it'
            )
        if not config.uses_tls and config.host not in ("localhost", "127.0.0.1", "::1"):
            _log.warning("mqtt is not encrypted host=%s; set mqtt.tls = true", config.host)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Publish the newest value of a topic, now or when the broker is back.

        An older value of the topic that was not sent yet is forgotten. Retained values are sent
        again at each reconnect and whenever Home Assistant starts.
        """
        with self._lock:
            if message.retain:
                self._newest[message.topic] = message
            self._due[message.topic] = message
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged, the outbox's that wait left aside."""
        connection = self._connection
        return len(self._due) + (0 if connection is None else len(connection.in_flight))

    def flush_events(self) -> None:
        """Say that the outbox has something new."""
        self._wake.set()

    def listen(self, topic_filter: str, take: Take, qos: Literal[0, 1] = 1) -> None:
        """Subscribe now and at each reconnect; what is retained then comes again.

        Args:
            topic_filter: What to hear.
            take: Gets each message.
            qos: 0 for what is said of this moment: it must not wait for a device that is away.
        """
        with self._lock:
            self._listeners[topic_filter] = (take, qos)
            self._asked.discard(topic_filter)
        self._wake.set()

    def ignore(self, topic_filter: str) -> None:
        """Undo `listen`."""
        with self._lock:
            self._listeners.pop(topic_filter, None)
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Send what is left, publish `offline`, disconnect; wait at most `timeout_s` seconds.

        Events that do not get through stay in the outbox for the next start.
        """
        self._stop_at_s = self._clock.monotonic_s() + timeout_s
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s + _GOODBYE_S)

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection and is not known to be gone."""
        connection = self._connection
        return connection is not None and connection.link.is_connected

    def counters(self) -> PublisherCounters:
        """Return what became of the connection so far."""
        return PublisherCounters(max(self._connects - 1, 0), self._refused)

    def alive(self) -> bool:
        """Whether the thread does its rounds; a broker that is away does not count against it."""
        age_s = self._clock.monotonic_s() - self._beat_s
        return self._thread.is_alive() and age_s < _STUCK_AFTER_S

    # ---------------------------------------------------------------- the owner thread

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while self._stop_at_s is None:
            lasted_s = self._live()
            if self._stop_at_s is not None:
                break
            retry_s = FIRST_RETRY_S if lasted_s >= STABLE_AFTER_S else retry_s
            # Jitter, so that a hundred devices do not come back in the same moment.
            self._pause(retry_s * random.uniform(0.5, 1.0))  # noqa: S311
            retry_s = min(retry_s * 2.0, LAST_RETRY_S)

    def _live(self) -> float:
        """Hold one connection from its opening to its end; return the seconds it was up."""
        will = Message(self._status, OFFLINE.encode(), qos=1, retain=True)
        link = Link(
            self._access,
            self._client_id,
            self._clock,
            will=will,
            is_lasting=True,
            max_packet_bytes=MAX_RECEIVED_BYTES,
        )
        connection = self._connection = _Connection(link)
        try:
            link.open()
            while connection.loss is None and not self._is_done(connection):
                self._turn(connection)
        finally:
            link.close()
            self._connection = None
        now_s = self._clock.monotonic_s()
        if connection.loss is not None:
            self._troubles.lost(connection.loss, connection.up_since_s, now_s)
        self._put_back(connection)
        return now_s - connection.up_since_s if connection.up_since_s is not None else 0.0

    def _turn(self, connection: "_Connection") -> None:
        now_s = self._beat_s = self._clock.monotonic_s()
        if connection.link.is_connected:
            self._ask(connection)
            self._fill_window(connection)
            self._troubles.watch(connection.up_since_s, now_s)
            connection.check_progress(now_s)
            self._outbox.settle()
        acknowledged: list[int] = []
        for happening in connection.link.turn(connection.turn_s, self._wake):
            match happening:
                case Connected():
                    self._greet(connection, happening)
                case Acknowledged():
                    self._settle(connection, happening, acknowledged)
                case Subscribed(mid=mid, refusal=refusal):
                    self._meet_answer(connection.subscriptions.pop(mid, ""), refusal)
                case Received():
                    self._pass_on(happening)
                case Lost():
                    connection.loss = happening
        if acknowledged:
            self._outbox.done(*acknowledged)

    def _greet(self, connection: "_Connection", connected: Connected) -> None:
        connection.up_since_s = self._clock.monotonic_s()
        connection.window = max(min(MAX_IN_FLIGHT, connected.window), 1)
        connection.max_packet_bytes = connected.max_packet_bytes
        self._connects += 1
        self._troubles.connected(self._access.config, connection.up_since_s)
        with self._lock:
            self._asked.clear()
        self._ask(connection)
        with self._lock:  # figures of the past are of no use to anybody
            self._due = {t: m for t, m in self._due.items() if m.retain or m.qos}
        self._repeat_all()
        connection.has_backlog = self._outbox.counts().queued > 0

    def _ask(self, connection: "_Connection") -> None:
        """Bring the broker's subscriptions in line with who listens."""
        with self._lock:
            unwanted = self._asked - self._listeners.keys()
            wanted = [
                (name, qos) for name, (_, qos) in self._listeners.items() if name not in self._asked
            ]
            self._asked = set(self._listeners)
        for topic_filter in unwanted:
            connection.link.unsubscribe(topic_filter)
        for topic_filter, qos in wanted:
            mid = connection.link.subscribe(topic_filter, qos)
            if mid is not None:
                connection.subscriptions[mid] = topic_filter

    def _meet_answer(self, topic_filter: str, refusal: str | None) -> None:
        if refusal is not None:
            _log.warning(
                "broker refuses subscription topic=%s reason=%s; allow it in the broker's access "
                "list",
                topic_filter,
                refusal,
            )

    def _pass_on(self, received: Received) -> None:
        with self._lock:
            takers = [
                take
                for topic_filter, (take, _) in self._listeners.items()
                if topic_matches_sub(topic_filter, received.topic)
            ]
        for take in takers:
            take(received)

    def _meet_birth(self, received: Received) -> None:
        if not received.retain and received.payload == ONLINE.encode():
            _log.debug("home assistant has started")
            self._repeat_all()

    def _repeat_all(self) -> None:
        """Make every retained value due again; `online` last, when the others are right."""
        with self._lock:
            self._due |= self._newest
            self._due.pop(self._status, None)
            self._due[self._status] = Message(self._status, ONLINE.encode(), qos=1, retain=True)

    def _fill_window(self, connection: "_Connection") -> None:
        """Send what fits: newest values first, they are few; then events, in order."""
        if connection.is_leaving:
            return
        while connection.room > 0 and (message := self._next_due()) is not None:
            self._send(connection, message, None)
        room = connection.room_for_events
        if room > 0 and self._clock.monotonic_s() >= connection.events_from_s:
            entries = self._outbox.pending(room, connection.last_id)
            for entry in entries:
                connection.last_id = entry.id
                self._send(connection, entry.message, entry)
            if connection.has_backlog and not entries and not connection.in_flight:
                # Who follows events must not be left with the past: the state speaks last.
                connection.has_backlog = False
                self._repeat_all()

    def _next_due(self) -> Message | None:
        with self._lock:
            topic = next(iter(self._due), None)
            return None if topic is None else self._due.pop(topic)

    def _send(self, connection: "_Connection", message: Message, entry: Entry | None) -> None:
        if connection.is_too_large(message):
            self._refuse(message, entry, "larger than the broker's largest packet")
            return
        mid = connection.link.publish(message)
        if message.qos:
            connection.in_flight[mid] = _Sent(message, entry, self._clock.monotonic_s())

    def _settle(
        self, connection: "_Connection", answer: Acknowledged, acknowledged: list[int]
    ) -> None:
        sent = connection.in_flight.pop(answer.mid, None)
        if sent is None:
            return
        if sent.entry is not None:
            connection.event_window = min(connection.event_window + 1, MAX_IN_FLIGHT)
        if answer.refusal is None:
            if sent.entry is not None:
                acknowledged.append(sent.entry.id)
        elif answer.is_temporary and sent.entry is not None:
            connection.last_id = min(connection.last_id, sent.entry.id - 1)
            connection.events_from_s = self._clock.monotonic_s() + _QUOTA_PAUSE_S
        else:
            self._refuse(sent.message, sent.entry, answer.refusal)

    def _refuse(self, message: Message, entry: Entry | None, reason: str) -> None:
        self._refused += 1
        if entry is not None:
            self._outbox.refuse(entry.id, reason)
        first = message.topic not in self._refused_topics
        self._refused_topics.add(message.topic)
        _log.log(
            logging.WARNING if first else logging.DEBUG,
            "broker refuses topic=%s reason=%s; allow this device to write it in the broker's "
            "access list",
            message.topic,
            reason,
        )

    def _put_back(self, connection: "_Connection") -> None:
        """Make values due again that the broker did not acknowledge, unless newer ones are."""
        with self._lock:
            for sent in connection.in_flight.values():
                if sent.entry is None:
                    self._due.setdefault(sent.message.topic, sent.message)

    def _is_done(self, connection: "_Connection") -> bool:
        """On the way out: first what is left, then `offline`, then the end."""
        if self._stop_at_s is None:
            return False
        now_s = self._clock.monotonic_s()
        if not connection.link.is_connected or now_s >= self._stop_at_s:
            return True
        if connection.is_leaving:
            return not connection.in_flight
        connection.leave_at_s = connection.leave_at_s or (now_s + self._stop_at_s) / 2.0
        is_drained = not connection.in_flight and not self._due and not self._has_events(connection)
        if is_drained or now_s >= connection.leave_at_s:
            connection.is_leaving = True
            offline = Message(self._status, OFFLINE.encode(), qos=1, retain=True)
            self._send(connection, offline, None)
        return False

    def _has_events(self, connection: "_Connection") -> bool:
        return bool(self._outbox.pending(1, connection.last_id))

    def _pause(self, seconds: float) -> None:
        until_s = self._clock.monotonic_s() + seconds
        while self._stop_at_s is None and (left_s := until_s - self._clock.monotonic_s()) > 0:
            self._beat_s = self._clock.monotonic_s()
            self._wake.wait(left_s)


@dataclass(frozen=True, slots=True)
class _Sent:
    message: Message
    entry: Entry | None
    at_s: float


class _Connection:
    """What is known of one connection and ends with it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.loss: Lost | None = None
        self.up_since_s: float | None = None
        self.window = MAX_IN_FLIGHT
        self.event_window = 1
        self.max_packet_bytes: int | None = None
        self.in_flight: dict[int, _Sent] = {}
        self.subscriptions: dict[int, str] = {}
        self.last_id = 0
        self.events_from_s = 0.0
        self.has_backlog = False
        self.is_leaving = False
        self.leave_at_s: float | None = None

    @property
    def room(self) -> int:
        return self.window - len(self.in_flight)

    @property
    def room_for_events(self) -> int:
        events = sum(sent.entry is not None for sent in self.in_flight.values())
        return min(self.room, self.event_window - events)

    @property
    def turn_s(self) -> float:
        return min(_TURN_S, self.link.keepalive_s / 20.0 or _TURN_S)

    def is_too_large(self, message: Message) -> bool:
        """Whether the broker would end the connection over this, now and at every new try."""
        limit = self.max_packet_bytes
        # The fixed header, the topic's length, the message's id and no properties.
        size = len(message.topic.encode()) + len(message.payload) + 5 + 2 + 2 + 1
        return limit is not None and size > limit

    def check_progress(self, now_s: float) -> None:
        oldest = next(iter(self.in_flight.values()), None)
        limit_s = 2.0 * self.link.keepalive_s
        if self.link.is_frozen:
            self.link.drop(Lost("lost", "broker does not answer a ping"))
        elif oldest is not None and limit_s and now_s - oldest.at_s > limit_s:
            self.link.drop(Lost("lost", "broker acknowledges nothing"))


class _Troubles:
    """Tells the log about the broker once per change, not once per attempt."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._away_since_s: float | None = None
        self._attempts = 0

    def connected(self, config: MqttConfig, now_s: float) -> None:
        level = logging.DEBUG if "flapping" in self._told else logging.INFO
        if self._away_since_s is None:
            _log.log(level, "broker connected host=%s port=%d", config.host, config.tcp_port)
        else:
            away_s = now_s - self._away_since_s
            _log.log(level, "broker is back away_s=%.1f attempts=%d", away_s, self._attempts)
        self._away_since_s = None
        self._attempts = 0

    def watch(self, up_since_s: float | None, now_s: float) -> None:
        """Forget what was told once the connection holds."""
        if self._told and up_since_s is not None and now_s - up_since_s >= STABLE_AFTER_S:
            if "flapping" in self._told:
                _log.info("broker holds the connection again up_s=%.1f", now_s - up_since_s)
            self._told.clear()

    def lost(self, loss: Lost, up_since_s: float | None, now_s: float) -> None:
        if self._away_since_s is None:
            self._away_since_s = now_s
        self._attempts += 1
        if up_since_s is None:
            self._tell(loss.cause, "broker not reached: %s", loss)
        elif not self._told:
            self._told = {"unreachable"}  # what the loss says already
            _log.warning("broker lost: %s", loss)
        else:
            hint = Lost(loss.cause, loss.reason, loss.do or ONE_NAME_EACH)
            self._tell("flapping", "broker lost again within seconds: %s", hint)

    def _tell(self, cause: str, text: str, loss: Lost) -> None:
        level = logging.DEBUG if cause in self._told else logging.WARNING
        self._told.add(cause)
        _log.log(level, text, loss)
