"""The bundles that lie at the broker, and taking away what nobody will fetch any more.

Beside a bundle's chunks lies one small message that says how many there are. It comes first and
goes last, so that what a workstation has left behind in the middle is known without fetching it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from edge_runtime.clock import Clock, iso
from fleet.session import Session
from transom.errors import MessageError
from transom.messages import Message, Topics, decode, encode
from transom.updates import (
    DepotEntry,
    Desired,
    Install,
    cut,
    depot_topic,
    entry_topic,
    read_desired,
)

GRACE = timedelta(hours=6)
"""So long a bundle may lie there unwished for: its first wave is asked when all of it is there."""

_DESIRED = "/model/desired"


class Depot:
    """What is retained below `depot/`.

    Args:
        session: The broker.
        clock: For the age of what lies there.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def send(self, data: bytes, wish: Install, show: Callable[[float], None]) -> None:
        """Bring a bundle to the broker.

        Args:
            data: The file.
            wish: What devices will be asked for.
            show: Called with the share that is there, 0 to 1.

        Raises:
            TransomError: The broker does not take it.
        """
        entry = DepotEntry(
            name=wish.name,
            sequence=wish.sequence,
            chunks=wish.chunks,
            since=iso(self._clock.wall()),
        )
        topic = entry_topic(self._session.prefix, wish.digest)
        self._session.publish(Message(topic, encode(entry), qos=1, retain=True))
        for message in cut(data, self._session.prefix, wish.digest):
            self._session.publish(message)
        total = self._session.waiting
        for left in self._session.flush():
            show(1.0 - left / total)

    def remove(self, digest: str, chunks: int) -> None:
        """Take a bundle away, as soon as the window allows."""
        for chunk in range(chunks):
            self._session.publish(removal(depot_topic(self._session.prefix, digest, chunk)))
        self._session.publish(removal(entry_topic(self._session.prefix, digest)))

    def wishes(self) -> dict[str, Desired | None]:
        """Return what is desired by device; None = of a version that this one does not know.

        Raises:
            TransomError: The broker refuses something.
        """
        prefix = self._session.prefix
        found = self._session.retained(Topics(prefix, "+").model_desired)
        wishes: dict[str, Desired | None] = {}
        for topic, payload in found.items():
            if topic.endswith(_DESIRED):
                device = topic.split("/")[prefix.count("/") + 1]
                try:
                    wishes[device] = read_desired(payload, topic)
                except MessageError:
                    wishes[device] = None
        return wishes

    def tidy(self, grace: timedelta = GRACE) -> list[DepotEntry]:
        """Take away what no device is asked to install and has lain there; return what that was.

        Args:
            grace: How long a bundle may lie there unwished for.

        Raises:
            TransomError: The broker refuses something.
        """
        prefix = self._session.prefix
        any_desired = Topics(prefix, "+").model_desired
        found = self._session.retained(entry_topic(prefix, "+"), any_desired)
        entries: dict[str, DepotEntry] = {}
        wished: set[str] = set()
        for topic, payload in found.items():
            try:
                if topic.endswith("/bundle"):
                    digest = topic.split("/")[-2]
                    entries[digest] = decode(payload, DepotEntry, topic)
                elif isinstance(wish := read_desired(payload, topic), Install):
                    wished.add(wish.digest)
            except MessageError:
                return []  # of a version that this one does not know: it may wish for anything
        before = self._clock.wall() - grace
        stale = {
            digest: entry
            for digest, entry in entries.items()
            if digest not in wished and _moment(entry.since) <= before
        }
        for digest, entry in stale.items():
            self.remove(digest, entry.chunks)
        for _ in self._session.flush():
            continue
        return list(stale.values())


def _moment(since: str) -> datetime:
    """Return when a bundle was brought; long ago where there is no such day."""
    try:
        return datetime.fromisoformat(since)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def removal(topic: str) -> Message:
    """Return the message after which the broker retains nothing under a topic."""
    return Message(topic, b"", qos=1, retain=True)
