"""What a device says in the course of a day, as files that another Python can read."""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from edge_runtime.homeassistant import discovery
from tests.edge_runtime.test_homeassistant import config, manifest
from transom.config import Config
from transom.messages import (
    OFFLINE,
    ONLINE,
    CameraProblem,
    Contact,
    Diagnostics,
    Message,
    ModelState,
    TaskAnswer,
    Taught,
    Topics,
    ZoneEvent,
    ZoneState,
    encode,
)

Said = dict[str, Any]
"""A message as JSON: topic, payload (base64), retain, qos."""


class Step(msgspec.Struct, kw_only=True):
    """A part of the day: what is said, and what must come of it.

    Attributes:
        name: For people.
        messages: What is published, in this order.
        states: What entities must say then, by entity id.
        phone: What the phone must have got then: keys of the newest notification, or None = nothing
            new.
    """

    name: str
    messages: list[Said]
    states: dict[str, str] = {}
    phone: dict[str, str] | None = None


class Story(msgspec.Struct, kw_only=True):
    """A device's discovery, and its day."""

    discovery: Any
    picture: str
    steps: list[Step]


def tell(picture: bytes) -> Story:
    """Return the day of a device with every kind of entity.

    Args:
        picture: JPEG, what the front door's snapshot shows.
    """
    updates = {"install": "when_asked"}
    device = msgspec.convert({**msgspec.to_builtins(config()), "updates": updates}, Config)
    message = discovery(device, manifest(), "1.2.3")
    return Story(
        discovery=msgspec.json.decode(message.payload),
        picture=base64.b64encode(picture).decode(),
        steps=list(_steps(Topics("transom", "hall-pi"), picture)),
    )


def _steps(topics: Topics, picture: bytes) -> Iterator[Step]:
    yield from _the_device_comes(topics, picture)
    yield from _a_door_is_left_open(topics)
    yield from _a_camera_goes(topics)


def _the_device_comes(topics: Topics, picture: bytes) -> Iterator[Step]:
    yield Step(
        name="a device that is not there is unavailable",
        messages=[_said(topics.status, OFFLINE)],
        states={
            "binary_sensor.front_door": "unavailable",
            "update.hall_pi_model": "unavailable",
        },
    )
    yield Step(
        name="a device that is there tells what it sees",
        messages=[
            _said(topics.status, ONLINE),
            *(_said(topics.camera_status(name), ONLINE) for name in ("hall", "garage")),
            _said(topics.camera_problem("hall"), CameraProblem(problem=False)),
            _said(topics.camera_problem("garage"), CameraProblem(problem=False)),
            _said(topics.state("front_door"), _state("closed")),
            _said(topics.state("skylight"), _state("unknown")),
            _said(topics.state("gate"), _state("ajar")),
            _said(topics.snapshot("front_door"), picture),
            _said(topics.model_state, _model()),
        ],
        states={
            "binary_sensor.front_door": "off",
            "sensor.front_door_state": "closed",
            "sensor.front_door_confidence": "99.1",
            "binary_sensor.skylight": "unknown",
            "sensor.skylight_state": "unknown",
            "sensor.skylight_taught": "few",
            "binary_sensor.gate": "on",
            "binary_sensor.gate_contact_disagrees": "on",
            "binary_sensor.hall_camera_problem": "off",
            "update.hall_pi_model": "on",
        },
    )  # fmt: skip
    yield Step(
        name="figures of the daemon come, and are not retained",
        messages=[_said(topics.diagnostics, _diagnostics(), retain=False)],
        states={
            "binary_sensor.hall_pi_throttled": "off",
            "binary_sensor.hall_pi_broker_refuses": "off",
        },
    )


def _a_door_is_left_open(topics: Topics) -> Iterator[Step]:
    for count in (1, 2):
        yield Step(
            name=f"a door that is left open is told to the phone, time {count}",
            messages=[
                *([_event(topics, "opened", None)] if count == 1 else []),
                _said(topics.state("front_door"), _state("open")),
                _event(topics, "left_open", 600.0 * count),
            ],
            states={"binary_sensor.front_door": "on", "sensor.front_door_state": "open"},
            phone={
                "title": "Front door is open",
                "message": f"For {10 * count} minutes.",
                "tag": "transom-event.front_door",
                "picture": "shown",
            },
        )
    yield Step(
        name="a device that comes back does not tell the phone again",
        messages=[_said(topics.status, OFFLINE), _said(topics.status, ONLINE)],
        states={"binary_sensor.front_door": "on"},
    )
    yield Step(
        name="a door that is closed takes the notification back",
        messages=[
            _event(topics, "closed", None),
            _said(topics.state("front_door"), _state("closed")),
        ],
        states={"binary_sensor.front_door": "off"},
        phone={"message": "clear_notification", "tag": "transom-event.front_door"},
    )


def _a_camera_goes(topics: Topics) -> Iterator[Step]:
    yield Step(
        name="a camera that is gone is unavailable, and its problem is told",
        messages=[
            _said(topics.camera_status("hall"), OFFLINE),
            _said(topics.camera_problem("hall"), CameraProblem(problem=True, reason="gone")),
        ],
        states={
            "binary_sensor.front_door": "unavailable",
            "binary_sensor.hall_camera_problem": "on",
            "binary_sensor.gate": "on",
        },
    )


def _said(topic: str, payload: bytes | str | msgspec.Struct, retain: bool = True) -> Said:
    if isinstance(payload, msgspec.Struct):
        payload = encode(payload)  # type: ignore[arg-type]
    data = payload.encode() if isinstance(payload, str) else payload
    message = Message(topic, data, qos=1, retain=retain)
    return {
        "topic": message.topic,
        "payload": base64.b64encode(message.payload).decode(),
        "retain": message.retain,
    }


def _state(state: str) -> ZoneState:
    return ZoneState(
        state=state,
        kind="door",
        confidence=0.0 if state == "unknown" else 0.991,
        since="2026-11-29T08:00:00.000Z",
        reason="unsure" if state == "unknown" else None,
        model="home",
        sequence=3,
        tasks={"state": TaskAnswer(name="closed", confidence=0.97)},
        taught=Taught(examples={"closed": 1}, is_used=False, reason="few"),
        contact=Contact(state="closed", agrees=False),
    )


def _event(topics: Topics, kind: Any, open_s: float | None) -> Said:
    event = ZoneEvent(
        event_id=f"{kind}-{open_s}",
        event_type=kind,
        state="closed" if kind == "closed" else "open",
        previous="open" if kind == "closed" else "closed",
        at="2026-11-29T08:10:00.000Z",
        time_synced=True,
        boot_id="00000000-0000-0000-0000-000000000000",
        monotonic_ns=1,
        confidence=0.99,
        latency_ms=12.0,
        open_s=open_s,
    )
    return _said(topics.event("front_door"), event, retain=False)


def _model() -> ModelState:
    return ModelState(
        installed_version="3",
        latest_version="4",
        title="home",
        in_progress=True,
        update_percentage=40,
    )


def _diagnostics() -> Diagnostics:
    return Diagnostics(
        uptime_s=60.0,
        frame_age_s={"hall": 0.1, "garage": None},
        fps={"hall": 5.0, "garage": 0.0},
        inference_ms=7.5,
        cpu_percent=4.0,
        rss_mb=120.0,
        temperature_c=48.5,
        throttled=0,
        queued_events=0,
        dropped_events=0,
        refused_events=0,
        reconnects=1,
        samples=12,
        sample_bytes=123456,
        labelled_samples=3,
        precision="int8",
        precision_why="the only one of this bundle",
    )
