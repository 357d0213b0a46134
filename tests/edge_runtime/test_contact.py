"""A contact sensor as teacher: what its payloads mean, which pictures it labels, disagreement."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.contact import AFTER_S, BEFORE_S, DISAGREE_S, read_contact
from edge_runtime.samples import SampleStore
from tests.edge_runtime.test_daemon import CLOSED, OPEN, Play, camera_config, config_of
from tests.edge_runtime.test_lessons import Commanded, say
from transom.bundle import Bundle, read_bundle
from transom.config import ContactConfig, SamplesConfig
from transom.errors import ConfigurationError, MessageError

TOPIC = "zigbee2mqtt/front_door"


@pytest.mark.parametrize(
    ("payload", "is_open"),
    [
        (b'{"battery":100,"contact":true,"linkquality":72,"voltage":3025}', False),  # zigbee2mqtt
        (b'{"contact":false,"tamper":false}', True),
        (b"ON", True),  # ESPHome's binary sensor
        (b"OFF", False),
        (b"on", True),  # Home Assistant's statestream
        (b"off", False),
        (b'"on"', True),
        (b'{"state": "on", "attributes": {"device_class": "door"}}', True),
        (b'{"state": "closed"}', False),
        (b"open", True),
        (b" Closed\n", False),
        (b"unavailable", None),
        (b'{"state": "unknown"}', None),
        (b'{"contact": null}', None),
        (b'{"battery": 3}', None),
        (b"", None),
    ],
)
def test_a_sensor_is_understood(payload: bytes, is_open: bool | None) -> None:
    assert read_contact(payload, TOPIC) is is_open


@pytest.mark.parametrize(
    "payload", [b"17", b"true", b"wide", b'{"contact": 1}', b"[]", b"\xff\xff", b'{"state": {}}']
)
def test_what_is_not_understood_is_named_with_its_topic(payload: bytes) -> None:
    with pytest.raises(MessageError, match=f"{TOPIC}: must be like"):
        read_contact(payload, TOPIC)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture(scope="module")
def door(scene: Any) -> Callable[[float, float], list[Any]]:
    drawn: dict[float, list[Any]] = {}

    def frames(brightness: float, seconds: float) -> list[Any]:
        if brightness not in drawn:
            drawn[brightness] = [scene(brightness, seed=i, height=120) for i in range(20)]
        return [drawn[brightness][i % 20] for i in range(round(seconds * 5))]

    return frames


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    opened = SampleStore(tmp_path / "samples.sqlite3", SamplesConfig())
    yield opened
    opened.close()


@pytest.fixture
def play(bundle: Bundle, play_list_camera: Any, store: SampleStore) -> Callable[..., Play]:
    def start(
        frames: list[Any], *, inverted: bool = False, after: Play | None = None, **more: Any
    ) -> Play:
        contact = ContactConfig(topic=TOPIC, inverted=inverted)
        config = config_of(
            camera_config(contact=contact, **more), samples=SamplesConfig(random_per_day=0.0)
        )
        before: dict[str, Any] = (
            {} if after is None else {"clock": after.clock, "beliefs": after.daemon.beliefs}
        )
        return Play(
            bundle, config, play_list_camera, frames, recorder_type=Commanded, samples=store,
            **before,
        )  # fmt: skip

    return start


def sensor(play: Play, payload: str, *, retain: bool = False) -> None:
    say(play, payload, topic=TOPIC, retain=retain)


def shown(store: SampleStore) -> dict[str, str]:
    """What each labelled picture shows to the network, by its label."""
    return {
        s.label or "": s.classes[s.probabilities.argmax()] for s in store.lessons("door", "state")
    }


def opened(play: Play, door: Any, *, after_s: float, **words: str) -> None:
    """A door that opens after ten seconds, and a sensor that says so some time later."""
    sensor(play, words.get("closed", '{"contact": true}'))
    play.turn(10 + after_s)
    sensor(play, words.get("open", '{"contact": false}'))
    play.turn(6)


@pytest.mark.parametrize("after_s", [0.2, 1.0, 2.0])
def test_a_change_labels_the_picture_before_and_the_one_after(
    play: Any, door: Any, store: SampleStore, after_s: float
) -> None:
    opened(play(door(CLOSED, 10) + door(OPEN, 20)), door, after_s=after_s)
    assert shown(store) == {"closed": "closed", "ajar|open": "open"}
    assert {s.labelled_by for s in store.lessons("door", "state")} == {"contact"}


def test_pictures_are_far_enough_from_the_message(play: Any, door: Any, store: SampleStore) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 20))
    opened(played, door, after_s=1.0)
    # Not when a picture was kept that looks the same, but when the one came that has the label.
    labels = {s.label: s.labelled_at or "" for s in store.lessons("door", "state")}
    second = {label: float(at[-7:-1]) for label, at in labels.items()}
    assert second["closed"] <= 11.0 - BEFORE_S
    assert 11.0 + AFTER_S <= second["ajar|open"] <= 11.0 + AFTER_S + 1.0


def test_a_zone_of_two_states_is_taught_both(play: Any, door: Any, store: SampleStore) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 20), ajar_is_open=True)
    opened(played, door, after_s=1.0)
    assert shown(store) == {"closed": "closed", "open": "open"}
    assert played.payloads("door/state")[-1]["taught"]["is_used"]


def test_a_zone_of_three_states_learns_from_a_label_that_leaves_two_of_them_open(
    play: Any, door: Any, store: SampleStore
) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 20))
    opened(played, door, after_s=1.0)
    taught = played.payloads("door/state")[-1]["taught"]
    assert taught["is_used"]
    assert taught["examples"] == {"closed": 1, "ajar|open": 1}


def test_an_inverted_sensor_means_the_opposite(play: Any, door: Any, store: SampleStore) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 20), inverted=True)
    opened(played, door, after_s=1.0, closed="ON", open="OFF")
    assert shown(store) == {"closed": "closed", "ajar|open": "open"}


def test_what_is_retained_or_repeated_labels_nothing(
    play: Any, door: Any, store: SampleStore
) -> None:
    played = play(door(CLOSED, 20))
    sensor(played, "OFF", retain=True)
    played.turn(6)
    sensor(played, "OFF")
    played.turn(3)
    sensor(played, "ON", retain=True)
    played.turn(3)
    sensor(played, "unavailable")
    sensor(played, "OFF")
    played.turn(4)
    assert store.counts().labelled == 0


def test_a_change_that_was_missed_in_an_outage_labels_nothing_when_it_is_told_again(
    play: Any, door: Any, store: SampleStore
) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 40))
    sensor(played, "OFF")
    played.turn(22)
    played.recorder.outages += 1
    sensor(played, "ON")  # as many sensors say once an hour; the door has been open for long
    played.turn(6)
    assert shown(store) == {}
    assert played.payloads("door/state")[-1]["contact"] == {"state": "open", "agrees": True}


def test_what_a_sensor_said_before_an_outage_is_not_held_against_the_camera_after_it(
    play: Any, door: Any
) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 100))
    sensor(played, "OFF")
    played.turn(9)
    assert played.payloads("door/state")[-1]["contact"] == {"state": "closed", "agrees": True}
    played.recorder.outages += 1
    played.turn(60)
    assert played.payloads("door/state")[-1]["contact"] == {"state": "unknown", "agrees": None}


def test_a_door_that_is_shut_again_at_once_is_not_labelled_open(
    play: Any, door: Any, store: SampleStore
) -> None:
    played = play(door(CLOSED, 10) + door(OPEN, 1) + door(CLOSED, 10))
    sensor(played, "OFF")
    played.turn(10.2)
    sensor(played, "ON")
    played.turn(1)
    sensor(played, "OFF")
    played.turn(6)
    assert shown(store) == {"closed": "closed"}


def test_a_sensor_that_speaks_another_language_is_one_warning(
    play: Any, door: Any, caplog: pytest.LogCaptureFixture
) -> None:
    played = play(door(CLOSED, 10))
    for _ in range(3):
        sensor(played, "42")
        played.turn(1)
    warnings = [r for r in caplog.records if "not understood" in r.message]
    assert [r.levelname for r in warnings if r.levelno >= 30] == ["WARNING"]


def test_disagreement_is_told_once_it_has_lasted_and_until_it_ends(
    play: Any, door: Any, caplog: pytest.LogCaptureFixture
) -> None:
    played = play(door(CLOSED, 60) + door(OPEN, 10))

    sensor(played, "ON", retain=True)
    played.turn(6)
    assert played.payloads("door/state")[-1]["contact"] == {"state": "open", "agrees": None}
    played.turn(DISAGREE_S - 8)
    assert played.payloads("door/state")[-1]["contact"]["agrees"] is None
    played.turn(10)
    assert played.payloads("door/state")[-1]["contact"] == {"state": "open", "agrees": False}
    assert caplog.text.count("camera and contact sensor disagree zone=door camera=closed") == 1
    told = len(played.payloads("door/state"))
    played.turn(10)
    assert len(played.payloads("door/state")) == told
    sensor(played, "OFF", retain=True)
    played.turn(1)
    assert played.payloads("door/state")[-1]["contact"] == {"state": "closed", "agrees": True}


def test_a_sensor_that_speaks_before_another_bundle_has_looked_does_not_speak_for_it(
    play: Any, door: Any
) -> None:
    first = play(door(CLOSED, 4))
    first.turn(4)
    second = play([None, *door(CLOSED, 4)], after=first)
    sensor(second, "OFF", retain=True)
    second.turn(4)
    told = [(s["contact"]["state"], set(s["tasks"])) for s in second.payloads("door/state")]
    assert told[0] == ("closed", set())
    assert told[1] == ("closed", {"state", "kind"})


def test_a_task_that_knows_no_closed_cannot_have_a_contact_sensor(play: Any, door: Any) -> None:
    with pytest.raises(ConfigurationError, match="zone door: contact needs a task with the class"):
        play(door(CLOSED, 1), task="kind")
