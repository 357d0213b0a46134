"""The workstation's connection to the broker: it publishes until acknowledged, over outages too."""

import secrets
import time
from collections import deque
from collections.abc import Iterator
from typing import Literal, Self

from edge_runtime.clock import Clock
from edge_runtime.link import Access, Acknowledged, Connected, Link, Received, Subscribed
from edge_runtime.loss import Lost
from transom.errors import TransomError
from transom.messages import Message

WINDOW = 20
"""Messages that may be unacknowledged."""

_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 15.0
_TURN_S = 0.25
_SILENCE_S = 30.0
_QUOTA_PAUSE_S = 1.0
_OVERHEAD_BYTES = 16
"""Of a packet, beside its topic and payload."""


class Session:
    """One conversation with a broker, from one thread.

    Args:
        access: The broker.
        clock: For deadlines.

    Attributes:
        outages: How often the connection was lost and is back: what was told meanwhile is missed.

    Raises:
        TransomError: The broker is not there, or refuses this client; on entering.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self.prefix = access.config.prefix
        self.outages = 0
        self._access = access
        self._clock = clock
        self._client_id = f"transom-fleet-{secrets.token_hex(4)}"
        self._filters: dict[str, Literal[0, 1]] = {}
        self._queue: deque[Message] = deque()
        self._in_flight: dict[int, Message] = {}
        self._received: deque[Received] = deque()
        self._asked: set[int] = set()
        self._window = WINDOW
        self._max_packet_bytes: int | None = None
        self._was_connected = False
        self._paused_until_s = 0.0
        self._link = Link(access, self._client_id, clock)

    def __enter__(self) -> Self:
        self._link.open()
        while not self._link.is_connected:
            self._turn(_TURN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def subscribe(self, topic_filter: str, qos: Literal[0, 1] = 1) -> None:
        """Ask for messages, and again after an outage; returns when the broker has said yes.

        Raises:
            TransomError: The broker refuses.
        """
        self._filters[topic_filter] = qos
        self._ask(topic_filter)
        while self._asked:
            self._turn(_TURN_S)

    def publish(self, message: Message) -> None:
        """Send a message as soon as the window allows.

        Raises:
            TransomError: It is larger than the broker takes.
        """
        size = len(message.topic) + len(message.payload) + _OVERHEAD_BYTES
        if self._max_packet_bytes is not None and size > self._max_packet_bytes:
            raise TransomError(
                f"{message.topic}: has {size:,} bytes, the broker takes "
                f"{self._max_packet_bytes:,}; raise its largest packet, or deploy with --url"
            )
        self._queue.append(message)

    @property
    def waiting(self) -> int:
        """Messages that the broker has not yet acknowledged."""
        return len(self._queue) + len(self._in_flight)

    def flush(self) -> Iterator[int]:
        """Send what is queued; yield how many are left, from time to time.

        Raises:
            TransomError: The broker refuses one of them.
        """
        while self.waiting:
            self._turn(_TURN_S)
            yield self.waiting

    def receive(self, within_s: float) -> Received | None:
        """Return the next message; None = none within the time. Sends what is queued meanwhile.

        Raises:
            TransomError: The broker refuses something.
        """
        until_s = self._clock.monotonic_s() + within_s
        while not self._received:
            left_s = until_s - self._clock.monotonic_s()
            if left_s < 0.0:
                return None
            self._turn(min(left_s, _TURN_S))
        return self._received.popleft()

    def retained(self, *topic_filters: str) -> dict[str, bytes]:
        """Return what is retained under topic filters, by topic.

        A mark of our own, published after the subscriptions, comes back when everything that was
        retained has come. QoS 0, because mosquitto holds 1,000 messages of QoS 1 ready for a
        client and drops the others, and a thousand devices retain more.

        Raises:
            TransomError: The broker refuses a subscription or the mark, or drops the mark.
        """
        mark = f"{self.prefix}/depot/mark-{secrets.token_hex(8)}"
        for topic_filter in topic_filters:
            self.subscribe(topic_filter, qos=0)
        self.subscribe(mark)
        self.publish(Message(mark, b"", qos=1))
        found: dict[str, bytes] = {}
        while (received := self.receive(_SILENCE_S)) is not None:
            if received.topic == mark:
                for topic_filter in (mark, *topic_filters):
                    del self._filters[topic_filter]
                    self._link.unsubscribe(topic_filter)
                return {topic: payload for topic, payload in found.items() if payload}
            found[received.topic] = received.payload
        raise TransomError(
            f"broker has not sent everything that it retains within {_SILENCE_S:.0f} s; allow this "
            f"user to read and write {self.prefix}/depot/#, and see the broker's log"
        )

    # ---------------------------------------------------------------- the connection

    def _turn(self, seconds: float) -> None:
        if self._link.is_frozen:
            self._link.drop(Lost("lost", "broker does not answer"))
        if self._link.is_connected:
            self._fill_window()
        for happening in self._link.turn(seconds):
            match happening:
                case Connected():
                    self._greet(happening)
                case Acknowledged():
                    self._settle(happening)
                case Subscribed(mid=mid, refusal=refusal):
                    self._asked.discard(mid)
                    if refusal is not None:
                        raise TransomError(
                            f"broker refuses a subscription ({', '.join(self._filters)}): "
                            f"{refusal}; allow this user to read it"
                        )
                case Received():
                    self._received.append(happening)
                case Lost():
                    self._come_back(happening)
                    return

    def _fill_window(self) -> None:
        if self._clock.monotonic_s() < self._paused_until_s:
            return
        while self._queue and len(self._in_flight) < self._window:
            message = self._queue.popleft()
            self._in_flight[self._link.publish(message)] = message

    def _greet(self, connected: Connected) -> None:
        self._window = max(min(WINDOW, connected.window), 1)
        self._max_packet_bytes = connected.max_packet_bytes
        self.outages += self._was_connected
        self._was_connected = True
        for topic_filter in self._filters:
            self._ask(topic_filter)

    def _ask(self, topic_filter: str) -> None:
        mid = self._link.subscribe(topic_filter, self._filters[topic_filter])
        if mid is not None:
            self._asked.add(mid)

    def _settle(self, answer: Acknowledged) -> None:
        message = self._in_flight.pop(answer.mid, None)
        if message is None or answer.refusal is None:
            return
        if answer.is_temporary:
            self._queue.appendleft(message)
            self._paused_until_s = self._clock.monotonic_s() + _QUOTA_PAUSE_S
            return
        raise TransomError(
            f"{message.topic}: broker refuses it: {answer.refusal}; allow this user to write it"
        )

    def _come_back(self, loss: Lost) -> None:
        """Connect again for as long as it takes; the first connection must stand at once."""
        if not self._was_connected or loss.cause in ("refused", "tls"):
            raise TransomError(str(loss))
        self._queue.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()
        self._asked.clear()
        retry_s = _FIRST_RETRY_S
        while not self._stands_again():
            time.sleep(retry_s)
            retry_s = min(retry_s * 2.0, _LAST_RETRY_S)

    def _stands_again(self) -> bool:
        self._link.close()
        self._link = Link(self._access, self._client_id, self._clock)
        self._link.open()
        while True:
            for happening in self._link.turn(_TURN_S):
                if isinstance(happening, Connected):
                    self._greet(happening)
                    return True
                if isinstance(happening, Lost):
                    if happening.cause in ("refused", "tls"):
                        raise TransomError(str(happening))
                    return False
