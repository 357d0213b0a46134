"""What a device said under another name, at a real broker."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from edge_runtime.clock import Clock
from edge_runtime.conversation import Conversation
from edge_runtime.former_name import FormerNames
from edge_runtime.introduction import ToldFile, introduce
from edge_runtime.link import Access
from tests.edge_runtime.broker import Broker, free_port, wait_until
from tests.edge_runtime.conftest import tiny_manifest
from tests.edge_runtime.test_daemon import config_of
from tests.edge_runtime.test_page_run import configuration, running
from transom.config import Config, HomeAssistantConfig, MqttConfig
from transom.messages import Message, Topics

__all__ = ["configuration"]

PI, HALL = "transom/pi", "transom/hall"
SECRET = "secret"
DISCOVERY = "homeassistant/device/transom_{}/config"


@dataclass
class Way:
    """A broker that has accepted the device."""

    access: Access
    is_connected: bool = True


def renamed(config: Config, device: str = "hall", **mqtt: str) -> Config:
    changed = msgspec.structs.replace(config.mqtt, **mqtt)
    return msgspec.structs.replace(config, device=device, mqtt=changed)


def tell(
    state: Path, broker: Broker, config: Config, status: str = "offline", user: str | None = None
) -> None:
    """Leave at the broker what a device does that has said something of all and has stopped."""
    told = list(introduce(config, tiny_manifest(), ToldFile(state)))
    topics = Topics(config.mqtt.prefix, config.device)
    retained = {message.topic: message.payload.decode() for message in told}
    retained |= dict.fromkeys(ToldFile(state).ever().topics, "said")
    retained |= {topics.model_state: "{}", topics.status: status}
    for topic, payload in retained.items():
        if payload:
            broker.publish(topic, payload, retain=True, user=user, password=SECRET)


def retained(broker: Broker, user: str | None = None) -> set[str]:
    """The topics of what is retained at a broker."""
    with broker.subscriber(user=user, password=SECRET) as subscriber:
        broker.publish("all/said", "now", user=user, password=SECRET)
        subscriber.wait_for("all/said")
        return {copy.topic for copy in subscriber.copies() if copy.retain}


@contextmanager
def looking_after(config: Config, state: Path, access: Access) -> Iterator[Way]:
    way = Way(access)
    told = ToldFile(state)
    with FormerNames(config, told, way, Clock()):
        for _ in introduce(config, tiny_manifest(), told):
            pass
        yield way


def names(state: Path) -> Sequence[str]:
    return ToldFile(state).ever().roots


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_was_said_under_another_name_is_taken_back(tmp_path: Path, protocol: str) -> None:
    with Broker(tmp_path / "broker") as broker:
        config = config_of()
        tell(tmp_path, broker, config)
        assert {f"{PI}/status", f"{PI}/door/state", DISCOVERY.format("pi")} <= retained(broker)
        broker.publish("transom/pi2/status", "offline", retain=True)
        broker.publish(f"{PI}/model/desired", "{}", retain=True)
        new = renamed(config)
        with looking_after(new, tmp_path, Access(broker.config(protocol=protocol))):
            wait_until(lambda: names(tmp_path) == (HALL,))
        assert retained(broker) == {"transom/pi2/status", f"{PI}/model/desired"}
        assert not any(topic.startswith(PI) for topic in ToldFile(tmp_path).ever().topics)


def test_another_prefix_is_another_name_and_the_description_stays(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        config = config_of()
        tell(tmp_path, broker, config)
        new = renamed(config, "pi", prefix="transom/pi")
        tell(tmp_path, broker, new)
        with looking_after(new, tmp_path, Access(broker.config())):
            wait_until(lambda: names(tmp_path) == ("transom/pi/pi",))
        left = retained(broker)
        assert DISCOVERY.format("pi") in left
        assert all(one.startswith("transom/pi/pi/") for one in left - {DISCOVERY.format("pi")})
        assert "transom/pi/pi/door/state" in left


def test_a_description_below_another_prefix_of_home_assistant_is_taken_back(
    tmp_path: Path,
) -> None:
    with Broker(tmp_path / "broker") as broker:
        config = config_of()
        tell(tmp_path, broker, config, "online")
        new = msgspec.structs.replace(config, homeassistant=HomeAssistantConfig(prefix="ha"))
        with looking_after(new, tmp_path, Access(broker.config())):
            wait_until(lambda: DISCOVERY.format("pi") not in retained(broker))
            wait_until(lambda: DISCOVERY.format("pi") not in ToldFile(tmp_path).ever().topics)
        assert f"{PI}/door/state" in retained(broker)
        assert names(tmp_path) == (PI,)


def test_a_name_that_another_device_has_is_left_to_it_for_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Broker(tmp_path / "broker") as broker:
        config = config_of()
        tell(tmp_path, broker, config, "online")
        before, new = retained(broker), renamed(config)
        with looking_after(new, tmp_path, Access(broker.config())):
            wait_until(lambda: names(tmp_path) == (HALL,))
        assert "is let go name=transom/pi reason=another device has it" in caplog.text
        broker.publish(f"{PI}/status", "offline", retain=True)
        with looking_after(new, tmp_path, Access(broker.config())):
            pass
        assert retained(broker) == before


def test_a_name_that_another_device_takes_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_back: list[str] = []
    publish = Conversation.publish

    with Broker(tmp_path / "broker") as broker:

        def publish_late(talk: Conversation, message: Message) -> str | None:
            if not taken_back:
                broker.publish(f"{PI}/status", "online", retain=True)
            taken_back.append(message.topic)
            return publish(talk, message)

        config = config_of()
        tell(tmp_path, broker, config)
        before = retained(broker)
        monkeypatch.setattr(Conversation, "publish", publish_late)
        with looking_after(renamed(config), tmp_path, Access(broker.config())):
            wait_until(lambda: names(tmp_path) == (HALL,))
        assert taken_back == [DISCOVERY.format("pi")]  # it was under way
        assert retained(broker) == before - {DISCOVERY.format("pi")}


def test_a_name_of_which_the_broker_knows_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.former_name._HEAR_S", 0.2)
    with Broker(tmp_path / "broker") as broker:
        list(introduce(config_of(), tiny_manifest(), ToldFile(tmp_path)))
        with looking_after(renamed(config_of()), tmp_path, Access(broker.config())):
            wait_until(lambda: names(tmp_path) == (HALL,))
        assert retained(broker) == set()


@pytest.mark.parametrize(
    ("protocol", "reason"), [("5", "Not authorized"), ("3.1.1", "acknowledged, but nothing came")]
)
def test_what_may_not_be_taken_back_is_told_and_tried_at_the_next_start(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
    reason: str,
) -> None:
    access = ["user hall", "topic read transom/pi/#", "topic readwrite transom/hall/#"]
    access += ["user all", "topic readwrite #"]
    users = {"hall": SECRET, "all": SECRET}
    with Broker(tmp_path / "broker", users=users, access=access) as broker:
        config = config_of()
        tell(tmp_path, broker, config, user="all")
        before, new = retained(broker, "all"), renamed(config)
        hall = Access(broker.config(username="hall", protocol=protocol), SECRET)
        with looking_after(new, tmp_path, hall):
            wait_until(lambda: f"is left name=transom/pi reason={reason}" in caplog.text)
        assert retained(broker, "all") == before
        assert names(tmp_path) == (PI, HALL)
        with looking_after(new, tmp_path, Access(broker.config(username="all"), SECRET)):
            wait_until(lambda: names(tmp_path) == (HALL,))
        assert retained(broker, "all") == set()


def test_a_broker_that_cannot_be_reached_again_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    list(introduce(config_of(), tiny_manifest(), ToldFile(tmp_path)))
    nowhere = Access(MqttConfig(host="localhost", port=free_port()))
    with looking_after(renamed(config_of()), tmp_path, nowhere):
        wait_until(lambda: "are looked after later reason=localhost" in caplog.text)
    assert names(tmp_path) == (PI, HALL)


def test_the_daemon_takes_back_what_it_said_before_it_was_renamed(configuration: Path) -> None:
    with Broker(configuration.parent / "broker") as broker:
        text = configuration.read_text()
        text = text.replace('host = "localhost"', f'host = "localhost"\nport = {broker.port}')
        configuration.write_text(text)
        with running(configuration):
            wait_until(lambda: f"{PI}/door/state" in retained(broker))
        configuration.write_text(text.replace('device = "pi"', 'device = "hall"'))
        with broker.subscriber("homeassistant/#") as home, running(configuration, "hall"):
            wait_until(lambda: f"{HALL}/door/state" in retained(broker))
            home.wait_for(DISCOVERY.format("hall"))
            told = [(copy.topic, bool(copy.payload)) for copy in home.copies()]
        left = retained(broker)
    # Home Assistant gives the new entities the ids of the old ones only where those are gone.
    gone = told.index((DISCOVERY.format("pi"), False))
    assert gone < told.index((DISCOVERY.format("hall"), True))
    assert not any(topic.startswith(PI) for topic in left)
    assert {DISCOVERY.format("hall"), f"{HALL}/status"} <= left
