import json
from typing import Any, get_args

import msgspec
import pytest
from jinja2 import Environment

from edge_runtime.homeassistant import discovery
from tests.edge_runtime.golden import assert_golden
from tests.edge_runtime.homeassistant_schema import find_mistakes
from transom.config import Config
from transom.manifest import InputSpec, Manifest, TaskSpec
from transom.messages import (
    CameraProblem,
    Contact,
    Diagnostics,
    EventType,
    ModelState,
    Taught,
    Topics,
    ZoneEvent,
    ZoneState,
    encode,
    read_correction,
)

SQUARE = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]


def config(**more: Any) -> Config:
    raw: dict[str, Any] = {
        "device": "hall-pi",
        "mqtt": {"host": "broker.lan"},
        "samples": {},
        "cameras": [
            {
                "name": "hall",
                "source": "usb:0",
                "zones": [
                    {
                        "name": "front_door",
                        "polygon": SQUARE,
                        "left_open_after_s": 600,
                        "snapshot": True,
                    },
                    {
                        "name": "skylight",
                        "device_class": "window",
                        "polygon": SQUARE,
                        "correct": True,
                    },
                ],
            },
            {
                "name": "garage",
                "source": "rtsp://cam.lan/stream2",
                "zones": [
                    {
                        "name": "gate",
                        "device_class": "garage_door",
                        "polygon": SQUARE,
                        "contact": {"topic": "zigbee2mqtt/gate"},
                    }
                ],
            },
        ],
    }
    return msgspec.convert(raw | more, Config)


def manifest(*classes: str) -> Manifest:
    classes = classes or ("closed", "ajar", "open")
    task = TaskSpec(name="state", classes=classes, thresholds=(0.5,) * len(classes))
    return Manifest(
        name="home",
        sequence=3,
        created="2026-11-23T00:00:00Z",
        input=InputSpec(size=64),
        tasks=(task,),
        embedding=8,
        precision="int8",
        minimum_runtime="0.1.0",
    )


def payload(**more: Any) -> dict[str, Any]:
    return dict(json.loads(discovery(config(**more), manifest(), "1.2.3").payload))


def test_says_what_was_reviewed() -> None:
    message = discovery(config(), manifest(), "1.2.3")
    text = json.dumps(json.loads(message.payload), indent=1, ensure_ascii=False)
    assert_golden("homeassistant.txt", f"{message.topic}\n{text}\n")


def test_is_retained_and_sent_where_home_assistant_looks() -> None:
    message = discovery(config(homeassistant={"prefix": "ha"}), manifest(), "1.2.3")
    assert message.topic == "ha/device/transom_hall-pi/config"
    assert (message.retain, message.qos) == (True, 1)


def test_home_assistant_accepts_every_field() -> None:
    assert find_mistakes(payload()) == []


@pytest.mark.parametrize(
    ("component", "change", "mistake"),
    [
        (None, {"manufacturer": "Transom"}, "unknown key 'manufacturer'"),
        ("front_door", {"object_id": "door"}, "unknown key 'object_id'"),
        ("front_door", {"device_class": "shutter"}, "no device_class 'shutter'"),
        ("front_door", {"default_entity_id": "sensor.front_door"}, "no entity of binary_sensor"),
        ("front_door", {"state_topic": "transom/+/state"}, "is no topic"),
        ("front_door-state", {"state_class": "measurement"}, "an enum needs options"),
        ("front_door-event", {"device_class": "door"}, "no device_class 'door'"),
        ("front_door-event", {"event_types": []}, "event_types is missing"),
        ("front_door-snapshot", {"url_topic": "a"}, "exactly one"),
        ("camera-hall-problem", {"entity_category": "config"}, "cannot be of category config"),
        ("camera-hall-frame_age", {"unit_of_measurement": "fps"}, "has no unit 'fps'"),
        ("model", {"unique_id": "transom_hall-pi_front_door"}, "is taken"),
    ],
)
def test_a_field_that_home_assistant_would_refuse_is_found(
    component: str | None, change: dict[str, Any], mistake: str
) -> None:
    broken = payload()
    (broken if component is None else broken["components"][component]).update(change)
    assert any(mistake in found for found in find_mistakes(broken)), find_mistakes(broken)


def _published() -> dict[str, bytes]:
    """Return a payload of every topic that an entity reads."""
    topics = Topics("transom", "hall-pi")
    state = ZoneState(
        state="open", confidence=0.987, since="2026-11-23T12:00:00.000Z", model="home", sequence=3
    )
    event = ZoneEvent(
        event_id="a", event_type="left_open", state="open", previous="open",
        at="2026-11-23T12:00:00.000Z", time_synced=True, boot_id="b", monotonic_ns=1,
        confidence=0.987, latency_ms=12.5, open_s=600.0,
    )  # fmt: skip
    figures = Diagnostics(
        uptime_s=30.0, frame_age_s={"hall": 0.2, "garage": None}, fps={"hall": 5.0, "garage": 0.0},
        inference_ms=None, cpu_percent=12.5, rss_mb=90.0, queued_events=0, dropped_events=0,
        refused_events=1, refused_topics=1, reconnects=0,
    )  # fmt: skip
    found = {topics.diagnostics: encode(figures)}
    found[topics.model_state] = encode(_model_state())
    for zone in ("front_door", "skylight", "gate"):
        found |= {topics.state(zone): encode(state), topics.event(zone): encode(event)}
    for camera in ("hall", "garage"):
        found[topics.camera_problem(camera)] = encode(CameraProblem(problem=True, reason="dark"))
    return found


def _model_state() -> ModelState:
    return ModelState(installed_version="3", latest_version="3", title="home")


def _rendered(component: dict[str, Any], published: dict[str, bytes]) -> str:
    value = json.loads(published[component["state_topic"]])
    return Environment().from_string(component["value_template"]).render(value_json=value)


def test_every_template_makes_of_what_is_published_what_its_entity_takes() -> None:
    published = _published()
    for key, component in payload()["components"].items():
        if "value_template" not in component:
            continue
        value = _rendered(component, published)
        if component["platform"] == "binary_sensor":
            assert value in ("ON", "OFF", "None"), key
        elif component.get("device_class") == "enum":
            assert value in component["options"], key
        elif value != "None":
            assert float(value) >= 0.0, key


def test_events_and_the_update_are_what_their_entities_take() -> None:
    published, components = _published(), payload()["components"]
    event = json.loads(published[components["gate-event"]["state_topic"]])
    assert event["event_type"] in components["gate-event"]["event_types"]
    update = json.loads(published[components["model"]["state_topic"]])
    assert set(update) <= {
        *("installed_version", "latest_version", "title", "release_summary", "release_url"),
        *("entity_picture", "in_progress", "update_percentage"),
    }
    assert None not in (value for key, value in update.items() if key != "update_percentage")


def test_a_broker_that_refuses_is_an_alarm_that_is_shown_from_the_start_and_heals() -> None:
    alarm = payload()["components"]["diagnostics-refused"]
    assert alarm["device_class"] == "problem"
    assert "enabled_by_default" not in alarm
    published = _published()
    assert _rendered(alarm, published) == "ON"
    figures = json.loads(published[alarm["state_topic"]]) | {"refused_topics": 0}
    assert figures["refused_events"] == 1
    assert _rendered(alarm, {alarm["state_topic"]: json.dumps(figures).encode()}) == "OFF"


def test_zones_whose_names_extend_one_another_do_not_meet() -> None:
    zones = [{"name": name, "polygon": SQUARE} for name in ("front", "front_state", "front_event")]
    camera = {"name": "front", "source": "usb:0", "zones": zones}
    plain = [{"name": "front", "source": "usb:0", "zones": zones[:1]}]
    grown = len(payload(cameras=[camera])["components"]) - len(payload(cameras=plain)["components"])
    assert grown == 2 * 4


@pytest.mark.parametrize(
    ("state", "expected"),
    [("closed", "OFF"), ("ajar", "ON"), ("open", "ON"), ("unknown", "None")],
)
def test_the_binary_sensor_is_on_unless_closed_and_unknown_when_unknown(
    state: str, expected: str
) -> None:
    template = payload()["components"]["front_door"]["value_template"]
    expression = template.removeprefix("{{ ").removesuffix(" }}")
    assert eval(expression, {"value_json": type("State", (), {"state": state})}) == expected


def test_a_task_without_the_class_closed_has_no_binary_sensor() -> None:
    message = discovery(config(), manifest("up", "down"), "1.2.3")
    components = json.loads(message.payload)["components"]
    assert "front_door" not in components
    assert components["front_door-state"]["options"] == ["up", "down", "unknown"]


def test_a_zone_is_as_available_as_its_camera_and_what_reports_the_camera_is_not() -> None:
    root = payload()
    status = {"topic": "transom/hall-pi/status"}
    gate, problem = root["components"]["gate"], root["components"]["camera-garage-problem"]
    assert root["availability"] == [status]
    assert gate["availability"] == [status, {"topic": "transom/hall-pi/camera/garage/status"}]
    assert gate["availability_mode"] == "all"
    assert "availability" not in problem
    assert "availability" not in root["components"]["model"]
    assert "availability" not in root["components"]["front_door-event"]


@pytest.mark.parametrize(
    ("updates", "command"),
    [
        ({}, None),
        ({"updates": {"install": "at_once"}}, None),
        ({"updates": {"install": "when_asked"}}, "transom/hall-pi/model/install"),
    ],
)
def test_an_update_can_be_started_only_where_the_device_waits_for_that(
    updates: dict[str, Any], command: str | None
) -> None:
    told = payload(**updates)
    assert find_mistakes(told) == []
    assert told["components"]["model"].get("command_topic") == command


def test_every_event_that_can_happen_is_announced() -> None:
    assert payload()["components"]["gate-event"]["event_types"] == list(get_args(EventType))


def test_only_zones_with_snapshots_have_an_image() -> None:
    images = [k for k, c in payload()["components"].items() if c["platform"] == "image"]
    assert images == ["front_door-snapshot"]


def test_a_zone_that_may_be_corrected_has_a_button_for_what_it_takes() -> None:
    topic = "transom/hall-pi/skylight/correct"
    components = payload()["components"]
    buttons = {k: c for k, c in components.items() if c["platform"] == "button"}
    assert all(key.startswith("skylight-correct-") for key in buttons)
    presses = [c["payload_press"] for c in buttons.values()]
    assert presses == ["closed", "ajar", "open", "forget-last", "forget-all"]
    for button in buttons.values():
        assert button["command_topic"] == topic
        said = button["payload_press"].encode()
        assert read_correction(said, ("closed", "ajar", "open"), topic) == said.decode()


def test_the_buttons_of_a_zone_with_two_states_are_two() -> None:
    zone = {"name": "door", "polygon": SQUARE, "correct": True, "ajar_is_open": True}
    components = payload(cameras=[{"name": "hall", "source": "usb:0", "zones": [zone]}])
    presses = [c["payload_press"] for c in components["components"].values()
               if c["platform"] == "button"]  # fmt: skip
    assert presses == ["closed", "open", "forget-last", "forget-all"]


@pytest.mark.parametrize(
    ("taught", "expected"),
    [
        (None, "nothing"),
        (Taught(examples={"open": 1}, is_used=False, reason="few"), "few"),
        (Taught(examples={"open": 1, "closed": 2}, is_used=True), "used"),
    ],
)
def test_what_a_zone_was_taught_is_shown(taught: Taught | None, expected: str) -> None:
    state = ZoneState(
        state="open", confidence=0.9, since="2026-11-23T12:00:00.000Z", model="home", sequence=3,
        taught=taught,
    )  # fmt: skip
    sensor = payload()["components"]["skylight-taught"]
    assert _rendered(sensor, {sensor["state_topic"]: encode(state)}) == expected


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        (None, "None"),
        (Contact(state="open"), "None"),
        (Contact(state="open", agrees=True), "OFF"),
        (Contact(state="open", agrees=False), "ON"),
    ],
)
def test_a_sensor_with_which_the_camera_disagrees_is_a_problem(
    contact: Contact | None, expected: str
) -> None:
    state = ZoneState(
        state="closed", confidence=0.9, since="2026-11-23T12:00:00.000Z", model="home", sequence=3,
        contact=contact,
    )  # fmt: skip
    problem = payload()["components"]["gate-contact"]
    assert problem["device_class"] == "problem"
    assert _rendered(problem, {problem["state_topic"]: encode(state)}) == expected


def test_every_figure_that_is_published_has_a_sensor() -> None:
    templates = " ".join(c.get("value_template", "") for c in payload()["components"].values())
    for figure in Diagnostics.__struct_fields__:
        assert f"value_json.{figure}" in templates


def test_a_zone_whose_task_the_bundle_lacks_is_refused() -> None:
    camera = {
        "name": "hall",
        "source": "usb:0",
        "zones": [{"name": "a", "polygon": SQUARE, "task": "kind"}],
    }
    with pytest.raises(ValueError, match="zone a: task 'kind' is not in bundle home, which has"):
        discovery(config(cameras=[camera]), manifest(), "1.2.3")
