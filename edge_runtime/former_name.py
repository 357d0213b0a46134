"""What a device said under another name: taken back, where nobody has that name by now.

What is retained below another name of the device, or another prefix, would stay at the broker for
ever, and in Home Assistant as a device that never comes back. It is taken back over a connection of
its own: this device may not be allowed to write there any more, and there are brokers that end a
connection over that, which must not cost a state.

A card may have been copied, and the device of the other name be at work; or that name was given to
another. So its status is heard first, and listened to. Where it is not `offline`, it is another's:
that name is left alone, now and at every later start.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from edge_runtime.clock import Clock
from edge_runtime.conversation import Conversation
from edge_runtime.homeassistant import discovery_topic, discovery_topic_below
from edge_runtime.introduction import Told, ToldFile
from edge_runtime.link import Access, Link, Received
from transom.config import Config
from transom.messages import OFFLINE, Message, Topics

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_HEAR_S = 5.0
"""For what is retained to come once it is asked for."""
_ECHO_S = 2.0
"""For what was taken back last to come as it is heard by those who listen."""
_FIRST_S = 8.0
"""For the broker to be asked before anything else is said, at most."""
_JOIN_S = 0.2
_OF_ANOTHER = "another device has it"


class Way(Protocol):
    """The way to the broker; see `mqtt.Publisher`."""

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection and is not known to be gone."""

    @property
    def access(self) -> Access:
        """How it is reached."""


@dataclass(frozen=True)
class _Left:
    """What may have been left behind.

    Attributes:
        root: Where its topics begin.
        status: By which to see whether somebody else has that name; None = it is this device's.
        topics: What to take back, the status last.
    """

    root: str
    status: str | None
    topics: tuple[str, ...]

    def forget(self, told: ToldFile) -> None:
        """Have it remembered no more."""
        told.forget(self.topics, None if self.status is None else self.root)


class FormerNames:
    """Takes back what was said under other names, once, between entering and leaving.

    Args:
        config: The device's.
        told: What was told, and under which names.
        way: The broker; where it is not there at once, it is asked when it has accepted the device.
        clock: For time limits.
    """

    def __init__(self, config: Config, told: ToldFile, way: Way, clock: Clock) -> None:
        self._topics = Topics(config.mqtt.prefix, config.device)
        self._told = told
        self._way = way
        self._clock = clock
        self._left = tuple(_left_behind(config, told.ever()))
        self._is_ended = threading.Event()
        self._has_asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="former names", daemon=True)

    def __enter__(self) -> Self:
        if self._left:
            self._thread.start()
            # Before the device says who it is now: Home Assistant then gives the entities the ids
            # that the old ones had, by which automations know them.
            self._has_asked.wait(_FIRST_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        if self._left:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        has_answered = self._ask()
        self._has_asked.set()
        if has_answered:
            return
        while not self._way.is_connected:
            if self._is_ended.wait(_LOOK_S):
                return
        self._ask()

    def _ask(self) -> bool:
        """Look after all that is left; return whether the broker was there."""
        name = f"{self._topics.root.replace('/', '-')}-former"
        link = Link(self._way.access, name, self._clock)
        talk = Conversation(link, self._clock)
        try:
            has_begun = talk.begin()
            for left in self._left if has_begun else ():
                self._meet(left, talk)
        finally:
            link.close()
        if talk.loss is not None:
            _log.info("other names of the device are looked after later reason=%s", talk.loss)
        return has_begun

    def _meet(self, left: _Left, talk: Conversation) -> None:
        """Take back what is left of one name, and remember no more that it was told."""
        refusal = None if left.status is None else talk.subscribe(left.status)
        if refusal is None and left.status is not None:
            heard = talk.hear(lambda message: message.topic == left.status, _HEAR_S)
            if talk.loss is None and (heard is None or heard.payload != OFFLINE.encode()):
                self._let_go(left, _OF_ANOTHER if heard else "nothing is there that may be read")
                return
        for topic in left.topics:
            if refusal is not None or talk.loss is not None or self._is_ended.is_set():
                break
            if _is_taken(left, talk):
                self._let_go(left, _OF_ANOTHER)
                return
            refusal = talk.publish(Message(topic, b"", qos=1, retain=True))
        else:
            refusal = refusal or _why_still_there(left, talk)
            if refusal is None:
                _log.info("what was said under another name is taken back name=%s", left.root)
                left.forget(self._told)
        if refusal is not None and talk.loss is None:
            _log.warning(
                "what was said under another name is left name=%s reason=%s; allow this device to "
                "read and write it in the broker's access list",
                left.root,
                refusal,
            )

    def _let_go(self, left: _Left, why: str) -> None:
        _log.info("other name of the device is let go name=%s reason=%s", left.root, why)
        left.forget(self._told)


def _is_taken(left: _Left, talk: Conversation) -> bool:
    """Return whether another device has come meanwhile that has the name by now."""

    def has_come(message: Received) -> bool:
        return message.topic == left.status and message.payload != OFFLINE.encode()

    return talk.hear(has_come, 0.0) is not None


def _why_still_there(left: _Left, talk: Conversation) -> str | None:
    """Return why the status, which was taken back last, is still there; None where it is gone."""
    if left.status is None:
        return None
    return talk.why_not_heard(lambda said: said.topic == left.status and not said.payload, _ECHO_S)


def _left_behind(config: Config, ever: Told) -> Iterator[_Left]:
    """Yield what was told under other names, and for Home Assistant under another prefix."""
    here = Topics(config.mqtt.prefix, config.device)
    now = discovery_topic(config)

    def described(device: str) -> tuple[str, ...]:
        ends = discovery_topic_below("", device)
        return tuple(topic for topic in ever.topics if topic.endswith(ends) and topic != now)

    if elsewhere := described(here.device):
        yield _Left(here.root, None, elsewhere)
    for root in ever.roots:
        if root == here.root:
            continue
        prefix, _, device = root.rpartition("/")
        topics = Topics(prefix, device)
        below = tuple(
            topic
            for topic in ever.topics
            if topic.startswith(f"{root}/") and not topic.startswith(f"{here.root}/")
        )
        first = () if device == here.device else described(device)
        last = topics.model_state, topics.model_trusted, topics.status
        yield _Left(root, topics.status, (*first, *below, *last))
