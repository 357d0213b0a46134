import contextlib
import json
import logging
import random
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.publish import multiple

from edge_runtime.clock import Clock
from edge_runtime.link import (
    Access,
    Acknowledged,
    Connected,
    Link,
    Received,
    Subscribed,
    read_access,
    read_tls,
)
from edge_runtime.loss import Called, why_unreachable
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import Outbox
from tests.edge_runtime.broker import Broker, make_certificates, wait_until
from tests.faults.proof import Proof
from transom.config import MqttConfig, OutboxConfig
from transom.messages import Message, Topics

TOPICS = Topics("transom", "hall-pi")
EVENT = TOPICS.event("front_door")
STATE = TOPICS.state("front_door")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    store = Outbox(tmp_path / "outbox.sqlite3", OutboxConfig())
    yield store
    store.close()


@pytest.fixture
def publish(outbox: Outbox) -> Iterator[Callable[..., Publisher]]:
    """Start publishers that end with the test."""
    started: list[Publisher] = []

    def start(config: MqttConfig, **more: Any) -> Publisher:
        more = {"secret": None, "clock": Clock()} | more
        publisher = Publisher(config, TOPICS, outbox, **more)
        publisher.start()
        started.append(publisher)
        return publisher

    yield start
    for publisher in started:
        publisher.stop(0.2)


def event(number: int) -> Message:
    return Message(EVENT, json.dumps({"event_id": str(number)}).encode())


def state(text: str, topic: str = STATE) -> Message:
    return Message(topic, text.encode(), retain=True)


def put(outbox: Outbox, publisher: Publisher, *numbers: int) -> None:
    for number in numbers:
        outbox.put(event(number), str(number))
    publisher.flush_events()


def event_ids(subscriber: Any) -> list[int]:
    return [int(payload["event_id"]) for payload in map(_json, subscriber.payloads(EVENT))]


def _json(payload: Any) -> Any:
    return json.loads(payload) if isinstance(payload, str) else payload


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_delivers_events_in_order_and_empties_the_outbox(
    protocol: str, tmp_path: Path, outbox: Outbox, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config(protocol=protocol))
        put(outbox, publisher, *range(100))
        wait_until(lambda: outbox.counts().queued == 0)
        wait_until(lambda: len(event_ids(subscriber)) == 100)
    assert event_ids(subscriber) == list(range(100))


def test_is_online_while_it_runs_and_offline_after_it_stops(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config())
        subscriber.wait_for(TOPICS.status, "online")
        publisher.stop(5.0)
        subscriber.wait_for(TOPICS.status, "offline")
        with broker.subscriber() as later:
            assert later.wait_for(TOPICS.status).payload == "offline"
            assert later.copies(TOPICS.status)[0].retain
    assert subscriber.payloads(TOPICS.status) == ["online", "offline"]


def test_sends_what_is_left_before_it_stops(
    tmp_path: Path, outbox: Outbox, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config())
        wait_until(lambda: publisher.is_connected)
        put(outbox, publisher, *range(60))
        publisher.send(state("closed"))
        publisher.stop(10.0)
        subscriber.wait_for(TOPICS.status, "offline")
        assert event_ids(subscriber) == list(range(60))
        assert subscriber.payloads()[-1] == "offline"
    assert outbox.counts().queued == 0


def test_a_process_that_dies_is_offline_by_its_last_will(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        with _events_program(broker, tmp_path / "store") as process:
            subscriber.wait_for(TOPICS.status, "online")
            process.kill()
        subscriber.wait_for(TOPICS.status, "offline")


def test_who_listens_gets_what_is_retained_and_again_after_an_outage_until_it_no_longer_listens(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    heard: list[Received] = []
    with Broker(tmp_path / "broker", persistence=True) as broker:
        publisher = publish(broker.config())
        publisher.listen("transom/hall-pi/command/+", heard.append)
        for topic, text in (("command/a", "first"), ("other", "not for us")):
            publisher.send(Message(f"transom/hall-pi/{topic}", text.encode(), retain=True))
        wait_until(lambda: any(message.payload == b"first" for message in heard))
        count = len(heard)
        broker.stop()
        broker.start()
        wait_until(lambda: any(message.retain for message in heard[count:]))

        publisher.ignore("transom/hall-pi/command/+")
        wait_until(lambda: "UNSUBSCRIBE" in broker.log())
        count = len(heard)
        publisher.send(Message("transom/hall-pi/command/a", b"second", retain=True))
        with broker.subscriber() as subscriber:
            subscriber.wait_for("transom/hall-pi/command/a", "second")
    assert {message.topic for message in heard} == {"transom/hall-pi/command/a"}
    assert b"second" not in [message.payload for message in heard[count:]]


def test_only_the_newest_value_of_a_topic_is_sent_after_an_outage(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    broker = Broker(tmp_path / "broker")
    publisher = publish(broker.config())
    for text in ("closed", "open", "ajar"):
        publisher.send(state(text))
    with broker:
        wait_until(lambda: publisher.is_connected)
        with broker.subscriber() as subscriber:
            assert subscriber.wait_for(STATE).payload == "ajar"


def test_values_and_discovery_come_back_to_a_broker_that_forgot_them(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    discovery = state("{}", "homeassistant/device/transom_hall-pi/config")
    with Broker(tmp_path / "broker") as broker:
        publisher = publish(broker.config())
        publisher.send(discovery)
        publisher.send(state("open"))
        wait_until(lambda: publisher.is_connected)
        broker.kill()
        wait_until(lambda: not publisher.is_connected)
        broker.start()
        with broker.subscriber() as subscriber:
            subscriber.wait_for(TOPICS.status, "online")
            topics = [copy.topic for copy in subscriber.copies()]
    assert topics[-3:] == [discovery.topic, STATE, TOPICS.status]
    assert publisher.counters().reconnects == 1


def test_the_newest_state_is_the_last_word_after_a_backlog(
    tmp_path: Path, outbox: Outbox, publish: Callable[..., Publisher]
) -> None:
    broker = Broker(tmp_path / "broker")
    for number in range(50):
        outbox.put(event(number), str(number))
    with broker, broker.subscriber() as subscriber:
        broker.freeze()  # so that both are there when it answers
        publisher = publish(broker.config())
        publisher.send(state("closed"))
        broker.thaw()
        wait_until(lambda: len(event_ids(subscriber)) == 50)
        wait_until(lambda: subscriber.copies()[-1].topic == TOPICS.status)
        topics = [copy.topic for copy in subscriber.copies()]
    assert topics.index(STATE) < topics.index(EVENT)
    assert topics[-2:] == [STATE, TOPICS.status]


@pytest.mark.parametrize(("payload", "again"), [("online", True), ("offline", False)])
def test_values_are_sent_again_when_home_assistant_starts(
    payload: str, again: bool, tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config())
        publisher.send(state("open"))
        subscriber.wait_for(TOPICS.status, "online")
        wait_until(lambda: "SUBACK to transom-hall-pi" in broker.log())
        broker.publish("homeassistant/status", payload)
        publisher.send(state("marker", "transom/hall-pi/marker"))
        subscriber.wait_for("transom/hall-pi/marker")
        if again:
            wait_until(lambda: subscriber.payloads(STATE) == ["open", "open"])
        else:
            assert subscriber.payloads(STATE) == ["open"]


def test_who_says_again_and_again_that_home_assistant_starts_is_not_answered_each_time(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config())
        publisher.send(state("open"))
        subscriber.wait_for(TOPICS.status, "online")
        wait_until(lambda: "SUBACK to transom-hall-pi" in broker.log())
        said = [("homeassistant/status", "online", 1, False)] * 500
        multiple(said, hostname="127.0.0.1", port=broker.port)
        publisher.send(state("marker", "transom/hall-pi/marker"))
        subscriber.wait_for("transom/hall-pi/marker")
        assert subscriber.payloads(STATE).count("open") <= 3


def test_what_is_said_of_now_does_not_wait_for_a_device_that_is_away(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    topic = TOPICS.correct("front_door")
    received: list[Received] = []
    with Broker(tmp_path / "broker") as broker:
        for said, subscriptions in (("closed", 2), ("open", 4)):
            publisher = publish(broker.config())
            publisher.listen(topic, received.append, qos=0)
            wait_until(
                lambda count=subscriptions: (  # type: ignore[misc]
                    broker.log().count("SUBACK to transom-hall-pi") == count
                )
            )
            if said == "closed":
                publisher.stop(5.0)
            broker.publish(topic, said)
        wait_until(lambda: received)
    assert [message.payload for message in received] == [b"open"]


def test_a_payload_of_a_command_is_no_start_of_home_assistant(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    topic = TOPICS.correct("front_door")
    received: list[Received] = []
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config())
        publisher.listen(topic, received.append, qos=0)
        publisher.send(state("open"))
        subscriber.wait_for(TOPICS.status, "online")
        wait_until(lambda: broker.log().count("SUBACK to transom-hall-pi") == 2)
        broker.publish(topic, "online")
        wait_until(lambda: received)
        publisher.send(state("marker", "transom/hall-pi/marker"))
        subscriber.wait_for("transom/hall-pi/marker")
        assert subscriber.payloads(STATE) == ["open"]


def test_an_event_that_the_broker_refuses_is_a_dead_letter(
    tmp_path: Path,
    outbox: Outbox,
    publish: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
    proof: Proof,
) -> None:
    claim = proof(2, "all events denied by the broker's access list (MQTT 5)", unit="brokers")
    access = ["topic write transom/hall-pi/status", "topic read #"]
    with Broker(tmp_path / "broker", access=access) as broker:
        publisher = publish(broker.config())
        put(outbox, publisher, 1, 2)
        wait_until(lambda: outbox.counts().refused == 2)
    assert outbox.counts().queued == 0
    assert publisher.counters().refused == 2
    letters = outbox.dead_letters()
    assert [letter.event_id for letter in letters] == ["1", "2"]
    assert letters[0].reason == "Not authorized"
    refusals = [r for r in caplog.records if EVENT in r.getMessage()]
    assert [r.levelno for r in refusals] == [logging.WARNING]
    claim.found("{kept} of 2 kept aside with the reason, one warning", kept=len(letters))


def test_a_refusal_is_over_when_the_broker_takes_the_topic_again(
    tmp_path: Path,
    outbox: Outbox,
    publish: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    access = ["topic write transom/hall-pi/status", "topic read #"]
    with Broker(tmp_path / "broker", access=access) as broker:
        publisher = publish(broker.config())
        put(outbox, publisher, 1, 2)
        wait_until(lambda: outbox.counts().refused == 2)
        assert publisher.counters().refused_topics == 1
        broker.stop()
        (broker.folder / "access").write_text("topic readwrite #\n")
        broker.start()
        put(outbox, publisher, 3)
        wait_until(lambda: publisher.counters().refused_topics == 0)
        wait_until(lambda: outbox.counts().queued == 0)
    assert (outbox.counts().refused, publisher.counters().refused) == (2, 2)
    said = [r.getMessage() for r in caplog.records if EVENT in r.getMessage()]
    assert said[-1] == f"broker takes topic again topic={EVENT}"


def test_protocol_3_1_1_warns_once_that_refusals_are_invisible(
    tmp_path: Path,
    outbox: Outbox,
    publish: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    access = ["topic write transom/hall-pi/status", "topic read #"]
    with Broker(tmp_path / "broker", access=access) as broker:
        publisher = publish(broker.config(protocol="3.1.1"))
        put(outbox, publisher, 1)
        wait_until(lambda: outbox.counts().queued == 0)
    assert outbox.counts().refused == 0
    assert [r.levelname for r in caplog.records if "3.1.1" in r.getMessage()] == ["WARNING"]


def test_a_message_too_large_for_the_broker_is_refused_and_the_next_ones_pass(
    tmp_path: Path,
    outbox: Outbox,
    publish: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = ["max_packet_size 2000"]
    with (
        Broker(tmp_path / "broker", options=options) as broker,
        broker.subscriber() as subscriber,
    ):
        outbox.put(Message(EVENT, b"x" * 3000), "large")
        publisher = publish(broker.config())
        put(outbox, publisher, 1)
        wait_until(lambda: event_ids(subscriber) == [1])
        wait_until(lambda: outbox.counts().queued == 0)
    assert [letter.event_id for letter in outbox.dead_letters()] == ["large"]
    assert publisher.counters().reconnects == 0
    assert "largest packet; let the broker take larger packets (mosquitto: max_pack" in caplog.text


def test_figures_that_were_too_large_are_no_longer_refused_when_they_fit(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker", options=["max_packet_size 2000"]) as broker:
        publisher = publish(broker.config())
        wait_until(lambda: publisher.is_connected)
        publisher.send(Message("transom/hall-pi/diagnostics", b"x" * 3000, qos=0))
        wait_until(lambda: publisher.counters().refused_topics == 1)
        publisher.send(Message("transom/hall-pi/diagnostics", b"x", qos=0))
        wait_until(lambda: publisher.counters().refused_topics == 0)
    assert publisher.counters().refused == 1


def test_never_has_more_than_its_window_unacknowledged(
    tmp_path: Path, outbox: Outbox, publish: Callable[..., Publisher]
) -> None:
    for number in range(100):
        outbox.put(event(number), str(number))
    with Broker(tmp_path / "broker") as broker:
        publish(broker.config())
        wait_until(lambda: outbox.counts().queued == 0)
    unanswered = most = 0
    for line in broker.log().splitlines():
        unanswered += "Received PUBLISH from transom-hall-pi" in line
        unanswered -= "Sending PUBACK to transom-hall-pi" in line
        most = max(most, unanswered)
    assert 1 <= most <= 15


@pytest.mark.parametrize("keepalive_s", [2, pytest.param(15, marks=pytest.mark.full_only)])
@pytest.mark.parametrize("is_busy", [False, True])
def test_notices_a_frozen_broker_within_two_keepalives(
    is_busy: bool,
    keepalive_s: int,
    tmp_path: Path,
    outbox: Outbox,
    publish: Callable[..., Publisher],
    proof: Proof,
) -> None:
    what = "with an event on its way" if is_busy else "idle"
    method = f"broker stopped (SIGSTOP), keepalive {keepalive_s} s, {what}"
    claim = proof(7, method, fast=int(keepalive_s == 2), unit="freezes")
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as subscriber:
        publisher = publish(broker.config(keepalive_s=keepalive_s))
        wait_until(lambda: publisher.is_connected)
        put(outbox, publisher, 1)
        wait_until(lambda: outbox.counts().queued == 0)
        broker.freeze()
        frozen_s = time.monotonic()
        if is_busy:
            put(outbox, publisher, 2)
        wait_until(lambda: not publisher.is_connected, 3.0 * keepalive_s)
        noticed_s = time.monotonic() - frozen_s
        assert noticed_s <= 2.0 * keepalive_s
        put(outbox, publisher, 3)
        broker.thaw()
        wait_until(lambda: outbox.counts().queued == 0, 20.0)
        wait_until(lambda: {1, 3} <= set(event_ids(subscriber)))
        assert is_busy == (2 in event_ids(subscriber))
    claim.found("noticed after {keepalives} keepalives", keepalives=noticed_s / keepalive_s)


@pytest.mark.parametrize("wanted_s", [0, 65535])
def test_a_broker_that_wants_few_pings_or_none_is_noticed_as_soon_when_it_freezes(
    wanted_s: int, publish: Callable[..., Publisher], proof: Proof
) -> None:
    claim = proof(
        7, f"broker that sets the keepalive to {wanted_s} s and then says no word more, ours 2 s",
        unit="freezes",
    )  # fmt: skip

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"\x20\x06\0\0\x03\x13" + struct.pack(">H", wanted_s))
            with contextlib.suppress(OSError):
                while self.request.recv(4096):
                    continue

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        publisher = publish(MqttConfig(host="127.0.0.1", port=port, keepalive_s=2))
        wait_until(lambda: publisher.is_connected)
        frozen_s = time.monotonic()
        wait_until(lambda: not publisher.is_connected, 6.0)
        noticed_s = time.monotonic() - frozen_s
        publisher.stop(0.2)
        server.shutdown()
    assert noticed_s <= 4.0
    claim.found("noticed after {keepalives} keepalives", keepalives=noticed_s / 2.0)


def test_asks_the_broker_to_keep_its_session_for_an_hour(publish: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        publish(MqttConfig(host="localhost", port=server.getsockname()[1]))
        client, _ = server.accept()
        with client:
            packet = client.recv(4096)
    flags, keepalive = packet[9], int.from_bytes(packet[10:12], "big")
    properties = packet[13 : 13 + packet[12]]
    assert flags & 0b10 == 0, "it must not ask for a clean start"
    assert keepalive == 15
    assert b"\x11" + (3600).to_bytes(4, "big") in properties


def test_what_came_while_it_was_away_is_delivered_to_its_session(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        links = []
        for _ in range(2):
            link = Link(Access(broker.config()), "hall", Clock(), is_lasting=True)
            link.open()
            heard = _hear(link, Connected)
            links.append(link)
            if len(links) == 1:
                link.subscribe("homeassistant/status")
                _hear(link, Subscribed)
                link.close()
                _publish(broker, "homeassistant/status", "online")
        received = heard + _hear(links[1], Received)
        assert [h.payload for h in received if isinstance(h, Received)] == [b"online"]
        links[1].close()


def _publish(broker: Broker, topic: str, payload: str) -> None:
    link = Link(Access(broker.config()), "somebody", Clock())
    link.open()
    _hear(link, Connected)
    link.publish(Message(topic, payload.encode()))
    _hear(link, Acknowledged)
    link.close()


def _hear(link: Link, kind: type) -> list[Any]:
    heard: list[Any] = []
    wait_until(lambda: heard.extend(link.turn(0.1)) or any(isinstance(h, kind) for h in heard))
    return heard


def test_stops_in_time_when_the_broker_is_frozen(
    tmp_path: Path, outbox: Outbox, publish: Callable[..., Publisher]
) -> None:
    with Broker(tmp_path / "broker") as broker:
        publisher = publish(broker.config())
        wait_until(lambda: publisher.is_connected)
        broker.freeze()
        put(outbox, publisher, 1)
        started_s = time.monotonic()
        publisher.stop(1.0)
        assert time.monotonic() - started_s < 2.5
        assert outbox.counts().queued == 1


# paho leaves a socket open whose handshake fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stops_in_time_while_a_broker_does_not_answer_the_tls_handshake(
    publish: Callable[..., Publisher],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10.0)
        port = silent.getsockname()[1]
        publisher = publish(MqttConfig(host="127.0.0.1", port=port, tls=True))
        with silent.accept()[0]:
            started_s = time.monotonic()
            publisher.stop(0.5)
            assert time.monotonic() - started_s < 1.0


def test_wrong_credentials_are_told_once_and_without_the_secret(
    tmp_path: Path, publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Broker(tmp_path / "broker", users={"hall": "right"}) as broker:
        publish(broker.config(username="hall"), secret="canary-secret")
        wait_until(lambda: broker.log().count("not authorised") >= 3, 15.0)
        wait_until(lambda: caplog.text.count("broker not reached") >= 3)
    told = [r for r in caplog.records if "broker not reached" in r.getMessage()]
    assert [r.levelname for r in told].count("WARNING") == 1
    assert "mqtt.password_file" in told[0].getMessage()
    assert "canary-secret" not in caplog.text


def test_right_credentials_connect(tmp_path: Path, publish: Callable[..., Publisher]) -> None:
    with Broker(tmp_path / "broker", users={"hall": "right"}) as broker:
        publisher = publish(broker.config(username="hall"), secret="right")
        wait_until(lambda: publisher.is_connected)


def test_an_unreachable_broker_is_told_once(
    tmp_path: Path, publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broker = Broker(tmp_path / "broker")
    publisher = publish(broker.config())
    wait_until(lambda: caplog.text.count("broker not reached") >= 3, 15.0)
    with broker:
        wait_until(lambda: publisher.is_connected, 15.0)
        wait_until(lambda: "broker is back" in caplog.text)
    told = [r.levelname for r in caplog.records if "broker not reached" in r.getMessage()]
    assert told.count("WARNING") == 1
    assert told[0] == "WARNING"


def test_tls_with_a_client_certificate_connects(
    tmp_path: Path, outbox: Outbox, publish: Callable[..., Publisher]
) -> None:
    made = make_certificates(tmp_path / "certificates")
    with (
        Broker(tmp_path / "broker", certificates=made, requires_certificate=True) as broker,
        broker.subscriber() as subscriber,
    ):
        config = broker.config(
            ca_file=str(made.authority),
            certificate_file=str(made.client),
            key_file=str(made.client_key),
        )
        publisher = publish(config, tls=read_tls(config, tmp_path / "transom.toml"))
        put(outbox, publisher, *range(50))
        wait_until(lambda: len(event_ids(subscriber)) == 50)
    assert event_ids(subscriber) == list(range(50))


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
@pytest.mark.parametrize("fault", ["of another authority", "for another host", "expired"])
def test_a_broker_that_is_another_hears_nothing_and_the_log_says_why(
    fault: str,
    tmp_path: Path,
    publish: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
    proof: Proof,
) -> None:
    claim = proof(16, f"a broker whose certificate is {fault}", unit="brokers")
    host = "elsewhere.lan" if fault == "for another host" else "localhost"
    made = make_certificates(tmp_path / "certificates", host, are_expired=fault == "expired")
    other = make_certificates(tmp_path / "other")
    trusted = other if fault == "of another authority" else made
    with Broker(tmp_path / "broker", certificates=made) as broker:
        config = broker.config(ca_file=str(trusted.authority))
        publisher = publish(config, tls=read_tls(config, tmp_path / "transom.toml"))
        wait_until(lambda: "broker not reached" in caplog.text)
        assert not publisher.is_connected
    expected = {
        "of another authority": "not trusted",
        "for another host": "Hostname mismatch",
        "expired": "has expired; renew it, if this machine's clock is right",
    }
    assert expected[fault] in caplog.text
    claim.found("no connection, and so no password and no message; the log says why")


def test_a_certificate_of_the_future_is_a_matter_of_this_machines_clock() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = 9, "certificate is not yet valid"
    loss = why_unreachable(error, MqttConfig(host="broker.lan"), Called())
    why = "certificate of broker.lan:8883 is not trusted: certificate is not yet valid"
    assert why in str(loss)
    assert loss.do == "set this machine's clock, which is behind: timedatectl status"


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
def test_a_certificate_that_is_replaced_is_used_without_a_restart(
    tmp_path: Path, publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    old, new = (make_certificates(tmp_path / name) for name in ("old", "new"))
    ours = make_certificates(tmp_path / "ours")
    ours.authority.write_bytes(old.authority.read_bytes())
    configuration = tmp_path / "transom.toml"
    with Broker(tmp_path / "broker", certificates=old) as broker:
        config = broker.config(ca_file=str(ours.authority))
        publisher = publish(
            config,
            tls=read_tls(config, configuration),
            renew=lambda: read_access(config, configuration),
        )
        wait_until(lambda: publisher.is_connected)
        broker.stop()
        for place, other in zip(astuple(old), astuple(new), strict=True):
            place.write_bytes(other.read_bytes())
        broker.start()
        wait_until(lambda: "not trusted" in caplog.text, 20.0)
        ours.authority.write_bytes(b"half of it")
        assert not publisher.is_connected
        ours.authority.write_bytes(new.authority.read_bytes())
        wait_until(lambda: publisher.is_connected, 20.0)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
def test_a_broker_that_wants_a_certificate_is_not_reached_without(
    tmp_path: Path, publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    made = make_certificates(tmp_path / "certificates")
    with Broker(tmp_path / "broker", certificates=made, requires_certificate=True) as broker:
        config = broker.config(ca_file=str(made.authority))
        publisher = publish(config, tls=read_tls(config, tmp_path / "transom.toml"))
        wait_until(lambda: "broker not reached" in caplog.text)
        assert not publisher.is_connected


def test_what_answers_but_is_no_broker_does_not_end_the_publisher(
    publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    class Web(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256)))

    with socketserver.TCPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        publisher = publish(MqttConfig(host="127.0.0.1", port=server.server_address[1]))
        wait_until(lambda: "broker not reached" in caplog.text)
        assert publisher.alive()
        publisher.stop(0.2)
        server.shutdown()


def test_is_not_alive_once_its_thread_has_stopped(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    publisher = publish(Broker(tmp_path / "broker").config())
    assert publisher.alive()
    publisher.stop(0.2)
    assert not publisher.alive()


def test_two_clients_with_one_name_are_told_so(
    tmp_path: Path, publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    with Broker(tmp_path / "broker") as broker:
        first = publish(broker.config())
        wait_until(lambda: first.is_connected)
        publish(broker.config())
        wait_until(lambda: "give each device its own name" in caplog.text)


def test_no_event_is_lost_by_killing_the_process_or_freezing_the_broker(tmp_path: Path) -> None:
    """A process accepts events and is killed at random moments; a ledger tells what it accepted."""
    store, accepted = tmp_path / "store", set[int]()
    dice = random.Random(7)
    with Broker(tmp_path / "broker") as broker, broker.subscriber(EVENT) as subscriber:
        for round_ in range(6):
            with _events_program(broker, store, first=round_ * 100_000) as process:
                assert process.stdout is not None
                for _ in range(dice.randrange(1, 60)):
                    accepted.add(int(process.stdout.readline()))
                if round_ % 3 == 2:
                    broker.freeze()
                process.kill()
                accepted |= {int(line) for line in process.stdout if line.endswith("\n")}
            broker.thaw()
        with _events_program(broker, store, first=999_999, count=1) as process:
            wait_until(lambda: 999_999 in event_ids(subscriber), 20.0)
            wait_until(lambda: accepted <= set(event_ids(subscriber)), 20.0)
            process.send_signal(signal.SIGKILL)
    received = event_ids(subscriber)
    copies = len(received) - len(set(received))
    assert len(accepted) > 20
    assert copies <= 15 * 7


_PROGRAM = """
import itertools, sys
from pathlib import Path
from edge_runtime.clock import Clock
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import Outbox
from transom.config import MqttConfig, OutboxConfig
from transom.messages import Message, Topics

port, store, first, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
topics = Topics("transom", "hall-pi")
outbox = Outbox(store / "outbox.sqlite3", OutboxConfig())
config = MqttConfig(host="127.0.0.1", port=port)
publisher = Publisher(config, topics, outbox, secret=None, clock=Clock())
publisher.start()
for number in range(first, first + count):
    outbox.put(Message(topics.event("front_door"), b'{"event_id": "%d"}' % number), str(number))
    publisher.flush_events()
    print(number, flush=True)
publisher._thread.join()
"""


def _events_program(
    broker: Broker, store: Path, first: int = 0, count: int = 100_000
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(broker.port), str(store), str(first), str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_message_too_large_to_be_of_use_never_comes_and_the_next_one_does(
    tmp_path: Path, publish: Callable[..., Publisher]
) -> None:
    topic = "transom/hall-pi/door/correct"
    with Broker(tmp_path / "broker") as broker:
        publisher = publish(broker.config())
        heard: list[Received] = []
        publisher.listen(topic, heard.append)
        wait_until(lambda: f"{topic} (QoS" in broker.log())
        payload = tmp_path / "payload"
        payload.write_bytes(b"x" * (8 << 20))
        command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic]
        subprocess.run([*command, "-f", payload], check=True)
        subprocess.run([*command, "-m", "open"], check=True)
        wait_until(lambda: heard)
        assert [received.payload for received in heard] == [b"open"]
        assert publisher.counters().reconnects == 0
