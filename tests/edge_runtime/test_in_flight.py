"""What is sent over one connection, and what becomes of it by the broker's answer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.in_flight import InFlight, Refusals
from edge_runtime.link import Acknowledged, Connected
from edge_runtime.newest_values import NewestValues
from edge_runtime.outbox import Outbox
from edge_runtime.replay import ClipClock
from transom.config import OutboxConfig
from transom.messages import Message

STATE = "transom/hall-pi/front_door/state"
ONLINE = Message("transom/hall-pi/status", b"online", qos=1, retain=True)
QUOTA = "Quota exceeded"


class Wire:
    """Where a connection would be: keeps what is sent."""

    keepalive_s = 15

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def publish(self, message: Message) -> int:
        self.sent.append(message)
        return len(self.sent)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    store = Outbox(tmp_path / "outbox.sqlite3", OutboxConfig())
    yield store
    store.close()


class Sending:
    """A connection that has just been accepted, and what it sends from."""

    def __init__(self, outbox: Outbox) -> None:
        self.clock = ClipClock()
        self.wire: Any = Wire()
        self.values = NewestValues(ONLINE)
        self.refusals = Refusals()
        self.in_flight = InFlight(self.wire, self.values, outbox, self.refusals, self.clock)
        self.in_flight.begin(Connected(window=15, max_packet_bytes=None))

    def say(self, text: str) -> None:
        self.values.put(Message(STATE, text.encode(), qos=1, retain=True))
        self.in_flight.fill()

    def pass_s(self, seconds: float) -> None:
        self.clock.now_ns += int(seconds * 1e9)
        self.in_flight.fill()

    def answer(self, mid: int, refusal: str | None = None) -> None:
        temporary = refusal == QUOTA
        self.in_flight.settle([Acknowledged(mid, refusal, is_temporary=temporary)])

    def payloads(self) -> list[str]:
        return [message.payload.decode() for message in self.wire.sent]


def test_a_value_for_which_the_broker_has_no_room_now_is_sent_again(outbox: Outbox) -> None:
    sending = Sending(outbox)
    sending.say("closed")
    sending.answer(1, QUOTA)
    assert sending.refusals.topics == 1
    sending.pass_s(1.0)
    assert sending.payloads() == ["closed"]
    sending.pass_s(10.0)
    assert sending.payloads() == ["closed", "closed"]
    sending.answer(2)
    sending.pass_s(60.0)
    assert sending.payloads() == ["closed", "closed"]
    assert sending.refusals.topics == 0


def test_the_newest_value_is_the_last_word_also_after_one_was_put_off(outbox: Outbox) -> None:
    sending = Sending(outbox)
    sending.say("closed")
    sending.answer(1, QUOTA)
    sending.say("open")
    sending.answer(2)
    sending.pass_s(11.0)
    assert sending.payloads()[-1] == "open"


def test_a_value_that_the_broker_refuses_for_good_is_not_sent_again(outbox: Outbox) -> None:
    sending = Sending(outbox)
    sending.say("closed")
    sending.answer(1, "Not authorized")
    sending.pass_s(60.0)
    assert sending.payloads() == ["closed"]


def test_an_event_for_which_the_broker_has_no_room_now_waits_and_is_sent_again(
    outbox: Outbox,
) -> None:
    outbox.put(Message("transom/hall-pi/front_door/event", b"first"), "1")
    sending = Sending(outbox)
    sending.in_flight.fill()
    sending.answer(1, QUOTA)
    sending.pass_s(1.0)
    assert sending.payloads() == ["first"]
    sending.pass_s(10.0)
    assert sending.payloads() == ["first", "first"]
    sending.answer(2)
    assert outbox.counts().queued == outbox.counts().refused == 0


@pytest.mark.parametrize(
    "message",
    [
        Message("transom/hall-pi/samples/a1b2/0/0", b"picture"),  # that somebody has asked for
        Message("transom/hall-pi/0/state", b"", retain=True),  # of a zone that is no more
    ],
)
def test_what_will_never_be_taken_again_is_no_alarm_for_ever(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, message: Message
) -> None:
    sending = Sending(outbox)
    for number in range(1, 101):
        topic = message.topic.replace("/0", f"/{number}", 1)
        sending.values.put(replace(message, topic=topic))
        sending.in_flight.fill()
        sending.answer(number, "Not authorized")
    assert sending.refusals.count == 100
    assert sending.refusals.topics == 0
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
