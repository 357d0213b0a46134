"""What Home Assistant is told so that it shows the device without any setting up.

One retained message describes the device and all its entities (device-based discovery). Its root
is a closed schema: one key that Home Assistant does not know there, and the whole message is
dropped, so nothing is added here on a guess.

References:
    https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from edge_runtime.two_states import told_spec
from transom.config import CameraConfig, Config, UpdatesConfig, ZoneConfig
from transom.manifest import Manifest
from transom.messages import FORGET_ALL, FORGET_LAST, EventType, Message, Topics
from transom.tasks import CLOSED, UNKNOWN

Component = dict[str, Any]


def discovery(
    config: Config, manifest: Manifest, version: str, gone: Mapping[str, str] = MappingProxyType({})
) -> Message:
    """Return the discovery message of a device.

    Args:
        config: The device, its cameras and zones.
        manifest: Of the bundle that serves; its classes become the options of the state sensor.
        version: Of Transom.
        gone: Components that it had, their platform by their key: their entities are removed.

    Raises:
        ValueError: A zone asks for a task or classes that the bundle does not have.
    """
    device_id = _device_id(config)
    payload = {
        "device": {
            "identifiers": [device_id],
            "name": f"Transom {config.device}",
            "manufacturer": "Transom",
            "model": "Edge runtime",
            "sw_version": version,
        },
        "origin": {"name": "transom", "sw_version": version},
        "availability": [{"topic": _topics(config).status}],
        "qos": 1,
        "components": {
            **{key: {"platform": platform} for key, platform in gone.items()},
            **components(config, manifest),
        },
    }
    return Message(discovery_topic(config), msgspec.json.encode(payload), qos=1, retain=True)


def discovery_topic(config: Config) -> str:
    """Return where a device is described."""
    return discovery_topic_below(config.homeassistant.prefix, config.device)


def discovery_topic_below(prefix: str, device: str) -> str:
    """Return where a device of that name is described, below Home Assistant's prefix."""
    return f"{prefix}/device/transom_{device}/config"


def components(config: Config, manifest: Manifest) -> dict[str, Component]:
    """Return every entity of a device, each under a key of its own; see `discovery`."""
    device_id = _device_id(config)
    return {
        key: component | {"unique_id": f"{device_id}_{key}"}
        for key, component in _components(config, manifest)
    }


def _device_id(config: Config) -> str:
    return f"transom_{config.device}"


def _components(config: Config, manifest: Manifest) -> Iterator[tuple[str, Component]]:
    """Yield every entity under a key of its own.

    A hyphen stands between a name and what follows it, because no zone's name can hold one: the
    state of a zone `front` and a zone `front_state` must not meet.
    """
    topics = _topics(config)
    for camera in config.cameras:
        for zone in camera.zones:
            classes = told_spec(manifest, zone).classes
            yield from _zone_components(topics, camera, zone, classes)
        yield f"camera-{camera.name}-problem", _camera_problem(topics, camera)
        yield from _camera_figures(topics, camera)
    yield "model", _model(topics, config.updates)
    yield from _figures(topics)


def _zone_components(
    topics: Topics, camera: CameraConfig, zone: ZoneConfig, classes: tuple[str, ...]
) -> Iterator[tuple[str, Component]]:
    # A zone is as available as its camera; the camera's own entities are not in this list.
    shared: Component = {
        "availability": [{"topic": topics.status}, {"topic": topics.camera_status(camera.name)}],
        "availability_mode": "all",
    }
    state = shared | {"state_topic": topics.state(zone.name)}
    if CLOSED in classes:
        yield zone.name, _is_open(topics, zone, classes, state)
    yield f"{zone.name}-state", _state(zone, classes, state)
    yield f"{zone.name}-confidence", _confidence(zone, state)
    yield f"{zone.name}-event", _event(topics, zone)
    if zone.correct:
        yield from _corrections(topics, zone, classes, shared)
    if zone.correct or zone.contact is not None:
        yield f"{zone.name}-taught", _taught(zone, state)
    if zone.contact is not None:
        yield f"{zone.name}-contact", _contact(zone, state)
    if zone.snapshot:
        yield f"{zone.name}-snapshot", _snapshot(topics, zone)


def _is_open(
    topics: Topics, zone: ZoneConfig, classes: tuple[str, ...], state: Component
) -> Component:
    """Return the sensor that is off when closed, on when open in any way, else unknown."""
    answers = {name: "OFF" if name == CLOSED else "ON" for name in classes}
    return state | {
        "platform": "binary_sensor",
        "name": _title(zone.name),
        "default_entity_id": f"binary_sensor.{zone.name}",
        "device_class": zone.device_class,
        "value_template": f"{{{{ {answers!r}.get(value_json.state, 'None') }}}}",
        "json_attributes_topic": topics.state(zone.name),
    }


def _state(zone: ZoneConfig, classes: tuple[str, ...], state: Component) -> Component:
    return state | {
        "platform": "sensor",
        "name": f"{_title(zone.name)} state",
        "default_entity_id": f"sensor.{zone.name}_state",
        "device_class": "enum",
        "options": [*classes, UNKNOWN],
        "value_template": "{{ value_json.state }}",
    }


def _confidence(zone: ZoneConfig, state: Component) -> Component:
    return state | {
        "platform": "sensor",
        "name": f"{_title(zone.name)} confidence",
        "default_entity_id": f"sensor.{zone.name}_confidence",
        "entity_category": "diagnostic",
        "unit_of_measurement": "%",
        "state_class": "measurement",
        "value_template": "{{ (value_json.confidence * 100) | round(1) }}",
    }


def _event(topics: Topics, zone: ZoneConfig) -> Component:
    return {
        "platform": "event",
        "name": f"{_title(zone.name)} event",
        "default_entity_id": f"event.{zone.name}",
        "event_types": list(get_args(EventType)),
        "state_topic": topics.event(zone.name),
    }


def _snapshot(topics: Topics, zone: ZoneConfig) -> Component:
    return {
        "platform": "image",
        "name": f"{_title(zone.name)} last change",
        "default_entity_id": f"image.{zone.name}",
        "image_topic": topics.snapshot(zone.name),
        "content_type": "image/jpeg",
    }


def _corrections(
    topics: Topics, zone: ZoneConfig, classes: tuple[str, ...], shared: Component
) -> Iterator[tuple[str, Component]]:
    """Yield a button for each class, and those that take corrections back.

    Buttons, not a select: what somebody says is true now and once, and is no setting that stays.
    """
    title = _title(zone.name)
    names = {name: f"{title} is {name}" for name in classes} | {
        FORGET_LAST: f"{title} forget last correction",
        FORGET_ALL: f"{title} forget all corrections",
    }
    for said, name in names.items():
        key = said.replace("-", "_")
        yield (
            f"{zone.name}-correct-{key}",
            shared
            | {
                "platform": "button",
                "name": name,
                "default_entity_id": f"button.{zone.name}_correct_{key}",
                "entity_category": "config",
                "command_topic": topics.correct(zone.name),
                "payload_press": said,
            },
        )


def _taught(zone: ZoneConfig, state: Component) -> Component:
    return state | {
        "platform": "sensor",
        "name": f"{_title(zone.name)} taught",
        "default_entity_id": f"sensor.{zone.name}_taught",
        "entity_category": "diagnostic",
        "device_class": "enum",
        "options": ["nothing", "used", "few", "examples", "guard"],
        "value_template": (
            "{{ 'nothing' if not value_json.taught else value_json.taught.reason or 'used' }}"
        ),
    }


def _contact(zone: ZoneConfig, state: Component) -> Component:
    return state | {
        "platform": "binary_sensor",
        "name": f"{_title(zone.name)} contact disagrees",
        "default_entity_id": f"binary_sensor.{zone.name}_contact_disagrees",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "value_template": (
            "{{ {true: 'OFF', false: 'ON'}.get((value_json.contact or {}).get('agrees'), 'None') }}"
        ),
    }


def _camera_problem(topics: Topics, camera: CameraConfig) -> Component:
    return {
        "platform": "binary_sensor",
        "name": f"{_title(camera.name)} camera problem",
        "default_entity_id": f"binary_sensor.{camera.name}_camera_problem",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "state_topic": topics.camera_problem(camera.name),
        "value_template": "{{ 'ON' if value_json.problem else 'OFF' }}",
        "json_attributes_topic": topics.camera_problem(camera.name),
    }


def _camera_figures(topics: Topics, camera: CameraConfig) -> Iterator[tuple[str, Component]]:
    title, name = _title(camera.name), camera.name
    yield (
        f"camera-{name}-frame_age",
        _figure(
            topics,
            f"{title} frame age",
            f"{name}_frame_age",
            f"value_json.frame_age_s['{name}']",
            {"device_class": "duration", "unit_of_measurement": "s"},
        ),
    )
    yield (
        f"camera-{name}-fps",
        _figure(
            topics,
            f"{title} frames judged per second",
            f"{name}_fps",
            f"value_json.fps['{name}']",
            {"unit_of_measurement": "fps"},
        ),
    )


_FIGURES: Mapping[str, tuple[str, Component]] = {
    "uptime_s": ("Uptime", {"device_class": "duration", "unit_of_measurement": "s"}),
    "inference_ms": ("Inference", {"device_class": "duration", "unit_of_measurement": "ms"}),
    "cpu_percent": ("CPU", {"unit_of_measurement": "%"}),
    "rss_mb": ("Memory", {"device_class": "data_size", "unit_of_measurement": "MiB"}),
    "temperature_c": ("Temperature", {"device_class": "temperature", "unit_of_measurement": "°C"}),
    "queued_events": ("Queued events", {}),
    "dropped_events": ("Dropped events", {}),
    "refused_events": ("Refused events", {}),
    "reconnects": ("Broker reconnects", {}),
    "samples": ("Pictures to label", {}),
    "sample_bytes": (
        "Pictures to label size",
        {"device_class": "data_size", "unit_of_measurement": "B"},
    ),
    "labelled_samples": ("Labelled pictures", {}),
}

_WORDS: Mapping[str, tuple[str, str]] = {
    "precision": ("Precision", "value_json.precision or 'None'"),
    # Home Assistant refuses a state of more than 255 characters.
    "precision_why": ("Why this precision", "(value_json.precision_why or 'None')[:255]"),
}


def _figures(topics: Topics) -> Iterator[tuple[str, Component]]:
    for key, (title, details) in _FIGURES.items():
        name = f"{topics.device.replace('-', '_')}_{key}"
        yield f"diagnostics-{key}", _figure(topics, title, name, f"value_json.{key}", details)
    for key, (title, value) in _WORDS.items():
        name = f"{topics.device.replace('-', '_')}_{key}"
        word = _figure(topics, title, name, value, {})
        del word["state_class"]
        yield f"diagnostics-{key}", word
    yield (
        "diagnostics-throttled",
        _alarm(
            topics,
            "throttled",
            "'None' if value_json.throttled is none else 'ON' if value_json.throttled else 'OFF'",
        ),
    )
    # What the broker refuses is lost to everybody: that must be seen, not looked for. Once it takes
    # the topic again, all is well: how many were lost is told above.
    yield (
        "diagnostics-refused",
        _alarm(topics, "broker refuses", "'ON' if value_json.refused_topics else 'OFF'"),
    )


def _alarm(topics: Topics, what: str, value: str) -> Component:
    """Return a problem sensor of the diagnostics message."""
    name = f"{topics.device}_{what}".replace("-", "_").replace(" ", "_")
    return {
        "platform": "binary_sensor",
        "name": what.capitalize(),
        "default_entity_id": f"binary_sensor.{name}",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "state_topic": topics.diagnostics,
        "value_template": f"{{{{ {value} }}}}",
    }


def _figure(topics: Topics, title: str, name: str, value: str, details: Component) -> Component:
    """Return a sensor of the diagnostics message; `None` there is unknown here."""
    return {
        "platform": "sensor",
        "name": title,
        "default_entity_id": f"sensor.{name}",
        "entity_category": "diagnostic",
        "enabled_by_default": False,
        "state_class": "measurement",
        "state_topic": topics.diagnostics,
        "value_template": f"{{{{ {value} }}}}",
    } | details


def _model(topics: Topics, updates: UpdatesConfig | None) -> Component:
    is_started_here = updates is not None and updates.install == "when_asked"
    start = {"command_topic": topics.model_install, "payload_install": "install"}
    return (start if is_started_here else {}) | {
        "platform": "update",
        "name": "Model",
        "default_entity_id": f"update.{topics.device.replace('-', '_')}_model",
        "device_class": "firmware",
        "entity_category": "diagnostic",
        "state_topic": topics.model_state,
    }


def _topics(config: Config) -> Topics:
    return Topics(config.mqtt.prefix, config.device)


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").capitalize()
