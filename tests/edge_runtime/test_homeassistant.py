import json
from typing import Any, get_args

import msgspec
import pytest

from edge_runtime.homeassistant import discovery
from tests.edge_runtime.golden import assert_golden
from transom.bundle import InputSpec, Manifest, TaskSpec
from transom.config import Config
from transom.messages import Diagnostics, EventType, ModelState

SQUARE = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]

# From Home Assistant's MQTT schemas: the root takes these keys and no others.
ROOT = {
    *("device", "origin", "components", "availability", "availability_mode"),
    *("availability_template", "availability_topic", "payload_available"),
    *("payload_not_available", "command_topic", "state_topic", "qos", "encoding"),
}
DEVICE = {
    *("identifiers", "connections", "configuration_url", "hw_version", "manufacturer", "model"),
    *("model_id", "name", "serial_number", "suggested_area", "sw_version", "via_device"),
}
ORIGIN = {"name", "sw_version", "support_url"}


def config(**more: Any) -> Config:
    raw: dict[str, Any] = {
        "device": "hall-pi",
        "mqtt": {"host": "broker.lan"},
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
                    {"name": "skylight", "device_class": "window", "polygon": SQUARE},
                ],
            },
            {
                "name": "garage",
                "source": "rtsp://cam.lan/stream2",
                "zones": [{"name": "gate", "device_class": "garage_door", "polygon": SQUARE}],
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


def test_uses_no_key_that_the_closed_schema_refuses() -> None:
    root = payload()
    assert set(root) <= ROOT
    assert set(root["device"]) <= DEVICE
    assert set(root["origin"]) <= ORIGIN


def test_every_component_has_a_platform_and_an_id_of_its_own() -> None:
    components = payload()["components"].values()
    ids = [component["unique_id"] for component in components]
    assert len(set(ids)) == len(ids)
    entities = [component["default_entity_id"] for component in components]
    assert len(set(entities)) == len(entities)
    for component in components:
        assert component["default_entity_id"].startswith(component["platform"] + ".")


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


def test_every_event_that_can_happen_is_announced() -> None:
    assert payload()["components"]["gate-event"]["event_types"] == list(get_args(EventType))


def test_only_zones_with_snapshots_have_an_image() -> None:
    images = [k for k, c in payload()["components"].items() if c["platform"] == "image"]
    assert images == ["front_door-snapshot"]


def test_the_update_entity_reads_the_model_topic_whose_keys_are_home_assistants() -> None:
    assert payload()["components"]["model"]["state_topic"] == "transom/hall-pi/model/state"
    known = {
        *("installed_version", "latest_version", "title", "release_summary", "release_url"),
        *("entity_picture", "in_progress", "update_percentage"),
    }
    assert set(ModelState.__struct_fields__) <= known


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
