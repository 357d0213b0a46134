"""What users of Home Assistant copy: the blueprint and the card.

`make homeassistant` runs both in a real core.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.edge_runtime.test_homeassistant import config, payload
from transom.messages import EventType, ZoneEvent

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "home-assistant"
BLUEPRINT = FOLDER / "blueprints/automation/transom/left_open.yaml"
SELECTORS = {"entity", "device", "text", "action", "number", "boolean"}


class Input(yaml.YAMLObject):
    """What a blueprint leaves open: `!input NAME`."""

    yaml_tag = "!input"
    yaml_loader = yaml.SafeLoader

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def from_yaml(cls, loader: Any, node: Any) -> "Input":
        return cls(loader.construct_scalar(node))


@pytest.fixture(scope="module")
def blueprint() -> dict[str, Any]:
    return dict(yaml.safe_load(BLUEPRINT.read_text("utf-8")))


def inputs(part: Any) -> Iterator[str]:
    if isinstance(part, Input):
        yield part.name
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from inputs(inner)


def test_every_input_is_asked_for_and_used(blueprint: dict[str, Any]) -> None:
    asked = blueprint["blueprint"]["input"]
    body = {key: part for key, part in blueprint.items() if key != "blueprint"}
    assert set(inputs(body)) == set(asked)
    assert {next(iter(one["selector"])) for one in asked.values()} <= SELECTORS
    assert [name for name, one in asked.items() if not one.get("name")] == []


def test_the_blueprint_asks_for_entities_that_a_device_announces(blueprint: dict[str, Any]) -> None:
    asked = blueprint["blueprint"]["input"]
    domains = {
        found["domain"]
        for one in asked.values()
        if "entity" in one["selector"]
        for found in one["selector"]["entity"]["filter"]
    }
    assert domains == {"event", "image"}
    assert domains <= {one["platform"] for one in payload()["components"].values()}


def test_the_blueprint_knows_events_and_keys_that_there_are() -> None:
    text = BLUEPRINT.read_text("utf-8")
    told = set(re.findall(r"what == '(\w+)'", text))
    assert told == {"left_open", "closed"}
    assert told <= set(get_args(EventType))
    read = set(re.findall(r"to_state\.attributes\.(\w+)", text))
    assert read <= set(ZoneEvent.__struct_fields__)


def test_the_card_shows_entities_that_a_device_announces() -> None:
    card = yaml.safe_load((FOLDER / "card.yaml").read_text("utf-8"))
    announced = {one["default_entity_id"] for one in payload()["components"].values()}
    shown = set(re.findall(r"entity: (\S+)", (FOLDER / "card.yaml").read_text("utf-8")))
    assert card["type"] == "vertical-stack"
    assert shown
    assert shown <= announced


def test_the_page_names_entities_that_a_device_announces() -> None:
    page = (FOLDER.parent / "how-to" / "home-assistant.md").read_text("utf-8")
    named = set(re.findall(r"`((?:binary_sensor|sensor|event|image|update|button)\.\w+)`", page))
    announced = {one["default_entity_id"] for one in payload()["components"].values()}
    corrected = config().cameras[0].zones[1].name
    announced |= {one.replace(corrected, "front_door") for one in announced}
    assert named
    assert named <= announced
