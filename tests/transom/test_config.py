import math
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transom.config import (
    CameraConfig,
    Config,
    DeviceName,
    MqttConfig,
    Name,
    TopicPrefix,
    load_config,
)
from transom.errors import EXIT_CONFIGURATION, ConfigurationError
from transom.geometry import Zone
from transom.mistakes import find_mistakes
from transom.secret import read_secret

CONTRACT_EXAMPLE = """
device = "hall-pi"                       # [a-z0-9-], the name in every topic
[mqtt]
host = "broker.lan"
port = 8883
tls = true                               # the default for any host but loopback
username = "transom"
password_file = "mqtt-password"          # a systemd credential or a path; never a value here
[models]
store = "/var/lib/transom/models"
trusted_keys = "/etc/transom/trusted_keys"
[[cameras]]
name = "hall"
source = "rtsp://cam.lan/stream2"        # also usb:0, picamera:0, http(s)://…, file:clip.mp4
fps = 5
[[cameras.zones]]
name = "front_door"
device_class = "door"                    # door, window, garage_door, opening
polygon = [[0.31, 0.12], [0.58, 0.12], [0.58, 0.97], [0.31, 0.97]]
left_open_after_s = 600
"""

ZONE: dict[str, Any] = {"name": "door", "polygon": [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]}
CAMERA: dict[str, Any] = {"name": "hall", "source": "usb:0", "zones": [ZONE]}
LEAST: dict[str, Any] = {"device": "hall-pi", "mqtt": {"host": "broker.lan"}, "cameras": [CAMERA]}


def mistakes(**changes: Any) -> list[str]:
    return find_mistakes(LEAST | changes, Config)


def mqtt(**changes: Any) -> list[str]:
    return mistakes(mqtt=LEAST["mqtt"] | changes)


def camera(**changes: Any) -> list[str]:
    return mistakes(cameras=[CAMERA | changes])


def zone(**changes: Any) -> list[str]:
    return camera(zones=[ZONE | changes])


def test_the_example_of_the_contract_is_understood(tmp_path: Path) -> None:
    (tmp_path / "transom.toml").write_text(CONTRACT_EXAMPLE)
    config = load_config(tmp_path / "transom.toml")
    assert config.device == "hall-pi"
    assert (config.mqtt.uses_tls, config.mqtt.tcp_port) == (True, 8883)
    (hall,) = config.cameras
    assert hall.fps == 5.0
    (front_door,) = hall.zones
    assert front_door.left_open_after_s == 600.0
    assert front_door.zone == Zone.rectangle(0.31, 0.12, 0.58, 0.97)


def test_the_least_that_a_file_must_say_is_enough() -> None:
    assert mistakes() == []
    config = msgspec.convert(LEAST, Config)
    assert config.homeassistant.discovery
    assert not config.cameras[0].zones[0].snapshot
    assert config.cameras[0].zones[0].left_open_after_s is None


@pytest.mark.parametrize(
    ("host", "tls", "uses_tls", "port"),
    [
        ("broker.lan", None, True, 8883),
        ("192.168.1.2", None, True, 8883),
        ("localhost", None, False, 1883),
        ("127.0.0.1", None, False, 1883),
        ("::1", None, False, 1883),
        ("broker.lan", False, False, 1883),
        ("localhost", True, True, 8883),
    ],
)
def test_only_the_loopback_goes_without_tls_unasked(
    host: str, tls: bool | None, uses_tls: bool, port: int
) -> None:
    config = MqttConfig(host=host, tls=tls)
    assert (config.uses_tls, config.tcp_port) == (uses_tls, port)
    assert MqttConfig(host=host, tls=tls, port=5000).tcp_port == 5000


CASES: list[tuple[list[str], list[str]]] = [
    (find_mistakes({}, Config), ["missing key `$.device`", "missing key `$.mqtt`", "missing key"]),
    (find_mistakes([], Config), ["expected `table` at `$`, got `array`"]),
    (mistakes(mqtt=3), ["expected `table` at `$.mqtt`, got `int`"]),
    (mistakes(cameras={}), ["expected `array`, got `table` at `$.cameras`"]),
    (mistakes(cameras=[]), ["expected `array` of length >= 1 at `$.cameras`"]),
    (mistakes(samples={"max_count": 1}), ["expected `int` >= 10 at `$.samples.max_count`, got 1"]),
    (mistakes(samples={"colour": 1}), ["unknown key `$.samples.colour`; known: every_s, max_b"]),
    (mistakes(samples=3), ["expected `table` at `$.samples`, got `int`"]),
    (mistakes(samples={}), []),
    (mistakes(sampels={}), ["unknown key `$.sampels`, samples is meant?; known: cameras, "]),
    (mistakes(colour=1), ["unknown key `$.colour`; known: cameras, capture, decision, device, "]),
    (mistakes(**{"a\nb": 1}), ["unknown key `$.'a\\nb'`; known: "]),
    (mistakes(device="Hall"), ["at `$.device`, got 'Hall'"]),
    (mistakes(device="hall\n"), ["at `$.device`, got 'hall\\n'"]),
    (mistakes(device="depot"), ["device must not be named depot: a topic has that name at `$`"]),
    (
        mistakes(state_directory="~/transom"),
        ["state_directory must be a path without ~, which only a shell takes for a home at `$`"],
    ),
    (mistakes(state_directory=""), ["state_directory must be a path at `$`"]),
    (mistakes(models={"store": "a\0"}), ["store must be a path at `$.models`"]),
    (mistakes(models={"bundle": ""}), ["bundle must be a path at `$.models`"]),
    (mistakes(models={"recovery_keys": "~/keys"}), ["recovery_keys must be a path without ~, wh"]),
    (mistakes(updates={"ca_file": "~/a.pem"}), ["ca_file must be a path without ~, which only a"]),
    (mqtt(host=""), ["expected `str` matching regex", "at `$.mqtt.host`"][:1]),
    (mqtt(host="broker.lan:1883"), ["its port goes into port at `$.mqtt`"]),
    (mqtt(host="fe80::1"), []),
    (mqtt(port=0), ["expected `int` >= 1 at `$.mqtt.port`, got 0"]),
    (mqtt(port=65536), ["expected `int` <= 65535 at `$.mqtt.port`, got 65536"]),
    (mqtt(port=True), ["expected `int`, got `bool` at `$.mqtt.port`"]),
    (mqtt(port="1883"), ["expected `int`, got `str` at `$.mqtt.port`"]),
    (mqtt(protocol="6"), ["expected one of '5', '3.1.1' at `$.mqtt.protocol`, got '6'"]),
    (mqtt(protocol=5), ["expected one of '5', '3.1.1' at `$.mqtt.protocol`, got 5"]),
    (mqtt(prefix="a/+"), ["at `$.mqtt.prefix`, got 'a/+'"]),
    (mqtt(prefix="$SYS"), ["at `$.mqtt.prefix`, got '$SYS'"]),
    (mqtt(prefix="a" * 129), ["at `$.mqtt.prefix`, got 'aaaa"]),
    (mqtt(key_file="k"), ["certificate_file and key_file must be given together"]),
    (mqtt(certificate_file="c"), ["certificate_file and key_file must be given together"]),
    (mqtt(tls=False, ca_file="c"), ["need TLS, which is off here; set tls = true at `$.mqtt`"]),
    (mqtt(password_file="p"), ["password_file is given without username at `$.mqtt`"]),
    (
        mqtt(password="x"),
        ["a secret is never a value here; put it in a file and name that in pass"],
    ),
    (camera(fps=300), ["expected `float` <= 30.0 at `$.cameras[0].fps`, got 300"]),
    (camera(fps=0), ["expected `float` > 0.0 at `$.cameras[0].fps`, got 0"]),
    (camera(fps=math.nan), ["at `$.cameras[0].fps`, got nan"]),
    (camera(fps=math.inf), ["expected `float` <= 30.0 at `$.cameras[0].fps`, got inf"]),
    (camera(fps=-math.inf), ["expected `float` > 0.0 at `$.cameras[0].fps`, got -inf"]),
    (camera(fps=10**400), ["at `$.cameras[0].fps`, got 1000"]),
    (camera(fps=True), ["expected `float`, got `bool` at `$.cameras[0].fps`"]),
    (camera(name="front door"), ["at `$.cameras[0].name`, got 'front door'"]),
    (camera(name="tür"), ["at `$.cameras[0].name`, got 'tür'"]),
    (camera(name="a+"), ["at `$.cameras[0].name`, got 'a+'"]),
    (camera(name="#"), ["at `$.cameras[0].name`, got '#'"]),
    (camera(name="a/b"), ["at `$.cameras[0].name`, got 'a/b'"]),
    (camera(name=""), ["at `$.cameras[0].name`, got ''"]),
    (camera(zones=[]), ["expected `array` of length >= 1 at `$.cameras[0].zones`"]),
    (camera(zones="door"), ["expected `array`, got `str` at `$.cameras[0].zones`"]),
    (camera(source="ftp://cam.lan/"), ["source must be like usb:0, picamera:0, rtsp://"]),
    (camera(source="usb:"), ["source must be like usb:0"]),
    (camera(source="usb:front"), ["must be followed by a number or a path below /dev"]),
    (camera(source="usb:/dev/video0"), []),
    (camera(source="picamera:x"), ["source picamera: must be followed by a number"]),
    (camera(source="rtsp:///stream"), ["must be a URL with a host, like rtsp://camera.lan"]),
    (camera(source="rtsp://[::1/stream"), ["must be a URL with a host"]),
    (camera(source="rtsp://cam.lan/a\nb"), ["source must be like usb:0"]),
    (
        camera(source="rtsp://cam.lan/?token=a b"),
        ["must be a URL without blanks; one that belongs in is written %20"],
    ),
    (camera(source="file:my clip.mp4"), []),
    (camera(source="rtsp://viewer@cam.lan/stream"), []),
    (camera(password_file="p"), ["password_file is given without username at `$.cameras[0]`"]),
    (zone(name="camera"), ["zone must not be named camera: a topic has that name at `$`"]),
    (zone(device_class="gate"), ["expected one of 'door', 'window', 'garage_door', 'opening' at"]),
    (
        zone(polygon=[[0, 0], [1, 0], [1, 1]]),
        ["length 4, got 3 at `$.cameras[0].zones[0].polygon`"],
    ),
    (zone(polygon=[[0, 0], [2, 0], [1, 1], [0, 1]]), ["polygon: zone point (2, 0) is outside the"]),
    (zone(polygon=[[0, 0], [1, math.nan], [1, 1], [0, 1]]), ["zone point (1, nan) is outside"]),
    (zone(polygon=[[0, 1], [1, 1], [1, 0], [0, 0]]), ["polygon: zone must be convex with its poi"]),
    (
        zone(polygon=[[0, 0], ["1", 0], [1, 1], [0, 1]]),
        ["at `$.cameras[0].zones[0].polygon[1][0]`"],
    ),
    (zone(correct=True), ["zone door: correct keeps pictures with their labels; add [samples]"]),
    (
        zone(contact={"topic": "a"}),
        ["zone door: contact keeps pictures with their labels; add [sam"],
    ),
    (zone(contact={}), ["missing key `$.cameras[0].zones[0].contact.topic`"]),
    (zone(contact={"topic": "a/#"}), ["at `$.cameras[0].zones[0].contact.topic`, got 'a/#'"]),
    (zone(left_open_after_s=0), ["expected `float` > 0.0 at", "got 0"][:1]),
    (
        mistakes(cameras=[CAMERA, CAMERA | {"zones": [ZONE | {"name": "b"}]}]),
        ["camera hall is nam"],
    ),
    (mistakes(cameras=[CAMERA, CAMERA | {"name": "b"}]), ["zone door is named twice; a name must"]),
]


@pytest.mark.parametrize(("found", "expected"), CASES)
def test_a_mistake_is_named_with_its_place(found: list[str], expected: list[str]) -> None:
    assert len(found) == len(expected), found
    for line, part in zip(found, expected, strict=True):
        assert part in line
        assert "\n" not in line


def test_every_mistake_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(
        """
        device = "Hall"
        [mqtt]
        host = "broker.lan"
        port = 70000
        keepalive_s = 1
        qos = 2
        [[cameras]]
        name = "hall"
        source = "usb:0"
        fps = 300
        [[cameras.zones]]
        name = "Door"
        polygon = [[0, 0], [1, 0], [1, 1]]
        [[cameras]]
        name = "yard"
        """
    )
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert caught.value.exit_code == EXIT_CONFIGURATION
    assert all(line.startswith(f"{path}: ") for line in caught.value.mistakes)
    places = [re.findall(r"`(\$[^`]*)`", line)[-1] for line in caught.value.mistakes]
    assert places == [
        "$.device",
        "$.mqtt.qos",
        "$.mqtt.port",
        "$.mqtt.keepalive_s",
        "$.cameras[0].fps",
        "$.cameras[0].zones[0].name",
        "$.cameras[0].zones[0].polygon",
        "$.cameras[1].source",
        "$.cameras[1].zones",
    ]


SECRET = "hunter2"


@pytest.mark.parametrize(
    "found",
    [
        camera(source=f"rtsp://viewer:{SECRET}@cam.lan/stream"),
        camera(source=f"http://:{SECRET}@cam.lan/"),
        camera(source=f"rtsp://viewer:{SECRET}#1@cam.lan/stream"),
        camera(source=f"rtsp://viewer:12/{SECRET}@cam.lan/stream"),
        camera(source=f"rtsp://viewer:?{SECRET}@cam.lan/stream"),
        camera(source=f"rtsp://viewer:{SECRET}@[cam.lan/stream"),
        camera(source=f"{SECRET}:0"),
        camera(source=f"usb:{SECRET}"),
        camera(source=f"rtsp://viewer:{SECRET}@cam.lan/" + "a" * 2100),
        camera(source=[f"rtsp://viewer:{SECRET}@cam.lan/"]),
        mqtt(host=f"mqtt://transom:{SECRET}@broker.lan"),
        mqtt(host=f"transom:{SECRET}"),
        mqtt(password=SECRET),
        mqtt(username="transom", password_file=[SECRET]),
    ],
)
def test_a_password_in_the_wrong_place_is_refused_and_not_repeated(found: list[str]) -> None:
    assert len(found) == 1
    assert SECRET not in found[0]


@pytest.mark.parametrize("user", ["viewer", None])
def test_a_password_in_a_url_says_where_to_put_it(user: str | None) -> None:
    (line,) = camera(source=f"rtsp://{user or ''}:{SECRET}@cam.lan/stream")
    assert "put it in a file, name that in password_file, and the user in username" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"device = ", "is not TOML"),
        (b"device = '\xff'", "is not TOML"),
        (b"x = " + b"[" * 5000, "is not TOML"),
        (b"x = 1" + b"0" * 5000, "is not TOML"),
        (b"", "missing key `\\$.device`"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "transom.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"transom.toml: {message}"):
        load_config(tmp_path / "transom.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml: cannot be read: No such file"):
        load_config(tmp_path / "absent.toml")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "transom.toml").write_bytes(b"\xef\xbb\xbf" + CONTRACT_EXAMPLE.encode())
    assert load_config(tmp_path / "transom.toml").device == "hall-pi"


@given(st.text(max_size=70))
def test_names_hold_nothing_that_means_something_in_a_topic(text: str) -> None:
    for kind, allowed in ((Name, r"[a-z0-9][a-z0-9_]*"), (DeviceName, r"[a-z0-9][a-z0-9-]*")):
        try:
            msgspec.convert(text, kind)
        except msgspec.ValidationError:
            continue
        assert re.fullmatch(allowed, text)
        assert len(text) <= 64


@given(st.text(st.sampled_from("ab/+#$-_ \n\0"), max_size=10))
def test_a_prefix_has_levels_and_no_wildcard(text: str) -> None:
    try:
        msgspec.convert(text, TopicPrefix)
    except msgspec.ValidationError:
        return
    assert all(re.fullmatch("[A-Za-z0-9_-]+", level) for level in text.split("/"))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["device", "mqtt", "models", "decision", "outbox", "cameras", "x"]), json_like
)
def test_whatever_a_file_holds_is_a_configuration_or_a_list_of_mistakes(
    key: str, value: object
) -> None:
    raw = LEAST | {key: value}
    if not find_mistakes(raw, Config):
        assert isinstance(msgspec.convert(raw, Config), Config)


def test_an_example_in_toml_has_no_mistakes() -> None:
    assert find_mistakes(tomllib.loads(CONTRACT_EXAMPLE), Config) == []


def test_a_camera_cannot_be_changed_after_it_was_read() -> None:
    hall = msgspec.convert(CAMERA, CameraConfig)
    with pytest.raises(AttributeError):
        hall.fps = 1.0  # type: ignore[misc]


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path / "transom.toml"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_a_file_beside_the_configuration(
    configuration: Path, ending: str
) -> None:
    configuration.with_name("secret").write_bytes(f" pass word {ending}".encode())
    assert read_secret("secret", configuration) == " pass word "


def test_a_secret_is_read_from_an_absolute_path(configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(SECRET)
    assert read_secret(str(tmp_path / "elsewhere"), configuration.parent / "x" / "y") == SECRET


def test_a_credential_of_the_unit_goes_before_a_file(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "secret").write_text("credential")
    configuration.with_name("secret").write_text("file")
    configuration.with_name("other").write_text("other file")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert read_secret("secret", configuration) == "credential"
    assert read_secret("other", configuration) == "other file"
    assert read_secret("./secret", configuration) == "file"


def test_a_missing_secret_says_where_it_was_looked_for(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/transom")
    with pytest.raises(ConfigurationError) as caught:
        read_secret("secret", configuration)
    assert f"/run/credentials/transom/secret, {tmp_path}/secret" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n", "secret is empty; write it"), (b"hunter2\xff", "secret must be UTF-8 text$")],
)
def test_a_secret_that_cannot_be_used_is_refused_and_not_repeated(
    configuration: Path, content: bytes, message: str
) -> None:
    configuration.with_name("secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_secret("secret", configuration)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_secret_with_an_impossible_name_is_refused(configuration: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="secret"):
        read_secret(name, configuration)


def test_updates_and_a_named_bundle_exclude_each_other() -> None:
    named = mistakes(updates={}, models={"bundle": "starter"})
    assert named
    assert "leave out models.bundle or updates" in named[0]
    assert mistakes(updates={}) == []


@pytest.mark.parametrize(
    ("prefix", "is_taken"),
    [
        ("https://depot.lan/", True),
        ("https://depot.lan:8443/transom", True),
        ("http://depot.lan/", False),
        ("https://depot.lan", False),  # also the beginning of https://depot.lan.evil
        ("https://user@depot.lan/", False),
    ],
)
def test_a_place_to_fetch_bundles_from_is_a_whole_https_host(prefix: str, is_taken: bool) -> None:
    assert (mistakes(updates={"url_prefixes": [prefix]}) == []) is is_taken
