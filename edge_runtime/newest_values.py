"""The newest value of each topic, and which of them are due to be sent."""

import threading
from collections.abc import Iterable

from transom.messages import Message


class NewestValues:
    """All that is said of the present: a value replaces the one before. Safe in several threads.

    Args:
        last: What is sent after all others wherever they are repeated.
    """

    def __init__(self, last: Message) -> None:
        self._last = last
        self._lock = threading.Lock()
        self._retained: dict[str, Message] = {}  # in the order of their first value
        self._due: dict[str, Message] = {}

    def __len__(self) -> int:
        """Return how many are due."""
        return len(self._due)

    def put(self, message: Message) -> None:
        """Make a value due, in place of an older one of its topic."""
        with self._lock:
            if message.retain:
                self._retained[message.topic] = message
            self._due[message.topic] = message

    def next(self) -> Message | None:
        """Return the value that is due first, which then is so no longer; None = none is."""
        with self._lock:
            topic = next(iter(self._due), None)
            return None if topic is None else self._due.pop(topic)

    def put_back(self, messages: Iterable[Message]) -> None:
        """Make values due again that were sent in vain, unless newer ones are."""
        with self._lock:
            for message in messages:
                self._due.setdefault(message.topic, message)

    def repeat(self) -> None:
        """Make every retained value due again, the last one when the others are right."""
        with self._lock:
            self._due |= self._retained
            self._due.pop(self._last.topic, None)
            self._due[self._last.topic] = self._last

    def repeat_some(self, topics: Iterable[str]) -> None:
        """Make the retained values of these topics due again, as they are by now."""
        with self._lock:
            self._due |= {t: self._retained[t] for t in topics if t in self._retained}

    def drop_figures(self) -> None:
        """Forget what is due of QoS 0: figures of the past are of no use to anybody."""
        with self._lock:
            self._due = {t: m for t, m in self._due.items() if m.retain or m.qos}
