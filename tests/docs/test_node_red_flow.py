"""The flow to import into Node-RED holds together, and hears what a device says."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from playwright._impl._driver import compute_driver_executable

from transom.messages import EventType, Topics, ZoneEvent

FLOW = Path(__file__).resolve().parents[2] / "docs" / "node-red" / "left-open.json"
NODE = compute_driver_executable()[0]
"""Playwright brings one of its own."""

CORE = {"tab", "mqtt-broker", "mqtt in", "switch", "function", "debug"}
"""Nodes that every Node-RED has."""


@pytest.fixture(scope="module")
def nodes() -> dict[str, dict[str, Any]]:
    found = json.loads(FLOW.read_text("utf-8"))
    by_id = {node["id"]: node for node in found}
    assert len(by_id) == len(found)
    return by_id


def test_every_node_is_of_the_core_and_every_wire_leads_to_one(
    nodes: dict[str, dict[str, Any]],
) -> None:
    assert {node["type"] for node in nodes.values()} <= CORE
    for node in nodes.values():
        if node["type"] not in ("tab", "mqtt-broker"):
            assert nodes[node["z"]]["type"] == "tab"
            assert {end for output in node["wires"] for end in output} <= set(nodes)
            assert len(node["wires"]) == node.get("outputs", len(node["wires"]))


def test_it_hears_the_events_of_every_device(nodes: dict[str, dict[str, Any]]) -> None:
    (heard,) = [node for node in nodes.values() if node["type"] == "mqtt in"]
    assert heard["topic"] == Topics("transom", "+").event("+")
    assert nodes[heard["broker"]]["type"] == "mqtt-broker"
    assert "password" not in json.dumps(nodes)


def test_it_tells_apart_events_that_there_are(nodes: dict[str, dict[str, Any]]) -> None:
    rules = [rule["v"] for rule in nodes["transom-kind"]["rules"]]
    assert rules == ["left_open", "closed"]
    assert set(rules) <= set(get_args(EventType))
    read = set(re.findall(r"msg\.payload\.(\w+)", nodes["transom-text"]["func"]))
    assert read <= set(ZoneEvent.__struct_fields__)


def test_its_functions_say_in_words_what_has_happened(nodes: dict[str, dict[str, Any]]) -> None:
    message = {"topic": "transom/hall-pi/front_door/event", "payload": {"open_s": 615.0}}
    said = []
    for name in ("transom-text", "transom-closed"):
        script = f"const f = msg => {{ {nodes[name]['func']} }};"
        script += f"console.log(f({json.dumps(message)}).payload)"
        ran = subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True)
        said.append(ran.stdout.strip())
    assert said == ["front door has been open for 10 minutes", "front door is closed again"]
