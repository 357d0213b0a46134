import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_runtime import doctor, doctor_children
from edge_runtime.clock import Clock, iso
from edge_runtime.diagnostics import Machine
from edge_runtime.doctor import (
    check_bundle,
    check_clock,
    check_disk,
    check_heat,
    check_keys,
    check_outbox,
    check_page,
    check_state,
    check_word_size,
)
from edge_runtime.doctor_children import check_camera, check_network, check_onnxruntime
from edge_runtime.finding import Check
from edge_runtime.outbox import FILE_NAME as OUTBOX
from edge_runtime.outbox import Outbox
from edge_runtime.replay import ClipClock
from edge_runtime.state_format import FILE_NAME as FORMAT_FILE
from tests.edge_runtime.broker import Broker, free_port, make_certificates
from tests.edge_runtime.cameras import MjpegServer, camera_config
from tests.edge_runtime.disk import SmallDisk, disk
from tests.edge_runtime.rtsp import RtspServer
from transom.config import (
    CameraConfig,
    Config,
    ContactConfig,
    ModelsConfig,
    MqttConfig,
    PageConfig,
    SamplesConfig,
    ZoneConfig,
)
from transom.messages import Message, ZoneEvent, encode

__all__ = ["disk"]

CANARY = "canary-secret"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    return path


@pytest.fixture
def examine(tmp_path: Path, tiny_bundle: Any, clip: Path) -> Callable[..., Any]:
    """Run `transom doctor --json` with a good configuration, or with parts of it changed."""

    def run(port: int, *, code: int, **changes: str) -> dict[str, list[Check]]:
        values = {
            "host": "localhost",
            "password": CANARY,
            "keys": str(tiny_bundle.keys),
            "task": "state",
            "source": f"file:{clip}",
            "camera": "",
        } | changes
        (tmp_path / "secret").write_text(values["password"])
        path = tmp_path / "transom.toml"
        path.write_text(_TOML.format(port=port, path=tmp_path, bundle=tiny_bundle.path, **values))
        done = _doctor("--config", str(path), "--json")
        assert CANARY not in done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, list[Check]] = {}
        for raw in json.loads(done.stdout):
            assert set(raw) == {"check", "ok", "what", "do"}
            assert bool(raw["do"]) != raw["ok"], raw
            found.setdefault(raw["check"], []).append(Check(**raw))
        return found

    return run


_TOML = """
device = "pi"
state_directory = "{path}/state"
[mqtt]
host = "{host}"
port = {port}
tls = false
username = "pi"
password_file = "secret"
[models]
bundle = "{bundle}"
trusted_keys = "{keys}"
[[cameras]]
name = "hall"
source = "{source}"
{camera}
[[cameras.zones]]
name = "door"
task = "{task}"
polygon = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]
"""

RIGHTS = ["user pi", "topic readwrite transom/pi/#", "topic read homeassistant/status"]
RIGHTS += ["topic write homeassistant/device/transom_pi/config"]


def _doctor(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command: Sequence[str] = [sys.executable, "-m", "transom", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def failed(found: dict[str, list[Check]]) -> dict[str, Check]:
    """What is wrong, but for what is this machine's own."""
    own = ("clock", "temperature", "throttling")
    checks = [check for checks in found.values() for check in checks]
    return {check.check: check for check in checks if not check.ok and check.check not in own}


@pytest.fixture
def synchronised() -> int:
    """What the exit code is when nothing is wrong but perhaps the machine's own clock."""
    own = [check_clock(Clock()), *check_heat(Machine(Clock()))]
    return 0 if all(check.ok for check in own) else 1


def test_finds_nothing_wrong_where_nothing_is(
    tmp_path: Path, examine: Callable[..., Any], synchronised: int
) -> None:
    with Broker(tmp_path / "broker", users={"pi": CANARY}, access=RIGHTS) as broker:
        found = examine(broker.port, code=synchronised)
    assert failed(found) == {}
    expected = {"64-bit", "python", "onnxruntime", "clock", "configuration", "disk", "keys"}
    assert expected | {
        "outbox",
        "bundle",
        "speed",
        "broker",
        "broker rights",
        "camera hall",
    } <= set(found)
    assert "64 x 48" in found["camera hall"][0].what
    assert len(found["broker rights"]) == 4


def test_wrong_credentials_are_the_brokers_only_finding(
    tmp_path: Path, examine: Callable[..., Any]
) -> None:
    with Broker(tmp_path / "broker", users={"pi": "another"}) as broker:
        wrong = failed(examine(broker.port, code=1))
    assert list(wrong) == ["broker"]
    assert "mqtt.password_file" in wrong["broker"].do


@pytest.mark.parametrize(
    ("access", "part"),
    [
        ([*RIGHTS[:1], "topic read transom/pi/#", *RIGHTS[2:]], "Not authorized"),
        ([*RIGHTS[:1], "topic write transom/pi/#", *RIGHTS[2:]], "nothing came back"),
        (RIGHTS[:3], "homeassistant/device/transom_pi/config: Not authorized"),
    ],
)
def test_missing_rights_are_found_by_trying(
    tmp_path: Path, examine: Callable[..., Any], access: list[str], part: str
) -> None:
    with Broker(tmp_path / "broker", users={"pi": CANARY}, access=access) as broker:
        wrong = failed(examine(broker.port, code=1))
    assert list(wrong) == ["broker rights"]
    assert part in wrong["broker rights"].what
    assert "access list" in wrong["broker rights"].do


def test_a_broker_that_takes_no_packets_of_that_size_is_found(
    tmp_path: Path, examine: Callable[..., Any]
) -> None:
    options = ["max_packet_size 1000"]
    users = {"pi": CANARY}
    with Broker(tmp_path / "broker", users=users, access=RIGHTS, options=options) as broker:
        wrong = failed(examine(broker.port, code=1))
    assert list(wrong) == ["broker rights"]
    assert "config: no answer" not in wrong["broker rights"].what
    assert re.search(r"let the broker take packets of \d+ kB$", wrong["broker rights"].do)


def test_finds_everything_that_is_wrong_at_once(
    tmp_path: Path, examine: Callable[..., Any]
) -> None:
    (tmp_path / "nobody").mkdir()
    changes = {
        "keys": str(tmp_path / "nobody"),
        "source": f"http://127.0.0.1:{free_port()}/video",
        "camera": 'username = "me"\npassword_file = "secret"',
    }
    wrong = failed(examine(free_port(), code=1, **changes))
    assert set(wrong) == {"keys", "bundle", "broker", "camera hall"}


def test_a_zone_that_asks_for_a_task_that_the_bundle_lacks_is_found(
    tmp_path: Path, examine: Callable[..., Any]
) -> None:
    with Broker(tmp_path / "broker", users={"pi": CANARY}, access=RIGHTS) as broker:
        wrong = failed(examine(broker.port, code=1, task="colour"))
    assert "task 'colour' is not in bundle" in wrong["bundle"].what


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ajar_is_open": True, "task": "kind"}, "ajar_is_open needs a task with ajar, open"),
        (
            {"contact": ContactConfig(topic="zigbee2mqtt/door"), "task": "kind"},
            "contact needs a task with the class closed",
        ),
    ],
)
def test_a_zone_that_asks_for_classes_that_the_bundle_lacks_is_found(
    tmp_path: Path, tiny_bundle: Any, changes: dict[str, Any], what: str
) -> None:
    config = tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0)
    (camera,) = config.cameras
    zones = (msgspec.structs.replace(camera.zones[0], **changes),)
    cameras = (msgspec.structs.replace(camera, zones=zones),)
    check = check_bundle(msgspec.structs.replace(config, cameras=cameras, samples=SamplesConfig()))
    assert not check.ok
    assert f"zone door: {what}" in check.what


def test_a_state_of_a_later_version_is_found_and_left_alone(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    config = tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0)
    Outbox(tmp_path / OUTBOX, config.outbox).close()
    before = (tmp_path / OUTBOX).stat()
    assert check_state(config, SetClock()).ok
    (tmp_path / FORMAT_FILE).write_text("999\n")
    check = check_state(config, SetClock())
    assert (check.check, check.ok) == ("state", False)
    assert "a later Transom has written it, in format 999" in check.what
    assert "install the later version" in check.do
    assert (tmp_path / OUTBOX).stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_outbox_is_found_and_not_moved_out_of_the_way(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    config = tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0)
    (tmp_path / OUTBOX).write_bytes(b"no store of anything" * 500)
    check = check_outbox(config, SetClock())
    assert not check.ok
    assert "outbox.sqlite3: damaged: file is not a database" in check.what
    assert "look after the card" in check.do
    assert [path.name for path in tmp_path.glob("outbox*")] == [OUTBOX]


def test_an_outbox_of_another_user_is_told_from_a_damaged_one(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    config = tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0)
    (tmp_path / OUTBOX).mkdir()
    check = check_outbox(config, SetClock())
    assert not check.ok
    assert "cannot be opened" in check.what
    assert "run as the daemon's user" in check.do


def test_a_page_that_cannot_be_served_is_found(tmp_path: Path, tiny_bundle: Any) -> None:
    def check(page: PageConfig | None) -> list[Check]:
        config = tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0)
        changed = msgspec.structs.replace(config, page=page)
        return list(check_page(changed, tmp_path / "transom.toml"))

    assert check(None) == []
    (plain,) = check(PageConfig())
    assert (plain.ok, plain.what) == (True, "http, at 127.0.0.1:8380")
    with_tls = PageConfig(certificate_file="server.pem", key_file="server_key.pem")
    (missing,) = check(with_tls)
    assert not missing.ok
    assert "certificate 'server.pem' is neither a credential of the unit nor" in missing.what
    files = make_certificates(tmp_path)
    (right,) = check(with_tls)
    assert (right.ok, right.what) == (True, "https, at 127.0.0.1:8380")
    files.server_key.write_bytes(files.client_key.read_bytes())
    (of_another,) = check(with_tls)
    assert not of_another.ok
    assert "must be a certificate and its unencrypted key" in of_another.what


def test_a_configuration_that_cannot_be_used_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "transom.toml").write_text('device = "Hall Pi"\n')
    done = _doctor("--config", str(tmp_path / "transom.toml"))
    assert done.returncode == 1
    assert "FAIL  configuration" in done.stdout
    assert "do: mend the file" in done.stdout


def test_a_certainty_out_of_reach_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(
        'device = "pi"\n[mqtt]\nhost = "localhost"\n[decision]\nknown_above = 0.99999\n'
        '[[cameras]]\nname = "hall"\nsource = "usb:0"\n[[cameras.zones]]\nname = "door"\n'
        "polygon = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9], [0.1, 0.9]]\n"
    )
    found = next(check for check in doctor.examine(path, Clock()) if check.check == "decisions")
    assert not found.ok
    assert "camera hall: no change would ever be told" in found.what


def test_the_findings_are_all_that_is_printed_and_name_a_clip_that_is_not_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "transom.toml"
    values = {"host": "localhost", "port": free_port(), "keys": tmp_path, "task": "state"}
    values |= {"source": f"file:{tmp_path}/nowhere.mp4", "camera": "", "bundle": "starter"}
    (tmp_path / "secret").write_text(CANARY)
    text = _TOML.format(path=tmp_path, **values)
    path.write_text(text.replace('bundle = "starter"', f'store = "{tmp_path}/models"'))
    done = _doctor("--config", str(path))
    assert done.stderr == ""
    assert "do: mend source, or put the clip there" in done.stdout


def test_a_camera_whose_certificate_is_its_own_is_to_be_trusted_first(tmp_path: Path) -> None:
    server = MjpegServer(certificates=make_certificates(tmp_path))
    try:
        check = check_camera(camera_config(server.url), tmp_path / "transom.toml")
    finally:
        server.close()
    assert "its certificate is not trusted: unable to get local issuer" in check.what
    assert "update-ca-certificates" in check.do


def test_a_stream_that_is_encrypted_says_that_its_certificate_is_anybody_s(
    tmp_path: Path, clip: Path
) -> None:
    server = RtspServer(clip, certificates=make_certificates(tmp_path))
    try:
        check = check_camera(camera_config(server.url), tmp_path / "transom.toml")
    finally:
        server.close()
    assert check.ok
    assert check.what == (
        f"{server.url}: 64 x 48; encrypted, but whose certificate it is was not looked at"
    )


def test_a_camera_whose_certificate_has_expired_is_not_to_be_trusted_but_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path, are_expired=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    server = MjpegServer(certificates=made)
    try:
        check = check_camera(camera_config(server.url), tmp_path / "transom.toml")
    finally:
        server.close()
    assert "its certificate is not trusted: certificate has expired" in check.what
    assert check.do.startswith("renew the camera's certificate, if this machine's clock is right")


def test_says_that_nothing_of_a_configuration_was_looked_at_where_there_is_none() -> None:
    newest = list(doctor.examine(None, Clock()))[-1]
    assert (newest.check, newest.ok) == ("configuration", True)
    assert "--config FILE" in newest.what


def test_onnxruntime_of_this_machine_is_well() -> None:
    assert check_onnxruntime().ok


def test_an_onnxruntime_that_kills_its_process_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os; os.kill(os.getpid(), 4)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = check_onnxruntime()
    assert not check.ok
    assert "signal 4" in check.what


def test_an_onnxruntime_that_is_too_old_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "__version__ = '1.23.2'\ndef set_default_logger_severity(_): pass"
    (tmp_path / "onnxruntime.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "1.24.4" in check_onnxruntime().do


def test_a_child_that_hangs_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor_children, "_CHILD_TIMEOUT_S", 0.5)
    assert "does not end" in check_onnxruntime().what


def test_a_folder_that_cannot_be_made_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not check_disk(tmp_path / "file" / "state").ok
    assert check_disk(tmp_path / "state").ok


def test_keys_are_asked_for_only_where_a_bundle_of_ones_own_must_be_trusted(
    tmp_path: Path,
) -> None:
    models = ModelsConfig(store=str(tmp_path), trusted_keys=str(tmp_path / "nobody"))
    assert check_keys(models, takes_updates=False).ok
    assert check_keys(msgspec.structs.replace(models, bundle="starter"), takes_updates=False).ok
    assert not check_keys(models, takes_updates=True).ok
    (tmp_path / "home.bundle").touch()
    assert not check_keys(models, takes_updates=False).ok


@pytest.mark.parametrize(
    ("bits", "what", "do"),
    [
        ("0", "never", ""),
        ("50000", "undervoltage, throttled since the boot", "power supply"),
        ("80008", "soft temperature limit now; soft temperature limit since", "cool the board"),
        ("2", "frequency capped now", "cool the board"),
    ],
)
def test_a_board_that_slows_down_is_a_finding(
    tmp_path: Path, bits: str, what: str, do: str
) -> None:
    path = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text(bits + os.linesep)
    (check,) = check_heat(Machine(Clock(), sys=tmp_path))
    assert check.ok == (bits == "0")
    assert what in check.what
    assert do in check.do


def test_a_board_that_is_too_hot_is_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "thermal" / "thermal_zone0"
    folder.mkdir(parents=True)
    (folder / "type").write_text("cpu-thermal\n")
    for millidegrees, is_well in ((79_900, True), (80_000, False)):
        (folder / "temp").write_text(f"{millidegrees}\n")
        (check,) = check_heat(Machine(Clock(), sys=tmp_path))
        assert check.ok is is_well
    assert "heat sink" in check.do


def test_a_32_bit_system_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_word_size().ok
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    check = check_word_size()
    assert not check.ok
    assert "32-bit Python" in check.what
    assert "64-bit edition" in check.do


def test_a_clock_that_nobody_has_set_is_a_finding() -> None:
    check = check_clock(ClipClock())
    assert not check.ok
    assert "may be wrong" in check.what
    assert "timedatectl" in check.do


def test_a_full_disk_is_a_finding(disk: SmallDisk) -> None:
    disk.fill()
    check = check_disk(disk.folder)
    assert (check.ok, check.what) == (False, f"{disk.folder}: 0 MiB free")
    assert check.do == "free 128 MiB there"


def test_a_disk_that_cannot_be_written_is_a_finding(disk: SmallDisk) -> None:
    disk.make("ro")
    check = check_disk(disk.folder)
    disk.make("rw")
    assert (check.ok, check.what) == (False, f"{disk.folder}: cannot be written")


def tiny_config(tmp_path: Path, bundle: Path, keys: Path, fps: float) -> Config:
    zone = ZoneConfig(name="door", polygon=((0.1, 0.1), (0.4, 0.1), (0.4, 0.9), (0.1, 0.9)))
    return Config(
        device="pi",
        state_directory=str(tmp_path),
        mqtt=MqttConfig(host="localhost"),
        models=ModelsConfig(bundle=str(bundle), trusted_keys=str(keys)),
        cameras=(CameraConfig(name="hall", source="usb:0", fps=fps, zones=(zone,)),),
    )


def test_a_network_that_keeps_up_is_well(tmp_path: Path, tiny_bundle: Any) -> None:
    check, *_ = check_network(tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0))
    assert check.ok
    assert "5 looks a second" in check.what


def test_a_network_that_does_not_keep_up_is_a_finding(
    tmp_path: Path, tiny_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_children, "_MOST_LOAD", 1e-9)
    check, *_ = check_network(tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0))
    assert not check.ok
    assert "lower fps" in check.do


def test_a_network_that_cannot_be_tried_is_a_finding(tmp_path: Path, tiny_bundle: Any) -> None:
    check, *_ = check_network(
        tiny_config(tmp_path, tmp_path / "none.bundle", tiny_bundle.keys, 5.0)
    )
    assert not check.ok
    assert "none.bundle" in check.what


class SetClock(Clock):
    """A clock that was set from the network."""

    def is_synchronised(self) -> bool:
        return True


def refused(days_ago: float, *, time_synced: bool = True) -> Message:
    """An event of that age."""
    event = ZoneEvent(
        event_id="a", event_type="opened", state="open", previous="closed",
        at=iso(datetime.now(UTC) - timedelta(days=days_ago)), time_synced=time_synced,
        boot_id="b", monotonic_ns=1, confidence=0.9, latency_ms=9.0,
    )  # fmt: skip
    return Message("transom/pi/door/event", encode(event), qos=1)


@pytest.mark.parametrize(
    ("message", "ok"),
    [
        (Message("transom/pi/door/event", b"{}", qos=1), False),
        (refused(0.0), False),
        (refused(6.9), False),
        (refused(7.1), True),
        (refused(20_000.0, time_synced=False), False),
    ],
)
def test_what_the_broker_refused_lately_is_a_finding(
    tmp_path: Path, tiny_bundle: Any, message: Message, ok: bool
) -> None:
    config, clock = tiny_config(tmp_path, tiny_bundle.path, tiny_bundle.keys, 5.0), SetClock()
    assert check_outbox(config, clock).ok
    outbox = Outbox(tmp_path / OUTBOX, config.outbox)
    outbox.put(message, "a")
    assert check_outbox(config, clock).what == "in use by the daemon, whose figures count"
    outbox.refuse(outbox.pending(1)[0].id, "Not authorized")
    outbox.close()
    check = check_outbox(config, clock)
    assert check.ok is ok
    assert bool(check.do) is not ok
    assert "transom/pi/door/event: Not authorized" in check.what
    assert not check_outbox(config, ClipClock()).ok


@pytest.mark.parametrize(
    ("refusal", "what", "do"),
    [
        ("401 Unauthorized", "answers 401 Unauthorized", "mend username and password_file"),
        ("401 Unauthorized", "answers 401 Unauthorized", "let it ask for a digest by MD5"),
        ("461 Unsupported Transport", "answers 461 Unsupported", "in the camera's own settings"),
        ("404 Not Found", "answers 404 Not Found", "its address and path in source"),
        (None, "Connection refused", "its address and path in source"),
    ],
)
def test_a_camera_that_refuses_is_told_from_one_that_is_not_there(
    tmp_path: Path, clip: Path, refusal: str | None, what: str, do: str
) -> None:
    zone = ZoneConfig(name="door", polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    server = None if refusal is None else RtspServer(clip, refusal=refusal)
    source = f"rtsp://127.0.0.1:{free_port()}/clip" if server is None else server.url
    (tmp_path / "secret").write_text(CANARY)
    camera = CameraConfig(
        name="hall", source=source, username="me", password_file="secret", zones=(zone,)
    )
    try:
        check = doctor_children.check_camera(camera, tmp_path / "transom.toml")
    finally:
        if server is not None:
            server.close()
    assert not check.ok
    assert what in check.what
    assert do in check.do
    assert CANARY not in check.what


def test_a_password_that_a_camera_of_single_pictures_refuses_is_told(tmp_path: Path) -> None:
    zone = ZoneConfig(name="door", polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    server = MjpegServer()
    server.credentials = "me:right"
    (tmp_path / "secret").write_text(CANARY)
    camera = CameraConfig(
        name="hall", source=server.url, username="me", password_file="secret", zones=(zone,)
    )
    try:
        check = doctor_children.check_camera(camera, tmp_path / "transom.toml")
    finally:
        server.close()
    assert "answers 401" in check.what
    assert check.do == "mend username and password_file of this camera"


@pytest.mark.parametrize("source", ["file:/none/clip.mp4", "file:/none/", "usb:/dev/no-camera"])
def test_a_camera_that_gives_nothing_is_named_once(tmp_path: Path, source: str) -> None:
    zone = ZoneConfig(name="door", polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    camera = CameraConfig(name="hall", source=source, zones=(zone,))
    check = doctor_children.check_camera(camera, tmp_path / "transom.toml")
    assert not check.ok
    assert check.what.count(source.partition(":")[2]) == 1
