"""Keeping the events of a fleet: any number of consumers share them, and a killed one loses none.

The consumers of a group share one subscription (MQTT 5): each event goes to one of them. It is
acknowledged when the database has it, not before; what a killed consumer had not yet acknowledged
the broker delivers again, to the consumer that comes back under the same name. An event that is
delivered twice is kept once.
"""

from collections.abc import Callable

from edge_runtime.clock import Clock
from edge_runtime.link import Access, Link, Received
from edge_runtime.subscriber import Subscriber
from fleet.event_store import EventStore, read_event
from transom.errors import ConfigurationError
from transom.messages import Topics

SESSION_S = 7 * 24 * 3600
"""How long the broker keeps what comes for a consumer that is away."""

_BATCH = 500


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
        if access.config.protocol != "5":
            raise ConfigurationError('shared subscriptions need mqtt.protocol = "5"')
        self.kept = 0
        self._store = store
        self._show: Callable[[int], None] = lambda _kept: None
        self._count: int | None = None
        self._subscriber = Subscriber(
            lambda: Link(
                access,
                f"transom-record-{group}-{name}",
                clock,
                is_lasting=True,
                session_expiry_s=SESSION_S,
                acknowledges=True,
            ),
            f"$share/{group}/{Topics(access.config.prefix, '+').event('+')}",
            clock,
            self._keep,
        )

    def end(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._subscriber.end()

    def run(self, show: Callable[[int], None], count: int | None = None) -> None:
        """Keep events until told to end, or until so many were kept.

        Args:
            show: Called with how many were kept, when there are more.
            count: After how many to end; None = never.

        Raises:
            TransomError: The broker refuses this client or is not there at the first try, or the
                database fails: what was not kept is delivered again after the next start.
        """
        self._show, self._count = show, count
        self._subscriber.run()

    def _keep(self, link: Link, received: list[Received]) -> bool:
        """Keep what came, then say so to the broker: in this order nothing can be lost."""
        for start in range(0, len(received), _BATCH):
            batch = received[start : start + _BATCH]
            self._store.keep([read_event(message) for message in batch])
            for message in batch:
                link.acknowledge(message)
            self.kept += len(batch)
            self._show(self.kept)
        return self._count is not None and self.kept >= self._count
