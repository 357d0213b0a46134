"""What Home Assistant accepts in a device's discovery message, field by field.

Home Assistant drops a whole message over one key that it does not know, and an entity over one
wrong value; it tells neither to whoever sent it. So its rules are written down here, closed:
`find_mistakes` names whatever they do not allow.

References:
    https://github.com/home-assistant/core/tree/dev/homeassistant/components/mqtt (schemas.py,
    entity.py and the file of each platform; core 2026.9)
    https://developers.home-assistant.io/docs/core/entity/sensor/#available-device-classes
"""

import re
from collections.abc import Iterator
from typing import Any

_ROOT = {
    *("device", "origin", "components", "availability", "availability_mode"),
    *("availability_template", "availability_topic", "payload_available"),
    *("payload_not_available", "command_topic", "state_topic", "qos", "encoding"),
    "message_expiry_interval",
}
_DEVICE = {
    *("identifiers", "connections", "configuration_url", "hw_version", "manufacturer", "model"),
    *("model_id", "name", "serial_number", "suggested_area", "sw_version", "via_device"),
}
_ORIGIN = {"name", "sw_version", "support_url"}
_AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
_COMMON = {
    *("platform", "unique_id", "name", "default_entity_id", "availability", "availability_mode"),
    *("enabled_by_default", "entity_category", "icon", "json_attributes_topic"),
    *("json_attributes_template", "qos", "encoding", "entity_picture"),
}
_PLATFORMS = {
    "binary_sensor": {
        *("state_topic", "device_class", "expire_after", "force_update", "off_delay"),
        *("payload_off", "payload_on", "value_template"),
    },
    "sensor": {
        *("state_topic", "device_class", "expire_after", "force_update", "options"),
        *("last_reset_value_template", "state_class", "suggested_display_precision"),
        *("unit_of_measurement", "value_template"),
    },
    "event": {"state_topic", "device_class", "event_types", "value_template"},
    "image": {"image_topic", "url_topic", "url_template", "content_type", "image_encoding"},
    "update": {
        *("state_topic", "command_topic", "payload_install", "device_class", "display_precision"),
        *("latest_version_topic", "latest_version_template", "release_summary", "release_url"),
        *("retain", "title", "value_template"),
    },
    "button": {"command_topic", "command_template", "payload_press", "device_class", "retain"},
    "select": {
        *("command_topic", "command_template", "options", "state_topic", "value_template"),
        *("optimistic", "retain"),
    },
}
_NEEDED = {
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "image": set[str](),
    "update": set[str](),
    "button": {"command_topic"},
    "select": {"command_topic", "options"},
}
_DEVICE_CLASSES = {
    "binary_sensor": {
        *("battery", "door", "garage_door", "light", "lock", "motion", "moving", "occupancy"),
        *("opening", "power", "presence", "problem", "running", "safety", "tamper", "window"),
    },
    "event": {"button", "doorbell", "motion"},
    "update": {"firmware"},
    "button": {"identify", "restart", "update"},
}
_SENSOR_UNITS = {
    "duration": {"d", "h", "min", "s", "ms", "µs"},
    "temperature": {"°C", "°F", "K"},
    "data_size": {"bit", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB"},
    "timestamp": {None},
    "enum": {None},
}
_NO_CONFIG = {"binary_sensor", "sensor", "event", "image"}
_STATE_CLASSES = {"measurement", "total", "total_increasing"}
_ENTITY_ID = re.compile(r"[a-z_]+\.[a-z0-9]+(_[a-z0-9]+)*\Z")
_TOPIC = re.compile(r"[^+#\0]+\Z")


def find_mistakes(payload: dict[str, Any]) -> list[str]:
    """Return what Home Assistant would refuse in a discovery message, with where."""
    return [*_root_mistakes(payload), *_components_mistakes(payload.get("components", {}))]


def _root_mistakes(payload: dict[str, Any]) -> Iterator[str]:
    yield from _unknown("root", payload, _ROOT)
    for key in ("device", "origin", "components"):
        if key not in payload:
            yield f"root: {key} is missing"
    device, origin = payload.get("device", {}), payload.get("origin", {})
    yield from _unknown("device", device, _DEVICE)
    if not (device.get("identifiers") or device.get("connections")):
        yield "device: needs identifiers or connections"
    yield from _unknown("origin", origin, _ORIGIN)
    if not origin.get("name"):
        yield "origin: name is missing"
    if payload.get("qos", 0) not in (0, 1, 2):
        yield "root: qos must be 0, 1 or 2"
    yield from _availability_mistakes("root", payload)


def _components_mistakes(components: dict[str, Any]) -> Iterator[str]:
    seen: dict[str, set[str]] = {"unique_id": set(), "default_entity_id": set()}
    for key, component in components.items():
        if not re.fullmatch(r"[a-zA-Z0-9_-]+", key):
            yield f"{key}: a component's key takes letters, digits, _ and - only"
        if set(component) == {"platform"}:  # its entity is removed
            continue
        yield from _component_mistakes(key, component)
        for name, values in seen.items():
            if component.get(name) in values:
                yield f"{key}: {name} {component[name]} is taken"
            values.add(str(component.get(name)))


def _component_mistakes(key: str, component: dict[str, Any]) -> Iterator[str]:
    platform = component.get("platform")
    if platform not in _PLATFORMS:
        yield f"{key}: platform {platform!r} is not known here"
        return
    yield from _unknown(key, component, _COMMON | _PLATFORMS[platform])
    for needed in _NEEDED[platform] | {"unique_id", "name"}:
        if not component.get(needed):
            yield f"{key}: {needed} is missing"
    entity_id = component.get("default_entity_id", "")
    if not _ENTITY_ID.match(entity_id) or not entity_id.startswith(f"{platform}."):
        yield f"{key}: default_entity_id {entity_id!r} is no entity of {platform}"
    category = component.get("entity_category")
    if category not in (None, "config", "diagnostic"):
        yield f"{key}: entity_category {category!r}"
    if category == "config" and platform in _NO_CONFIG:
        yield f"{key}: a {platform} cannot be of category config"
    for name, value in component.items():
        if name.endswith("_topic") and not (isinstance(value, str) and _TOPIC.match(value)):
            yield f"{key}: {name} {value!r} is no topic"
    yield from _availability_mistakes(key, component)
    yield from _class_mistakes(key, platform, component)
    if platform == "image" and ("image_topic" in component) == ("url_topic" in component):
        yield f"{key}: exactly one of image_topic and url_topic"


def _class_mistakes(key: str, platform: str, component: dict[str, Any]) -> Iterator[str]:
    device_class = component.get("device_class")
    if platform != "sensor":
        if device_class is not None and device_class not in _DEVICE_CLASSES.get(platform, ()):
            yield f"{key}: {platform} has no device_class {device_class!r}"
        return
    unit, state_class = component.get("unit_of_measurement"), component.get("state_class")
    if device_class is not None and unit not in _SENSOR_UNITS.get(device_class, ()):
        yield f"{key}: device_class {device_class!r} has no unit {unit!r}"
    if state_class is not None and state_class not in _STATE_CLASSES:
        yield f"{key}: state_class {state_class!r}"
    if device_class == "enum" and (not component.get("options") or state_class or unit):
        yield f"{key}: an enum needs options, and takes neither unit nor state_class"
    if device_class != "enum" and "options" in component:
        yield f"{key}: options are for device_class enum"


def _availability_mistakes(where: str, part: dict[str, Any]) -> Iterator[str]:
    entries = part.get("availability", [])
    if "availability" in part and "availability_topic" in part:
        yield f"{where}: availability and availability_topic exclude each other"
    if part.get("availability_mode", "latest") not in ("all", "any", "latest"):
        yield f"{where}: availability_mode {part['availability_mode']!r}"
    for entry in entries:
        yield from _unknown(f"{where} availability", entry, _AVAILABILITY)
        if not _TOPIC.match(entry.get("topic", "")):
            yield f"{where}: availability topic {entry.get('topic')!r}"
    if part.get("expire_after") and entries:
        yield f"{where}: expire_after beside availability"


def _unknown(where: str, part: dict[str, Any], known: set[str]) -> list[str]:
    return [f"{where}: unknown key {key!r}" for key in part if key not in known]
