"""Publishing: events until the broker has acknowledged them, the newest value of all the rest.

One thread of ours owns the connection. Others hand it messages and wake it; nothing else touches
the network. What is sent, and when, is up to `in_flight`.

With protocol 5 a refused message is known by its reason code. With 3.1.1 it is not: a broker that
may not pass an event on acknowledges it like any other, and the event is silently gone.
"""

import logging
import math
import random
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from paho.mqtt.client import topic_matches_sub

from edge_runtime.clock import Clock
from edge_runtime.in_flight import InFlight, Refusals
from edge_runtime.link import (
    Access,
    Acknowledged,
    Connected,
    Link,
    Received,
    Subscribed,
    Take,
)
from edge_runtime.loss import STABLE_AFTER_S, Lost, Troubles
from edge_runtime.newest_values import NewestValues
from edge_runtime.outbox import Outbox
from edge_runtime.wake import Wake
from transom.config import MqttConfig
from transom.errors import ConfigurationError
from transom.messages import OFFLINE, ONLINE, Message, Topics

_log = logging.getLogger(__name__)

MAX_RECEIVED_BYTES = 128 * 1024
"""A chunk of a bundle with its topic, and nothing larger: of what comes, hundreds may wait."""

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0

BETWEEN_BIRTHS_S = 5.0
"""Least time between two repetitions because Home Assistant says that it has started: anybody may
say so, and all retained values are many times what that costs."""

_TURN_S = 0.5
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
        refused_topics: Topics whose newest message it refused.
    """

    reconnects: int
    refused: int
    refused_topics: int


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
        renew: Reads password and certificates anew: those that a broker no longer takes may have
            been replaced, as certificates are every few months. None = they stay as they are.
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
        renew: Callable[[], Access] | None = None,
    ) -> None:
        self._wake = Wake()
        if tls is None and config.uses_tls:
            tls = ssl.create_default_context()
        self._access = Access(config, secret, tls)
        self._renew = renew
        self._client_id = topics.root.replace("/", "-")
        self._offline = Message(topics.status, OFFLINE.encode(), qos=1, retain=True)
        online = Message(topics.status, ONLINE.encode(), qos=1, retain=True)
        self._values = NewestValues(last=online)
        self._listeners: dict[str, tuple[Take, Literal[0, 1]]] = {}
        self._asked: set[str] = set()  # topic filters that the broker knows of, this connection
        if birth_topic is not None:
            self._listeners[birth_topic] = (self._meet_birth, 1)
        self._outbox = outbox
        self._clock = clock
        self._lock = threading.Lock()
        self._stop_at_s: float | None = None
        self._beat_s = clock.monotonic_s()
        self._connection: _Connection | None = None
        self._troubles = Troubles()
        self._connects = 0
        self._repeat_at_s: float | None = None
        self._repeated_s = -math.inf
        self._refusals = Refusals()
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
        self._values.put(message)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged, the outbox's that wait left aside."""
        connection = self._connection
        return len(self._values) + (0 if connection is None else len(connection.in_flight))

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
        # Until it is greeted, figures that are sent would be taken for some of before, and dropped.
        if connection is None or connection.up_since_s is None:
            return False
        return connection.link.is_connected

    @property
    def access(self) -> Access:
        """How the broker is reached, by what was read last."""
        return self._access

    def counters(self) -> PublisherCounters:
        """Return what became of the connection so far."""
        refusals = self._refusals
        return PublisherCounters(max(self._connects - 1, 0), refusals.count, refusals.topics)

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
            if not lasted_s:
                self._renew_access()
            retry_s = min(retry_s * 2.0, LAST_RETRY_S)

    def _renew_access(self) -> None:
        if self._renew is None:
            return
        try:
            self._access = self._renew()
        except ConfigurationError as error:  # they may be on the way
            _log.debug("mqtt password and certificates stay as they were reason=%s", error)

    def _live(self) -> float:
        """Hold one connection from its opening to its end; return the seconds it was up."""
        link = Link(
            self._access,
            self._client_id,
            self._clock,
            will=self._offline,
            is_lasting=True,
            max_packet_bytes=MAX_RECEIVED_BYTES,
        )
        connection = self._connection = _Connection(
            link, InFlight(link, self._values, self._outbox, self._refusals, self._clock)
        )
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
        connection.in_flight.give_back()
        return now_s - connection.up_since_s if connection.up_since_s is not None else 0.0

    def _turn(self, connection: "_Connection") -> None:
        now_s = self._beat_s = self._clock.monotonic_s()
        if connection.link.is_connected:
            self._ask(connection)
            self._repeat_where_due(now_s)
            if not connection.is_leaving:
                connection.in_flight.fill()
            self._troubles.watch(connection.up_since_s, now_s)
            connection.check_progress(now_s)
            self._outbox.settle()
        answers: list[Acknowledged] = []
        for happening in connection.link.turn(connection.turn_s, self._wake):
            match happening:
                case Connected():
                    self._greet(connection, happening)
                case Acknowledged():
                    answers.append(happening)
                case Subscribed(mid=mid, refusal=refusal):
                    self._meet_answer(connection.subscriptions.pop(mid, ""), refusal)
                case Received():
                    self._pass_on(happening)
                case Lost():
                    connection.loss = happening
        connection.in_flight.settle(answers)

    def _greet(self, connection: "_Connection", connected: Connected) -> None:
        now_s = self._clock.monotonic_s()
        self._connects += 1
        self._troubles.connected(self._access.config, now_s)
        with self._lock:
            self._asked.clear()
        self._ask(connection)
        self._values.drop_figures()
        self._values.repeat()
        connection.in_flight.begin(connected)
        connection.up_since_s = now_s

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
        is_birth = not received.retain and received.payload == ONLINE.encode()
        if is_birth and self._repeat_at_s is None:
            _log.debug("home assistant has started")
            self._repeat_at_s = self._repeated_s + BETWEEN_BIRTHS_S

    def _repeat_where_due(self, now_s: float) -> None:
        if self._repeat_at_s is not None and now_s >= self._repeat_at_s:
            self._repeat_at_s, self._repeated_s = None, now_s
            self._values.repeat()

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
        if connection.in_flight.is_drained or now_s >= connection.leave_at_s:
            connection.is_leaving = True
            connection.in_flight.send(self._offline)
        return False

    def _pause(self, seconds: float) -> None:
        until_s = self._clock.monotonic_s() + seconds
        while self._stop_at_s is None and (left_s := until_s - self._clock.monotonic_s()) > 0:
            self._beat_s = self._clock.monotonic_s()
            self._wake.wait(left_s)


class _Connection:
    """What is known of one connection and ends with it."""

    def __init__(self, link: Link, in_flight: InFlight) -> None:
        self.link = link
        self.in_flight = in_flight
        self.loss: Lost | None = None
        self.up_since_s: float | None = None
        self.subscriptions: dict[int, str] = {}
        self.is_leaving = False
        self.leave_at_s: float | None = None

    @property
    def turn_s(self) -> float:
        return min(_TURN_S, self.link.keepalive_s / 20.0 or _TURN_S)

    def check_progress(self, now_s: float) -> None:
        if self.link.is_frozen:
            self.link.drop(Lost("lost", "broker does not answer a ping"))
        elif self.in_flight.is_stalled(now_s):
            self.link.drop(Lost("lost", "broker acknowledges nothing"))
