"""The workstation's connection to a broker."""

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.clock import Clock
from edge_runtime.link import Access, Acknowledged, read_tls
from edge_runtime.replay import ClipClock
from fleet.session import Session
from tests.edge_runtime.broker import Broker
from transom.config import MqttConfig
from transom.errors import TransomError
from transom.messages import Message


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
def test_tls_with_a_broker_that_has_none_says_what_may_be_meant(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        config = MqttConfig(host="127.0.0.1", port=broker.port, tls=True)
        access = Access(config, None, read_tls(config, tmp_path / "transom.toml"))
        with (
            pytest.raises(TransomError, match=r"that port has no TLS, .* mqtt\.tls = false"),
            Session(access, Clock()),
        ):
            pass


class Full:
    """A connection to a broker that has no room at first; each turn takes a tenth of a second."""

    is_frozen = False
    is_connected = True

    def __init__(self, clock: ClipClock, full_s: float) -> None:
        self._clock = clock
        self._full_s = full_s
        self._asked: list[int] = []
        self.sent = 0

    def publish(self, _message: Message) -> int:
        self.sent += 1
        self._asked.append(self.sent)
        return self.sent

    def turn(self, _seconds: float) -> list[Acknowledged]:
        self._clock.now_ns += 10**8
        is_full = self._clock.monotonic_s() < self._full_s
        asked, self._asked = self._asked, []
        return [Acknowledged(mid, "Quota exceeded" if is_full else None, is_full) for mid in asked]


def test_a_broker_without_room_is_not_asked_without_a_pause() -> None:
    clock = ClipClock()
    session = Session(Access(MqttConfig(host="localhost")), clock)
    link: Any = Full(clock, full_s=10.0)
    session._link = link
    session.publish(Message("transom/depot/a/0", b"chunk", retain=True))
    assert list(session.flush())[-1] == 0
    assert link.sent <= 12
