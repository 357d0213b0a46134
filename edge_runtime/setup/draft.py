"""What a setup has found out so far, and the configuration file that says it."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import tomlkit
from tomlkit.items import Array

from edge_runtime.setup.growing import grown
from transom.config import (
    CameraConfig,
    Config,
    MqttConfig,
)
from transom.crop import Image
from transom.errors import ConfigurationError
from transom.geometry import Zone
from transom.messages import DeviceClass
from transom.mistakes import find_mistakes

MQTT_PASSWORD = "mqtt-password"  # noqa: S105 - a file's name
"""What the unit loads as a credential."""

_DIGITS = 4
_WHOLE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@dataclass(frozen=True)
class DraftZone:
    """A door or window as it is proposed or was named.

    Attributes:
        name: In topics.
        device_class: What Home Assistant shows it as.
        zone: Where it is.
        sureness: Of the network that it is one, 0 to 1; None = a person says so.
    """

    name: str
    device_class: DeviceClass
    zone: Zone
    sureness: float | None = None

    def as_table(self) -> dict[str, Any]:
        """Return it as the configuration file has it."""
        corners = [[round(x, _DIGITS), round(y, _DIGITS)] for x, y in self.zone.points]
        return {"name": self.name, "device_class": self.device_class, "polygon": corners}


@dataclass(frozen=True)
class DraftCamera:
    """A camera that has shown a picture.

    Attributes:
        name: In topics.
        source: Where its pictures come from.
        username: For rtsp and http.
        secret: The password; never in the configuration file.
        image: Its picture; None = it has shown none.
        zones: Its doors and windows.
    """

    name: str
    source: str
    username: str | None = None
    secret: str | None = field(default=None, repr=False)
    image: Image | None = field(default=None, repr=False)
    zones: tuple[DraftZone, ...] = ()

    @property
    def password_file(self) -> str | None:
        """The credential that holds its password."""
        return f"{self.name}-password" if self.secret else None

    def config(self) -> CameraConfig:
        """Return it as the daemon opens it, with one zone at least.

        Raises:
            ConfigurationError: A configuration could not say it so.
        """
        whole = {"name": "whole", "polygon": _WHOLE}
        fields = {"name": self.name, "source": self.source, "username": self.username}
        given = {key: value for key, value in fields.items() if value is not None}
        raw = {**given, "zones": [whole]}
        if mistakes := find_mistakes(raw, CameraConfig):
            raise ConfigurationError(mistakes)
        return msgspec.convert(raw, CameraConfig)

    def as_table(self) -> dict[str, Any]:
        """Return it as the configuration file has it, without its zones."""
        table = {"name": self.name, "source": self.source}
        if self.username is not None:
            table["username"] = self.username
        if self.password_file is not None:
            table["password_file"] = self.password_file
        return table


@dataclass
class Draft:
    """A configuration in the making.

    Attributes:
        device: The device's name.
        mqtt: The broker.
        cameras: Those that were added.
        more: Further top-level keys and tables.
        mqtt_secret: The broker's password.
        before: Text of the configuration that cameras are added to; empty = a new one.
    """

    device: str
    mqtt: MqttConfig
    cameras: list[DraftCamera] = field(default_factory=list)
    more: Mapping[str, Any] = field(default_factory=dict)
    mqtt_secret: str | None = field(default=None, repr=False)
    before: str = ""

    def text(self) -> str:
        """Return the configuration file; what stood in it before stays as it is."""
        document = tomlkit.document()
        if not self.before:
            self._put_head(document)
        cameras = tomlkit.aot()
        for camera in self.cameras:
            cameras.append(_camera_table(camera))
        document["cameras"] = cameras
        text = tomlkit.dumps(document)
        return grown(self.before, text) if self.before else text

    def config(self) -> Config:
        """Return the configuration as `transom check` reads it.

        Raises:
            ConfigurationError: It would be none.
        """
        raw = tomllib.loads(self.text())
        if mistakes := find_mistakes(raw, Config):
            raise ConfigurationError(mistakes)
        return msgspec.convert(raw, Config)

    def secrets(self) -> dict[str, str]:
        """Return the passwords by the name of the file that is to hold each."""
        found = {c.password_file: c.secret for c in self.cameras if c.password_file and c.secret}
        if self.mqtt_secret and self.mqtt.password_file:
            found[self.mqtt.password_file] = self.mqtt_secret
        return found

    def camera_secrets(self) -> list[str]:
        """Return the names of the files that hold passwords of cameras."""
        return sorted(set(self.secrets()) - {self.mqtt.password_file})

    def _put_head(self, document: tomlkit.TOMLDocument) -> None:
        document.add("device", tomlkit.item(self.device))
        plain = {key: value for key, value in self.more.items() if not isinstance(value, dict)}
        tables = {key: value for key, value in self.more.items() if isinstance(value, dict)}
        for key, value in plain.items():
            document.add(key, tomlkit.item(value))
        said = msgspec.to_builtins(self.mqtt)
        default = msgspec.to_builtins(MqttConfig(host=self.mqtt.host))
        changed = {key: value for key, value in said.items() if value != default[key]}
        tables["mqtt"] = {"host": self.mqtt.host, **changed}
        for key in ("mqtt", *(key for key in tables if key != "mqtt")):
            document.add(tomlkit.nl())
            document.add(key, tomlkit.item(tables[key]))
        document.add(tomlkit.nl())


def as_name(text: str, fallback: str, *, dash: str = "_") -> str:
    """Return a name as topics have it, made of any text.

    Examples:
        >>> as_name("Hall Camera (2)", "camera")
        'hall_camera_2'
        >>> as_name("…", "camera")
        'camera'
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    return dash.join(words)[:40].strip(dash) or fallback


def free_name(name: str, taken: set[str]) -> str:
    """Return a name, with a number where it is taken.

    Examples:
        >>> free_name("door", {"door", "door_2"})
        'door_3'
    """
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in names if one not in taken)


def _camera_table(camera: DraftCamera) -> Any:
    table = tomlkit.table()
    for key, value in camera.as_table().items():
        table.add(key, value)
    zones = tomlkit.aot()
    for zone in camera.zones:
        zone_table = tomlkit.table()
        for key, value in zone.as_table().items():
            zone_table.add(key, _corners(value) if key == "polygon" else value)
        zones.append(zone_table)
    table.add("zones", zones)
    return table


def _corners(points: list[list[float]]) -> Array:
    array = tomlkit.array()
    for point in points:
        array.append(point)
    return array
