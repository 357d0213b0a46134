"""A contact sensor as a zone's teacher: its changes label the pictures around them.

It knows only shut from not shut, so where a zone tells `ajar` from `open` its label leaves that
open. A change is known when its message comes, some time after the door moved; so the picture of
before is one of some seconds earlier, and the picture of after is one of some time later.
"""

import logging
from collections import deque
from typing import Any

from edge_runtime.complaints import Complaints
from edge_runtime.lessons import ZoneLessons
from edge_runtime.sample import SEPARATOR, Sample
from edge_runtime.seen import SampledZone, Seen, make_sample
from transom.errors import MessageError
from transom.messages import Contact, decode_any
from transom.tasks import CLOSED, UNKNOWN

_log = logging.getLogger(__name__)

BEFORE_S = 3.0
"""A picture this much older than the message shows what was before the change."""

OLDEST_S = 15.0
"""A picture older than this is not looked for: a still zone has one every ten seconds."""

AFTER_S = 1.5
"""From the message to the picture of after: a hand is still on the door before."""

DISAGREE_S = 30.0
"""How long camera and sensor may differ before that is told: the camera takes its time."""

BY = "contact"

_APART_S = 2.5
_REMEMBERED = 6
_OPEN_WORDS = ("on", "open", "opened")
_CLOSED_WORDS = ("off", "closed", "close")
_NOTHING = ("", "unknown", "unavailable", "none", "null", "offline", "online")


def read_contact(payload: bytes, topic: str) -> bool | None:
    """Return whether a sensor's payload says open; None where it says that it does not know.

    Understood are zigbee2mqtt (`{"contact": true}` is shut), ESPHome (`ON` is open) and Home
    Assistant (`on`, or `{"state": "on"}`), and the words open and closed in these places.

    Args:
        payload: What came.
        topic: Where, for the message.

    Raises:
        MessageError: It is none of these.

    Examples:
        >>> read_contact(b'{"contact": false, "battery": 97}', "zigbee2mqtt/door")
        True
    """
    said = decode_any(payload)
    if isinstance(said, dict) and isinstance(said.get("contact"), bool):
        return not said["contact"]
    word = _word(said.get("state", said.get("contact")) if isinstance(said, dict) else said)
    if word in _OPEN_WORDS:
        return True
    if word in _CLOSED_WORDS:
        return False
    if word in _NOTHING:
        return None
    raise MessageError(
        f'{topic}: must be like {{"contact": true}}, ON, OFF, open or closed, got '
        f"{payload[:60].decode('utf-8', 'replace')!a}"
    )


def _word(said: Any) -> str:
    if said is None:
        return ""
    return said.strip().lower() if isinstance(said, str) else "?"


class ContactTeacher:
    """What one zone's contact sensor says, teaches, and whether the camera agrees.

    Args:
        zone: The zone; it tells the class `closed`.
        lessons: What is taught.
        topic: Where the sensor speaks.
        is_inverted: Whether it says open where others say shut.
    """

    def __init__(
        self, zone: SampledZone, lessons: ZoneLessons, topic: str, *, is_inverted: bool
    ) -> None:
        self._zone = zone
        self._lessons = lessons
        self._topic = topic
        self._is_inverted = is_inverted
        self._is_open: bool | None = None
        self._changed_ns: int | None = None
        self._looks: deque[tuple[int, Sample]] = deque(maxlen=_REMEMBERED)
        self._differ_ns: int | None = None
        self._agrees: bool | None = None
        self._complaints = Complaints(_log)

    def hear(self, payload: bytes, now_ns: int, *, is_retained: bool) -> None:
        """Take in what the sensor says; what is retained says nothing of when it changed."""
        try:
            said = read_contact(payload, self._topic)
        except MessageError as error:
            self._complaints.say(
                "contact sensor is not understood", self._topic, error, now_ns / 1e9
            )
            return
        is_open = said if said is None else said != self._is_inverted
        before, self._is_open = self._is_open, is_open
        if is_open == before:
            return
        if before is not None and is_open is not None and not is_retained:
            self._teach(before, is_open, now_ns)
        self._changed_ns = now_ns

    def miss(self) -> None:
        """Take in that the sensor may have spoken and not been heard: the broker was away.

        What it says next may be of a change that was long ago, so that it is not known whose
        pictures are those of before.
        """
        self._is_open = None

    def look(self, seen: Seen) -> None:
        """Remember a look, as one that may turn out to have been the last before a change."""
        if not self._looks or seen.taken_ns - self._looks[-1][0] >= _APART_S * 1e9:
            self._looks.append((seen.taken_ns, make_sample(self._zone, seen, "taught")))

    def compare(self, state: str, now_ns: int) -> None:
        """Compare the zone's state with the sensor's; say once when they have differed for long."""
        if self._is_open is None or state == UNKNOWN:
            self._differ_ns, self._agrees = None, None
            return
        if (state != CLOSED) == self._is_open:
            if self._agrees is False:
                _log.info("camera and contact sensor agree again zone=%s", self._zone.name)
            self._differ_ns, self._agrees = None, True
            return
        self._differ_ns = now_ns if self._differ_ns is None else self._differ_ns
        if self._agrees is not False and now_ns - self._differ_ns >= DISAGREE_S * 1e9:
            self._agrees = False
            _log.warning(
                "camera and contact sensor disagree zone=%s camera=%s sensor=%s",
                self._zone.name,
                state,
                self.told().state,
            )

    def told(self) -> Contact:
        """Return what is published of it."""
        if self._is_open is None:
            return Contact(state="unknown")
        return Contact(state="open" if self._is_open else "closed", agrees=self._agrees)

    def _teach(self, before: bool, after: bool, now_ns: int) -> None:
        earliest_ns = now_ns - int(OLDEST_S * 1e9)
        if self._changed_ns is not None:  # what was before that change was of another state
            earliest_ns = max(earliest_ns, self._changed_ns + int(AFTER_S * 1e9))
        latest_ns = now_ns - int(BEFORE_S * 1e9)
        of_before = [look for look in self._looks if earliest_ns <= look[0] <= latest_ns]
        if of_before:
            taken_ns, sample = of_before[-1]
            self._lessons.keep(sample, taken_ns, self._label(before), BY)
        self._looks.clear()
        self._lessons.label(self._label(after), BY, now_ns + int(AFTER_S * 1e9))

    def _label(self, is_open: bool) -> str:
        if not is_open:
            return CLOSED
        return SEPARATOR.join(name for name in self._zone.classes if name != CLOSED)
