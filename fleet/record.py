"""Keeping the events of a fleet: any number of consumers share them, and a killed one loses none.

The consumers of a group share one subscription (MQTT 5): each event goes to one of them. It is
acknowledged when the database has it, not before; what a killed consumer had not yet acknowledged
the broker delivers again, to the consumer that comes back under the same name. An event that is
delivered twice is kept once.
"""

import os
from collections.abc import Callable

from edge_runtime.clock import Clock
from edge_runtime.link import (
    Access,
    Connected,
    Happening,
    Link,
    Lost,
    Received,
    Subscribed,
    wait_for_wake,
)
from fleet.event_store import EventStore, read_event
from transom.errors import ConfigurationError, TransomError
from transom.messages import Topics

SESSION_S = 7 * 24 * 3600
"""How long the broker keeps what comes for a consumer that is away."""

_BATCH = 500
_TURN_S = 0.5
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 30.0


class Recorder:
    """One consumer.

    Args:
        access: The broker.
        clock: For deadlines.
        store: Where events are kept.
        name: Of this consumer; the same one at each start, and no other's.
        group: Of the consumers that share the events.

    Attributes:
        kept: Events that came and are in the store.

    Raises:
        ConfigurationError: The broker is to be spoken to in MQTT 3.1.1.
    """

    def __init__(
        self, access: Access, clock: Clock, store: EventStore, name: str, group: str
    ) -> None:
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if access.config.protocol != "5":
            raise ConfigurationError('shared subscriptions need mqtt.protocol = "5"')
        self.kept = 0
        self._access = access
        self._clock = clock
        self._store = store
        self._client_id = f"transom-record-{group}-{name}"
        topic = Topics(access.config.prefix, "+").event("+")
        self._filter = f"$share/{group}/{topic}"
        self._is_ended = False

    def end(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._is_ended = True
        os.write(self._wake_writer, b"\0")

    def run(self, show: Callable[[int], None], count: int | None = None) -> None:
        """Keep events until told to end, or until so many were kept.

        Args:
            show: Called with how many were kept, when there are more.
            count: After how many to end; None = never.

        Raises:
            TransomError: The broker refuses this client or is not there at the first try, or the
                database fails: what was not kept is delivered again after the next start.
        """
        retry_s, was_connected = _FIRST_RETRY_S, False
        while not self._is_over(count):
            loss, connected = self._hold(show, count)
            was_connected |= connected
            if loss is None:
                return
            if not was_connected or loss.cause in ("refused", "tls") or loss.do:
                raise TransomError(str(loss))
            retry_s = _FIRST_RETRY_S if connected else min(2.0 * retry_s, _LAST_RETRY_S)
            wait_for_wake(self._wake_reader, retry_s)

    def _is_over(self, count: int | None) -> bool:
        return self._is_ended or (count is not None and self.kept >= count)

    def _hold(self, show: Callable[[int], None], count: int | None) -> tuple[Lost | None, bool]:
        """Hold one connection; return how it was lost, if it was, and whether it ever stood."""
        link = Link(
            self._access,
            self._client_id,
            self._clock,
            is_lasting=True,
            session_expiry_s=SESSION_S,
            acknowledges=True,
        )
        connected = False
        try:
            link.open()
            while not self._is_over(count):
                if link.is_frozen:
                    link.drop(Lost("lost", "broker does not answer"))
                happenings = link.turn(_TURN_S, self._wake_reader)
                self._keep(link, [h for h in happenings if isinstance(h, Received)], show)
                for happening in happenings:
                    if isinstance(happening, Lost):
                        return happening, connected
                    connected |= self._meet(link, happening)
        finally:
            link.close()
        return None, connected

    def _meet(self, link: Link, happening: Happening) -> bool:
        match happening:
            case Connected():
                link.subscribe(self._filter)
                return True
            case Subscribed(refusal=str(refusal)):
                raise TransomError(
                    f"broker refuses {self._filter}: {refusal}; allow this user to read it"
                )
        return False

    def _keep(self, link: Link, received: list[Received], show: Callable[[int], None]) -> None:
        """Keep what came, then say so to the broker: in this order nothing can be lost."""
        for start in range(0, len(received), _BATCH):
            batch = received[start : start + _BATCH]
            self._store.keep([read_event(message) for message in batch])
            for message in batch:
                link.acknowledge(message)
            self.kept += len(batch)
            show(self.kept)

    def __del__(self) -> None:
        for descriptor in (self._wake_reader, self._wake_writer):
            os.close(descriptor)
