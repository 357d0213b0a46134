"""What is said to zones of what they show: corrections, and their contact sensors.

It comes in other threads, is put aside, and is heard in a turn of the daemon.
"""

import itertools
import logging
from collections import deque
from collections.abc import Iterable

from edge_runtime.announcer import Broker
from edge_runtime.complaints import Complaints
from edge_runtime.link import Received
from edge_runtime.zone_watch import ZoneWatch
from transom.config import ZoneConfig
from transom.errors import MessageError
from transom.messages import Topics

_log = logging.getLogger(__name__)

_MOST_WAITING = 256
"""What waits for a turn; beyond it the oldest is forgotten."""

MOST_A_TURN = 16
"""What is heard in one: whoever sends faster than it is heard must not keep the daemon from looking
at doors."""


class ZoneMessages:
    """Hands what comes to the zones that it is for.

    Args:
        topics: The device's.
        zones: Each zone, and how it is configured.
    """

    def __init__(self, topics: Topics, zones: Iterable[tuple[ZoneConfig, ZoneWatch]]) -> None:
        self._topics = topics
        self._corrected: dict[str, ZoneWatch] = {}  # by topic
        self._contacts: dict[str, list[ZoneWatch]] = {}
        self._listened: set[str] = set()
        for config, zone in zones:
            topic = topics.correct(zone.name)
            self._corrected[topic] = zone
            if config.correct:
                self._listened.add(topic)
            if config.contact is not None:
                self._contacts.setdefault(config.contact.topic, []).append(zone)
        self._listened.update(self._contacts)
        self._waiting: deque[tuple[Received, str]] = deque(maxlen=_MOST_WAITING)
        self._complaints = Complaints(_log)
        self._broker: Broker | None = None
        self._reconnects = 0

    def listen(self, broker: Broker) -> None:
        """Have the broker's messages for zones put aside."""
        self._broker, self._reconnects = broker, broker.counters().reconnects
        for topic in self._listened:
            broker.listen(topic, lambda message: self._waiting.append((message, "mqtt")), qos=0)

    def correct(self, zone: str, payload: bytes, by: str) -> None:
        """Put a correction aside as if it had come by MQTT; from any thread.

        Args:
            zone: The zone's name.
            payload: As of `…/correct`.
            by: By which way it came.
        """
        self._waiting.append((Received(self._topics.correct(zone), payload, retain=False), by))

    def hear(self, now_ns: int) -> None:
        """Hand over what has come, some at a time; `now_ns` is monotonic."""
        self._meet_outage()
        for _ in range(min(len(self._waiting), MOST_A_TURN)):
            message, by = self._waiting.popleft()
            self._meet_outage()  # now: this may be the first that came after it
            self._hear(message, by, now_ns)

    def _meet_outage(self) -> None:
        """Tell zones once the broker is back that their sensors may have changed meanwhile."""
        before = self._reconnects
        if self._broker is not None:
            self._reconnects = self._broker.counters().reconnects
        if self._reconnects != before:
            for zone in itertools.chain.from_iterable(self._contacts.values()):
                zone.miss_contact()

    def _hear(self, message: Received, by: str, now_ns: int) -> None:
        for zone in self._contacts.get(message.topic, []):
            zone.hear_contact(message.payload, now_ns, is_retained=message.retain)
        corrected, now_s = self._corrected.get(message.topic), now_ns / 1e9
        if corrected is None:
            return
        if message.retain:
            why = "it says nothing of now"
            self._complaints.say("retained correction is not used", message.topic, why, now_s)
            return
        try:
            corrected.correct(message.payload, now_ns, by)
        except MessageError as error:
            self._complaints.say("correction is not used", message.topic, error, now_s)
