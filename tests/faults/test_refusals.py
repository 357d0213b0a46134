"""A broker that ends the connection over each event that it refuses, across a network."""

import json
import os
from pathlib import Path

import pytest

from edge_runtime.clock import Clock
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import Outbox
from tests.edge_runtime.broker import Broker, wait_until
from tests.faults.network import Cable
from tests.faults.proof import Proof
from transom.config import MqttConfig, OutboxConfig
from transom.messages import Message, Topics

TOPICS = Topics("transom", "hall-pi")
EVENT, REFUSED = TOPICS.event("front_door"), TOPICS.event("refused_door")
EVENTS, AT = 200, (5, 6)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks")
def test_an_event_over_which_the_broker_ends_the_connection_is_not_in_the_way_of_others(
    tmp_path: Path, proof: Proof
) -> None:
    """mosquitto does so with `max_queued_messages 0`: its answers may be lost with the rest."""
    claim = proof(2, "a broker that ends the connection over each refused event", unit="brokers")
    outbox = Outbox(tmp_path / "outbox.sqlite3", OutboxConfig())
    for number in range(EVENTS):
        topic = REFUSED if number in AT else EVENT
        outbox.put(Message(topic, b'{"event_id": "%d"}' % number), str(number))
    with Cable() as cable:
        with cable.at_broker():
            broker = Broker(
                tmp_path / "broker",
                access=("topic readwrite #", f"topic deny {REFUSED}"),
                options=("max_queued_messages 0",),
                address=cable.broker_address,
            )
            broker.start()
        config = MqttConfig(host=cable.broker_address, port=broker.port, tls=False)
        publisher = Publisher(config, TOPICS, outbox, secret=None, clock=Clock())
        try:
            with cable.at_broker(), broker.subscriber(EVENT) as subscriber:
                with cable.at_device():
                    publisher.start()

                def came() -> set[int]:
                    texts = map(str, subscriber.payloads(EVENT))
                    return {int(json.loads(text.replace("'", '"'))["event_id"]) for text in texts}

                wait_until(lambda: len(came()) == EVENTS - len(AT), 30.0)
                wait_until(lambda: outbox.counts().queued == 0)
        finally:
            publisher.stop(0.2)
            broker.kill()
    assert [letter.event_id for letter in outbox.dead_letters()] == [str(n) for n in AT]
    outbox.close()
    claim.found(
        "{kept} kept aside with the reason, {others} of {others} others came",
        kept=len(AT),
        others=EVENTS - len(AT),
    )
