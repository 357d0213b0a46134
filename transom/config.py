"""What a device's configuration file may say.

The file is decoded once, at the edge of the program, into a frozen tree; each part of the daemon
gets its own part of it. A secret is never a value here: it is the name of a file or of a systemd
credential.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from transom.errors import ConfigurationError
from transom.geometry import Zone
from transom.messages import DeviceClass
from transom.mistakes import find_mistakes

# \Z, because $ lets a final newline pass.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_]{0,63}\Z")]
DeviceName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
TopicPrefix = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,4}\Z", max_length=128)
]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Corner = tuple[float, float]

RESERVED_DEVICES = ("depot",)
RESERVED_ZONES = ("camera", "diagnostics", "model", "samples", "status")
"""Levels of Transom's own topics, where a zone's or a device's name stands in others."""

SOURCE_SCHEMES = ("usb", "picamera", "rtsp", "rtsps", "http", "https", "file")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _check_paths(**paths: str | None) -> None:
    """Refuse what no file is called, and what a shell would have made a path of.

    Raises:
        ValueError: One of them is so; it is named by its key.
    """
    for key, path in paths.items():
        if path is not None and (not path or "\0" in path):
            raise ValueError(f"{key} must be a path")
        if path is not None and path.startswith("~"):
            raise ValueError(f"{key} must be a path without ~, which only a shell takes for a home")


class MqttConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker and how to speak with it.

    Attributes:
        host: Name or address of the broker.
        port: TCP port; 8883 with TLS and 1883 without, unless given.
        tls: Encrypt and check the broker's certificate and name; on for any host but loopback.
        ca_file: Certificates to trust instead of the system's.
        certificate_file: Client certificate, PEM; with `key_file`.
        key_file: The client certificate's key: a path or a systemd credential's name.
        username: As the broker knows this device.
        password_file: A path or a systemd credential's name.
        protocol: `5`, or `3.1.1` for old brokers, where a refused message cannot be told from a
            delivered one and the session outlives a disconnect without limit.
        prefix: First levels of every topic.
        keepalive_s: Seconds; a frozen broker is noticed within two of them.
    """

    host: Annotated[str, Meta(pattern=r"^[^\s/@?#\[\]]{1,253}\Z")]
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    tls: bool | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    prefix: TopicPrefix = "transom"
    keepalive_s: Annotated[int, Meta(ge=5, le=600)] = 15

    def __post_init__(self) -> None:
        if self.host.count(":") == 1:  # two and more make an IPv6 address
            raise ValueError("host must be a name or an address alone; its port goes into port")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file must be given together or not at all")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file is given without username")
        if not self.uses_tls and (self.ca_file or self.certificate_file):
            raise ValueError(
                "ca_file and certificate_file need TLS, which is off here; set tls = true"
            )

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.host not in _LOOPBACK if self.tls is None else self.tls

    @property
    def tcp_port(self) -> int:
        """The port given, or the usual one."""
        return self.port or (8883 if self.uses_tls else 1883)


WantedPrecision = Literal["auto", "int8", "float32"]


class ModelsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where bundles are, and whose signature counts.

    Attributes:
        store: Folder of the installed bundles; the newest sequence serves, or the starter where
            there is none.
        trusted_keys: Folder of public keys (`*.pub`).
        recovery_keys: Folder of public keys whose holders may say over MQTT which keys are
            trusted; where it is missing or empty nobody may.
        bundle: One bundle file to serve instead of the store's newest, or the word `starter`.
        threads: Threads of the network.
        precision: In which an INT8 bundle is run: `int8`, `float32`, or `auto`, the faster of the
            two on this machine of those that answer the bundle's goldens rightly. A bundle that
            has one precision only runs in that.
    """

    store: str = "/var/lib/transom/models"
    trusted_keys: str = "/etc/transom/trusted_keys"
    recovery_keys: str = "/etc/transom/recovery_keys"
    bundle: str | None = None
    threads: Annotated[int, Meta(ge=1, le=8)] = 1
    precision: WantedPrecision = "auto"

    def __post_init__(self) -> None:
        _check_paths(
            store=self.store,
            trusted_keys=self.trusted_keys,
            recovery_keys=self.recovery_keys,
            bundle=self.bundle,
        )


class DecisionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How sure and how steady a zone's state must be before it changes.

    Attributes:
        false_changes_per_day: Budget of changes that did not happen, per zone and day. The
            smaller, the longer a change takes to be believed.
        settle_s: Seconds that a state lasts, typically, before it changes; the expectation with
            which the filter starts.
        unknown_after_s: Seconds without a usable picture or a believed class, after which the
            state is `unknown`; three intervals of the camera's `fps` at least.
        known_above: Probability above which a state is entered.
        correlation_s: Seconds over which errors of the network resemble each other while nothing
            moves in the zone: light, noise. Frames within twice that count as one.
        passing_s: The same while something moves that does not move all the time: half the seconds
            that somebody takes to walk past a door.
    """

    false_changes_per_day: Annotated[float, Meta(gt=0.0, le=1000.0)] = 0.1
    settle_s: Annotated[float, Meta(ge=1.0, le=86400.0)] = 600.0
    unknown_after_s: Annotated[float, Meta(ge=1.0, le=3600.0)] = 5.0
    known_above: Annotated[float, Meta(ge=0.5, lt=1.0)] = 0.95
    correlation_s: Annotated[float, Meta(ge=0.01, le=60.0)] = 0.1
    passing_s: Annotated[float, Meta(ge=0.01, le=60.0)] = 0.6


class HomeAssistantConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Discovery by Home Assistant.

    Attributes:
        discovery: Whether to publish it.
        prefix: Home Assistant's discovery prefix.
    """

    discovery: bool = True
    prefix: TopicPrefix = "homeassistant"


class OutboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The store of events that the broker has not yet acknowledged.

    Attributes:
        max_events: Events kept; beyond it the oldest is dropped, counted and reported.
        max_bytes: Size of the store's file.
    """

    max_events: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    max_bytes: Annotated[int, Meta(ge=1_048_576, le=1_073_741_824)] = 16_777_216


class SamplesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures of the zones that are kept on the device, to be labelled.

    Attributes:
        max_count: Pictures kept; beyond it the most redundant goes, or else the oldest.
        max_bytes: Their bytes.
        every_s: Least seconds between two pictures of a zone that are kept for one reason and say
            the same.
        random_per_day: Pictures of a zone and day that are drawn at random, whatever they show:
            what an honest figure of this camera needs.
        pull: Whether they are sent to who asks for them over MQTT (`transom pull`).
    """

    max_count: Annotated[int, Meta(ge=10, le=100_000)] = 500
    max_bytes: Annotated[int, Meta(ge=1_048_576, le=17_179_869_184)] = 67_108_864
    every_s: Annotated[float, Meta(ge=1.0, le=86400.0)] = 300.0
    random_per_day: Annotated[float, Meta(ge=0.0, le=1440.0)] = 10.0
    pull: bool = False


class UpdatesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bundles that come over MQTT: with this table the device agrees to install them.

    Attributes:
        install: `at_once`, or `when_asked`: a bundle is then announced, and fetched when Home
            Assistant's update entity, or anybody else, says so on `…/model/install`.
        allow_older: Whether a bundle may be installed again that is not newer than the newest the
            device has had, or that it has refused or left.
        max_bytes: Larger bundles are refused before they are fetched.
        url_prefixes: Beginnings of https URLs that bundles may be fetched from, like
            `["https://depot.lan/transom/"]`, also where a server sends elsewhere; none = only from
            the broker.
        ca_file: Certificates to trust there instead of the system's; a path.
        shadow_decisions: Looks at the zones that the new network judges beside the old one before
            it takes over.
        shadow_s: Seconds after which it takes over with fewer looks than that.
        least_agreement: Share of those looks on which the two must say the same.
        healthy_s: Seconds that the device must work with the new bundle before it is kept.
    """

    install: Literal["at_once", "when_asked"] = "at_once"
    allow_older: bool = False
    max_bytes: Annotated[int, Meta(ge=65_536, le=67_108_864)] = 67_108_864
    url_prefixes: tuple[Annotated[str, Meta(pattern=r"^https://[^/\s@?#]+/\S*\Z")], ...] = ()
    ca_file: str | None = None
    shadow_decisions: Annotated[int, Meta(ge=0, le=1_000_000)] = 200
    shadow_s: Annotated[float, Meta(ge=0.0, le=604800.0)] = 3600.0
    least_agreement: Fraction = 0.5
    healthy_s: Annotated[float, Meta(ge=1.0, le=86400.0)] = 60.0

    def __post_init__(self) -> None:
        _check_paths(ca_file=self.ca_file)


class PageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The page: pictures, zones and labels in a browser. With this table the device serves it.

    Attributes:
        host: Address or name to listen at; loopback = this machine only.
        port: TCP port; 0 = any that is free.
        names: Further host names under which the page is asked for, beside the machine's own,
            like `["hall-pi.lan"]`.
        certificate_file: Certificate for https, PEM; with `key_file`.
        key_file: The certificate's key: a path or a systemd credential's name.
        allow_plain: Serve other machines without https: whoever can listen on the network then
            sees the pictures and the token.
    """

    host: Annotated[str, Meta(pattern=r"^[^\s/@?#\[\]]{1,253}\Z")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8380
    names: tuple[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}\Z")], ...] = ()
    certificate_file: str | None = None
    key_file: str | None = None
    allow_plain: bool = False

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file must be given together or not at all")
        if self.host not in _LOOPBACK and not self.uses_tls and not self.allow_plain:
            raise ValueError(
                "host is reached by other machines, so the page needs certificate_file and "
                "key_file; or set allow_plain = true where the network is trusted"
            )

    @property
    def uses_tls(self) -> bool:
        """Whether the page is served by https."""
        return self.certificate_file is not None


class CaptureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How cameras are read.

    Attributes:
        isolation: `process`: each camera by a process of its own, which is killed and replaced
            when it hangs, leaks or crashes. `thread` saves its memory on a board with less than
            600 MB: a camera whose library hangs then ends the whole daemon, for the service
            manager to start it again, and what a decoder says of damaged pictures is not heard.
        memory_mb: Memory of its own, MiB, at which a camera's process is replaced; at twice that
            its allocations fail, and where the board runs out of memory it goes before the daemon.
    """

    isolation: Literal["process", "thread"] = "process"
    memory_mb: Annotated[int, Meta(ge=64, le=8192)] = 384


class ContactConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A real contact sensor at the door or window of a zone.

    Attributes:
        topic: Where it speaks: of zigbee2mqtt, ESPHome or Home Assistant.
        inverted: Whether it says open where others say shut.
    """

    topic: Annotated[str, Meta(pattern=r"^[^+#\0\s]{1,256}\Z")]
    inverted: bool = False


class ZoneConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One door or window in a camera's picture.

    Attributes:
        name: The zone's name in topics; unique on the device.
        device_class: What Home Assistant shows it as.
        polygon: Four corners (x, y) in fractions of the frame, clockwise from the top left.
        task: The bundle's task whose class is the zone's state.
        ajar_is_open: Tell two states: what the network calls `ajar` is `open`.
        left_open_after_s: Seconds open before `left_open` is published; none = never.
        left_open_repeat_s: Seconds between two `left_open` while it stays open.
        snapshot: Publish a picture of the zone at each change.
        correct: Learn from whoever says by MQTT what the state truly is, and show buttons for that
            in Home Assistant; needs `[samples]`.
        contact: A table: a contact sensor that teaches the zone and is compared with it. Needs
            `[samples]`.
    """

    name: Name
    device_class: DeviceClass = "door"
    polygon: tuple[Corner, Corner, Corner, Corner]
    task: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")] = "state"
    ajar_is_open: bool = False
    left_open_after_s: Annotated[float, Meta(gt=0.0, le=604800.0)] | None = None
    left_open_repeat_s: Annotated[float, Meta(ge=1.0, le=604800.0)] = 300.0
    snapshot: bool = False
    correct: bool = False
    contact: ContactConfig | None = None

    def __post_init__(self) -> None:
        try:
            Zone(self.polygon)
        except ValueError as error:
            raise ValueError(f"polygon: {error}") from error

    @property
    def zone(self) -> Zone:
        """The polygon as a zone."""
        return Zone(self.polygon)


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source of pictures.

    Attributes:
        name: The camera's name in topics; unique on the device.
        source: `usb:0`, `picamera:0`, `rtsp://…`, `http(s)://…` (MJPEG), `file:clip.mp4`.
        username: For rtsp and http.
        password_file: A path or a systemd credential's name.
        fps: Frames judged per second.
        loop: Whether a file starts again at its end.
        fixed: Whether the camera always looks the same way, so that another view is a problem
            (`moved`); false for one that turns by itself.
        zones: Tables: what to look at, one a door or window.
    """

    name: Name
    source: Annotated[str, Meta(min_length=1, max_length=2048)]
    username: str | None = None
    password_file: str | None = None
    fps: Annotated[float, Meta(gt=0.0, le=30.0)] = 5.0
    loop: bool = False
    fixed: bool = True
    zones: Annotated[tuple[ZoneConfig, ...], Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        scheme, _, rest = self.source.partition(":")
        if scheme not in SOURCE_SCHEMES or not rest or not self.source.isprintable():
            raise ValueError(
                "source must be like usb:0, picamera:0, rtsp://camera.lan/stream2, "
                "http(s)://camera.lan/video or file:clip.mp4"
            )
        is_number = rest.isascii() and rest.isdecimal()
        if scheme == "usb" and not (is_number or rest.startswith("/dev/")):
            raise ValueError("source usb: must be followed by a number or a path below /dev")
        if scheme == "picamera" and not is_number:
            raise ValueError("source picamera: must be followed by a number, like picamera:0")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file is given without username")
        if scheme in ("rtsp", "rtsps", "http", "https"):
            self._check_url()

    def _check_url(self) -> None:
        try:
            url = urlsplit(self.source)
            host, user, password, _ = url.hostname, url.username, url.password, url.port
        except ValueError:
            host = user = password = None
        # A password that holds / ? or # leaves its @ behind what a parser takes for the host.
        has_stray_at = "@" in self.source.replace(f"//{user}@", "//", 1)
        if " " in self.source:
            raise ValueError(
                "source must be a URL without blanks; one that belongs in is written %20"
            )
        if password is not None or has_stray_at:
            raise ValueError(
                "source must not hold a password: put it in a file, name that in password_file, "
                "and the user in username; an @ elsewhere is written %40"
            )
        if not host:
            raise ValueError("source must be a URL with a host, like rtsp://camera.lan/stream2")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file.

    Attributes:
        device: The device's name in topics.
        state_directory: Where the daemon keeps its outbox, what its cameras looked at and, where
            configured, pictures to label; systemd's state directory.
        mqtt: A table: the broker.
        models: A table: where bundles are, and whose signature counts.
        decision: A table: how sure and how steady a state must be.
        homeassistant: A table: discovery.
        outbox: A table: the store of events.
        capture: A table: how cameras are read.
        samples: A table: pictures to label; without it none are kept.
        updates: A table: bundles over MQTT; without it none are taken.
        page: A table: the page in a browser; without it nothing listens.
        cameras: Tables: one a camera, each with its zones.
    """

    device: DeviceName
    state_directory: str = "/var/lib/transom"
    mqtt: MqttConfig
    models: ModelsConfig = ModelsConfig()
    decision: DecisionConfig = DecisionConfig()
    homeassistant: HomeAssistantConfig = HomeAssistantConfig()
    outbox: OutboxConfig = OutboxConfig()
    capture: CaptureConfig = CaptureConfig()
    samples: SamplesConfig | None = None
    updates: UpdatesConfig | None = None
    page: PageConfig | None = None
    cameras: Annotated[tuple[CameraConfig, ...], Meta(min_length=1, max_length=32)]

    def __post_init__(self) -> None:
        _check_paths(state_directory=self.state_directory)
        if self.device in RESERVED_DEVICES:
            raise ValueError(f"device must not be named {self.device}: a topic has that name")
        if self.updates is not None and self.models.bundle is not None:
            raise ValueError(
                "models.bundle names the bundle that serves, so none can be installed; leave out "
                "models.bundle or updates"
            )
        for what, names in (
            ("camera", [camera.name for camera in self.cameras]),
            ("zone", [zone.name for camera in self.cameras for zone in camera.zones]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"{what} {', '.join(twice)} is named twice; a name must be unique on the device"
                )
        zones = {zone.name for camera in self.cameras for zone in camera.zones}
        taken = sorted(zones.intersection(RESERVED_ZONES))
        if taken:
            raise ValueError(f"zone must not be named {', '.join(taken)}: a topic has that name")
        for zone in (zone for camera in self.cameras for zone in camera.zones):
            if self.samples is None and (zone.correct or zone.contact):
                key = "correct" if zone.correct else "contact"
                raise ValueError(
                    f"zone {zone.name}: {key} keeps pictures with their labels; add [samples]"
                )


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigurationError: With every mistake, each with its path in the file.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error
    mistakes = [f"{path}: {mistake}" for mistake in find_mistakes(raw, Config)]
    if mistakes:
        raise ConfigurationError(mistakes)
    return msgspec.convert(raw, Config)
