"""`transom setup` at a real terminal and in scripts: cameras, zones, broker, files."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.setup import assistant
from edge_runtime.setup.cameras import Candidate
from tests.edge_runtime.broker import Broker, free_port, make_certificates
from tests.edge_runtime.cameras import MjpegServer, whole
from tests.edge_runtime.conftest import draw_scene
from tests.edge_runtime.onvif_camera import OnvifCamera
from tests.edge_runtime.rtsp import RtspServer, require_ffmpeg
from tests.edge_runtime.terminal import Terminal
from transom.cli import main
from transom.config import load_config

ZONE = "hall/front_door=0.35,0.15,0.65,0.95"
PASSWORD = "gehe im 7"
SMALL = """\
device = "hall-pi"
mqtt.host = "localhost"
[[cameras]]
name = "hall"
source = "usb:0"
zones = [{ name = "door", polygon = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.9], [0.1, 0.9]] }]
"""


@pytest.fixture(scope="module")
def room() -> bytes:
    """A picture of a room, as JPEG."""
    done, data = cv2.imencode(".jpg", draw_scene(40.0, height=240))
    assert done
    return data.tobytes()


@pytest.fixture
def camera(room: bytes) -> Iterator[MjpegServer]:
    server = MjpegServer()
    server.part = lambda _index: whole(room)
    yield server
    server.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


Setup = Callable[..., tuple[Any, str]]


@pytest.fixture
def setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Setup:
    """Run it as a script does; return its JSON and what it told people."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> tuple[Any, str]:
        words = ["setup", "--config", "transom.toml", "--json", *map(str, arguments)]
        ended = main(words)
        told = capsys.readouterr()
        assert ended == code, told.err
        return (json.loads(told.out) if told.out else None), told.err

    return run


def at(broker: Broker) -> tuple[object, ...]:
    return ("--broker", "localhost", "--port", broker.port)


def test_a_script_gets_a_configuration_that_check_accepts_and_what_it_has_to_know(
    setup: Setup, tmp_path: Path, camera: MjpegServer, broker: Broker
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    told, _ = setup(
        "--source", f"hall={camera.url}", "--zone", ZONE, "--device", "hall-pi",
        "--pictures", pictures, *at(broker), "--page",
    )  # fmt: skip

    assert told["written"]
    assert told["cameras"][0] | {"picture": ""} == {
        "name": "hall",
        "source": camera.url,
        "size": [320, 240],
        "zones": [
            {
                "name": "front_door",
                "device_class": "door",
                "polygon": [[0.35, 0.15], [0.65, 0.15], [0.65, 0.95], [0.35, 0.95]],
                "sureness": None,
            }
        ],
        "picture": "",
    }
    assert all(check["ok"] for check in told["broker"])
    assert (pictures / "hall.jpg").stat().st_mode & 0o777 == 0o600
    config = load_config(tmp_path / "transom.toml")
    assert (config.device, config.cameras[0].zones[0].name) == ("hall-pi", "front_door")
    assert config.page is not None
    assert config.state_directory == str(tmp_path / "state")


def test_passwords_come_from_files_and_go_into_files_of_their_own(
    setup: Setup, tmp_path: Path, camera: MjpegServer
) -> None:
    camera.credentials = f"viewer:{PASSWORD}"
    secret = tmp_path / "given"
    secret.write_text(PASSWORD + "\n")
    certificates = make_certificates(tmp_path / "certificates")
    broker = Broker(
        tmp_path / "broker", users={"hall": PASSWORD}, certificates=certificates,
        access=["user hall", "topic readwrite transom/hall-pi/#", "topic read homeassistant/status",
                "topic write homeassistant/#"],
    )  # fmt: skip
    with broker:
        told, said = setup(
            "--source", f"hall={camera.url}", "--camera-username", "viewer",
            "--camera-password-file", secret, "--zone", ZONE, "--device", "hall-pi",
            "--broker", "localhost", "--tls", "--ca-file", certificates.authority,
            "--port", broker.port, "--username", "hall", "--password-file", secret,
        )  # fmt: skip

    assert told["credentials"] == ["hall-password", "mqtt-password"]
    for name in told["credentials"]:
        assert (tmp_path / name).read_text() == PASSWORD + "\n"
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    text = (tmp_path / "transom.toml").read_text()
    assert PASSWORD not in text + said + json.dumps(told, ensure_ascii=False)
    config = load_config(tmp_path / "transom.toml")
    assert config.mqtt.uses_tls
    assert (config.mqtt.username, config.mqtt.password_file) == ("hall", "mqtt-password")
    assert config.cameras[0].password_file == "hall-password"
    assert "LoadCredential=hall-password:" in said


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root in which systemd and Transom have their folders."""
    root = tmp_path / "root"
    for folder in ("etc/transom", "etc/systemd/system"):
        (root / folder).mkdir(parents=True)
    return root


@pytest.fixture
def with_password(tmp_path: Path, camera: MjpegServer) -> tuple[str, ...]:
    """Options of a camera that wants a password, with a zone."""
    camera.credentials = f"viewer:{PASSWORD}"
    (tmp_path / "given").write_text(PASSWORD + "\n")
    who = ("--camera-username", "viewer", "--camera-password-file", str(tmp_path / "given"))
    return ("--source", f"hall={camera.url}", *who, "--zone", ZONE)


def test_the_unit_is_told_to_load_the_passwords_of_cameras(
    setup: Setup, root: Path, with_password: tuple[str, ...], camera: MjpegServer, broker: Broker
) -> None:
    config = root / "etc/transom/transom.toml"
    drop_in = root / "etc/systemd/system/transom.service.d/credentials.conf"
    told, said = setup("--config", config, *with_password, *at(broker))
    assert not drop_in.parent.exists()
    assert told["drop_in"] is None
    assert f"LoadCredential=hall-password:{config.parent}/hall-password" in said

    told, said = setup("--config", config, *with_password, *at(broker), "--overwrite", "--unit")
    assert told["drop_in"] == str(drop_in)
    assert "systemctl daemon-reload && " in said
    assert "LoadCredential" not in said
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        "LoadCredential=hall-password:/etc/transom/hall-password",
    ]
    assert drop_in.stat().st_mode & 0o777 == 0o644
    assert (root / "etc/transom/hall-password").stat().st_mode & 0o777 == 0o600

    more = ("--source", f"yard={camera.url}", "--zone", "gate=0.1,0.1,0.5,0.9")
    setup("--config", config, "--add", *with_password[2:-2], *more, "--unit")
    assert drop_in.read_text().splitlines()[2:] == [
        "LoadCredential=hall-password:/etc/transom/hall-password",
        "LoadCredential=yard-password:/etc/transom/yard-password",
    ]


def test_a_person_is_asked_whether_the_unit_is_to_load_them(
    root: Path, with_password: tuple[str, ...], broker: Broker
) -> None:
    config = root / "etc/transom/transom.toml"
    options = ("--config", str(config), *with_password, *map(str, at(broker)), "--no-page")
    with Terminal("setup", *options, "--device", "hall-pi", size=(400, 30)) as terminal:
        terminal.wait_for("user at the broker")
        terminal.type("")
        terminal.wait_for("let the unit load the cameras' passwords (")
        terminal.type("")
        terminal.wait_for("write ")
        assert list(root.rglob("*.conf")) == []
        terminal.type("y")
        terminal.wait_for("by which the unit loads the cameras' passwords")
        assert terminal.ended() == 0
    assert len(list(root.rglob("transom.service.d/credentials.conf"))) == 1


def test_a_configuration_that_no_unit_reads_has_no_drop_in(
    setup: Setup, tmp_path: Path, with_password: tuple[str, ...]
) -> None:
    _, said = setup(*with_password, "--unit", code=78)
    assert "transom.toml: no unit of systemd reads it" in said
    assert "opening" not in said
    assert not (tmp_path / "transom.toml").exists()


def test_an_onvif_camera_is_found_and_its_stream_is_written(
    setup: Setup, tmp_path: Path, room: bytes, broker: Broker
) -> None:
    require_ffmpeg()
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    image = cv2.imdecode(np.frombuffer(room, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    for _ in range(10):
        writer.write(image)
    writer.release()
    server = RtspServer(clip)
    secret = tmp_path / "given"
    secret.write_text("geheim\n")
    try:
        with OnvifCamera() as camera:
            # It calls itself by an address that is not its own.
            camera.streams = [("main", "JPEG", 320, 240, server.url.replace("127.0.0.1", "cam"))]
            found, _ = setup("--find", "--ask", f"127.0.0.1:{camera.discovery_port}")
            source = next(one["source"] for one in found if one["what"] == "ACME IPC 7")
            told, _ = setup(
                "--source", f"hall={source}", "--camera-username", "admin",
                "--camera-password-file", secret, "--zone", ZONE, *at(broker),
            )  # fmt: skip
    finally:
        server.close()
    assert told["cameras"][0]["source"] == server.url
    assert load_config(tmp_path / "transom.toml").cameras[0].source == server.url
    assert "geheim" not in camera.sent


def test_a_broker_that_refuses_keeps_the_configuration_from_being_written(
    setup: Setup, tmp_path: Path, camera: MjpegServer
) -> None:
    broker = Broker(
        tmp_path / "broker", users={"hall": "x"},
        access=["user hall", "topic readwrite transom/another/#"],
    )  # fmt: skip
    secret = tmp_path / "given"
    secret.write_text("x\n")
    options = ("--source", f"hall={camera.url}", "--zone", ZONE, "--device", "hall-pi")
    options += ("--username", "hall", "--password-file", str(secret), "--no-tls")
    with broker:
        told, said = setup(*options, *at(broker), code=1)
        assert [check["ok"] for check in told["broker"]].count(False) >= 1
        assert "access list" in said
        assert not (tmp_path / "transom.toml").exists()
        assert not (tmp_path / "mqtt-password").exists()
        told, _ = setup(*options, *at(broker), "--unchecked")
    assert told["written"]


# paho leaves the socket to the garbage collector where TLS fails.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
def test_what_is_wrong_with_the_broker_is_said_by_option(
    setup: Setup, tmp_path: Path, camera: MjpegServer
) -> None:
    secret, no_authority = tmp_path / "given", tmp_path / "no authority"
    secret.write_text("wrong\n")
    no_authority.write_text("nobody\n")
    certificates = make_certificates(tmp_path / "certificates")
    options = ("--source", f"hall={camera.url}", "--zone", ZONE, "--broker", "localhost")
    user = ("--username", "hall", "--password-file", str(secret))
    with (
        Broker(tmp_path / "users", users={"hall": PASSWORD}) as users,
        Broker(tmp_path / "encrypted", certificates=certificates) as encrypted,
    ):
        for more, said in (
            (("--port", free_port()), "check --broker and --port"),
            (("--port", users.port, *user), "check --username and what --password-file holds"),
            (("--port", users.port, "--tls"), "--no-tls"),
            (("--port", encrypted.port, "--tls"), "name its authority in --ca-file"),
            (("--port", 8883, "--tls", "--ca-file", no_authority), "--ca-file"),
        ):
            told, errors = setup(*options, *more, code=1)
            (failed,) = (check for check in told["broker"] if not check["ok"])
            assert said in f"{failed['what']}; {failed['do']}"
            assert "mqtt" not in errors.lower().replace("no mqtt broker", "")
            assert "transom.toml:" not in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prefix", "a/#"), "--prefix: expected"),
        (("--no-tls", "--ca-file", "given"), "--ca-file: needs TLS, which is off here; give --tls"),
        (("--password-file", "given"), "--password-file: is given without --username"),
    ],
)
def test_options_of_the_broker_that_do_not_go_together_are_named(
    setup: Setup, tmp_path: Path, camera: MjpegServer, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "given").write_text("geheim\n")
    _, said = setup("--source", f"hall={camera.url}", "--zone", ZONE, *options, code=2)
    assert message in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--source", "hall=usb:99", "--zone", ZONE), "usb:99: cannot be opened"),
        (("--source", "hall=http://127.0.0.1:1/x", "--zone", ZONE), "1/x: Connection refused"),
        (("--source", "hall=http://a:b@127.0.0.1/x", "--zone", ZONE), "must not hold a password"),
        (("--source", "hall", "--zone", ZONE), "or like usb:0"),
        (("--source", "Hall=usb:0", "--zone", ZONE), "of a-z, 0-9 and _"),
        (("--source", "A=rtsp://a:hush@b/x", "--zone", ZONE), "--source A=rtsp://"),
        (("--source", "a=usb:0", "--zone", "hall=1"), "left top right bottom"),
        (("--ask", "cam:x"), "must be HOST or HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    words = ["setup", "--config", str(tmp_path / "transom.toml"), "--yes", *options]
    assert main(words) in (1, 2, 78)
    said = capsys.readouterr().err
    assert message in said
    assert "hush" not in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept_until_somebody_says_otherwise(
    setup: Setup, tmp_path: Path, camera: MjpegServer, broker: Broker
) -> None:
    options = ("--source", f"hall={camera.url}", "--zone", ZONE, "--device", "hall-pi")
    setup(*options, *at(broker))
    path = tmp_path / "transom.toml"
    path.write_text("# mine\n" + path.read_text())
    before = path.read_text()
    _, said = setup(*options, *at(broker), code=1)
    assert "exists already; --add cameras to it, or --overwrite it" in said
    assert path.read_text() == before

    setup("--add", "--source", f"yard={camera.url}", "--zone", "gate=0.1,0.1,0.5,0.9")
    assert path.read_text().startswith(before.rstrip())
    config = load_config(path)
    assert [one.name for one in config.cameras] == ["hall", "yard"]
    _, said = setup("--add", "--source", f"hall={camera.url}", "--zone", "x=0,0,1,1", code=1)
    assert "hall is the name of another camera" in said
    setup(*options, *at(broker), "--overwrite")
    assert "# mine" not in path.read_text()


@pytest.mark.parametrize(
    "options",
    [
        ("--device", "attic-pi"), ("--broker", "broker.lan"), ("--port", "1884"), ("--no-tls",),
        ("--ca-file", "transom.toml"), ("--username", "hall"), ("--password-file", "transom.toml"),
        ("--prefix", "house"), ("--state-directory", "state"), ("--page",), ("--no-page",),
    ],
)  # fmt: skip
def test_what_only_a_new_file_can_take_is_refused_where_cameras_are_added(
    setup: Setup, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(SMALL)
    camera = ("--source", "yard=usb:0", "--zone", "gate=0.1,0.1,0.5,0.9")
    _, said = setup("--add", *camera, *options, code=2)
    assert f"{options[0]}: goes into a new configuration only" in said
    assert "opening" not in said
    assert path.read_text() == SMALL


def test_a_zone_without_a_camera_is_refused_where_there_are_several(
    setup: Setup, tmp_path: Path, camera: MjpegServer
) -> None:
    cameras = ("--source", f"hall={camera.url}", "--source", f"yard={camera.url}")
    zones = ("--zone", ZONE, "--zone", "gate=0.1,0.1,0.5,0.9")
    _, said = setup(*cameras, *zones, code=2)
    assert "gate: must name its camera where there are several, like CAMERA/gate=…" in said
    assert list(tmp_path.iterdir()) == []


def test_a_zone_without_a_camera_is_the_first_one_s(tmp_path: Path, camera: MjpegServer) -> None:
    options = ("--config", str(tmp_path / "transom.toml"), "--ask", "127.0.0.1:9")
    with Terminal("setup", *options, "--zone", "front_door=0.35,0.15,0.65,0.95") as terminal:
        for name, follows in (("hall", "another camera"), ("yard", "zones: Enter, add")):
            terminal.wait_for("camera: a number, or a source")
            terminal.type(f"{name}={camera.url}")
            terminal.wait_for("user at the camera")
            terminal.type("")
            terminal.wait_for(follows)
            terminal.type("y")
        terminal.wait_for("zones: Enter, add")
        terminal.press_ctrl_c()
        assert terminal.ended() == 130


def test_which_of_several_cameras_was_taken_is_said(
    setup: Setup, tmp_path: Path, camera: MjpegServer, broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = [
        Candidate("picamera:0", "ribbon camera", "install python3-picamera2"),
        Candidate(camera.url, "Hall camera"),
        Candidate("usb:/dev/video7", "Attic camera"),
        Candidate("onvif://192.0.2.7", "Yard camera"),
    ]
    monkeypatch.setattr(assistant, "find_cameras", lambda **_: found)
    _, said = setup("--zone", "door=0.1,0.1,0.5,0.9", *at(broker))
    others = "usb:/dev/video7, onvif://192.0.2.7"
    assert f"taking {camera.url}, the first; --source takes others: {others}\n" in said
    (written,) = load_config(tmp_path / "transom.toml").cameras
    assert (written.name, written.source) == ("camera", camera.url)


def test_cameras_without_a_name_get_one_each(
    setup: Setup, tmp_path: Path, camera: MjpegServer, broker: Broker
) -> None:
    zones = ("--zone", "camera/front=0.1,0.1,0.5,0.9", "--zone", "camera_2/back=0.1,0.1,0.5,0.9")
    setup("--source", camera.url, "--source", camera.url, *zones, *at(broker))
    config = load_config(tmp_path / "transom.toml")
    assert [one.name for one in config.cameras] == ["camera", "camera_2"]


def test_cameras_in_one_array_are_refused_before_anything_is_asked(
    setup: Setup, tmp_path: Path
) -> None:
    path = tmp_path / "transom.toml"
    one = SMALL.partition("[[cameras]]")
    table = ", ".join(one[2].strip().splitlines())
    path.write_text(f"{one[0]}cameras = [{{ {table} }}]\n")
    assert load_config(path).cameras[0].name == "hall"
    before = path.read_text()
    _, said = setup("--add", "--source", "yard=usb:0", "--zone", "gate=0.1,0.1,0.5,0.9", code=78)
    assert "write each below a [[cameras]]" in said
    assert "opening" not in said
    assert path.read_text() == before


def test_a_name_that_another_camera_has_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(SMALL)
    with Terminal("setup", "--config", str(path), "--add", "--ask", "127.0.0.1:9") as terminal:
        terminal.wait_for("camera: a number, or a source")
        terminal.type("hall=usb:0")
        terminal.wait_for("hall is the name of another camera")
        terminal.wait_for("camera: a number, or a source")
        terminal.type("usb:0")
        terminal.wait_for("a name for it")
        terminal.type("hall")
        terminal.wait_for("hall is the name of another camera")
        terminal.wait_for("a name for it [camera]: ")
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
    assert path.read_text() == SMALL


def test_a_person_is_led_through_and_nothing_is_written_before_the_end(
    tmp_path: Path, camera: MjpegServer
) -> None:
    path = tmp_path / "transom.toml"
    broker = Broker(tmp_path / "broker", users={"hall": PASSWORD})
    nobody = broker.folder / "none"
    nobody.mkdir()
    options = ("--config", str(path), "--ask", "127.0.0.1:9", "--port", str(broker.port))
    with broker, Terminal("setup", *options) as terminal:
        terminal.wait_for("camera: a number, or a source")
        terminal.type("hall")
        terminal.wait_for("must be a number of the list, or like usb:0")
        terminal.type(f"{camera.url}")
        terminal.wait_for("user at the camera")
        terminal.type("")
        terminal.wait_for("a name for it")
        terminal.type("hall")
        terminal.wait_for("hall: http://127.0.0.1")
        terminal.wait_for("zones: Enter, add")
        while "no door or window was recognised" not in terminal.text:
            terminal.type("drop 1")
            shown = terminal.wait_for("zones: Enter, add")
            if "numbered 1 to 0" in shown:
                break
        terminal.type("add front_door 0.35 0.15 0.65 1.95")
        terminal.wait_for("outside the frame")
        terminal.type("add front_door 0.35 0.15 0.65 0.95")
        terminal.wait_for("1  front_door       door         0.350 0.150 0.650 0.950")
        terminal.wait_for("zones: Enter, add")
        terminal.type("")
        terminal.wait_for("another camera")
        terminal.type("n")
        terminal.wait_for("this device's name")
        terminal.type("hall-pi")
        terminal.wait_for("broker's name or address")
        terminal.type("")
        terminal.wait_for("user at the broker")
        terminal.type("hall")
        terminal.wait_for("password (not shown")
        terminal.type("wrong")
        terminal.wait_for("serve the page")
        terminal.type("n")
        terminal.wait_for("FAIL")
        terminal.wait_for("try again, name it anew, or write all the same")
        terminal.type("anew")
        terminal.wait_for("broker's name or address")
        terminal.type("localhost")
        terminal.wait_for("its port")
        terminal.type(str(broker.port))
        terminal.wait_for("user at the broker")
        terminal.type("hall")
        terminal.wait_for("password (not shown")
        terminal.type(PASSWORD)
        terminal.wait_for("and heard it")
        terminal.wait_for("write ")
        assert not path.exists()
        terminal.type("y")
        terminal.wait_for("next: transom doctor")
        assert terminal.ended() == 0
    assert PASSWORD not in terminal.text
    config = load_config(path)
    assert config.cameras[0].zones[0].name == "front_door"
    assert (tmp_path / "mqtt-password").read_text() == PASSWORD + "\n"


def test_whoever_stops_it_is_told_how_to_go_on_and_nothing_was_written(
    tmp_path: Path, camera: MjpegServer
) -> None:
    path = tmp_path / "transom.toml"
    options = ("--config", str(path), "--source", f"hall={camera.url}", "--zone", ZONE)
    with Terminal("setup", *options) as terminal:
        terminal.wait_for("user at the camera")
        terminal.type("")
        terminal.wait_for("this device's name")
        terminal.type("hall-pi")
        terminal.wait_for("broker's name or address [localhost]: ")  # it reads from here on
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
    again = terminal.text.partition("to go on from here:\n")[2]
    assert f"transom setup --config {path} --source hall={camera.url}" in again.replace("\n", "")
    assert "--zone hall/front_door:door=0.3500,0.1500" in again.replace("\n", "")
    assert "--device hall-pi" in again.replace("\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_hangs_up_leaves_no_picture_behind(
    tmp_path: Path, camera: MjpegServer
) -> None:
    pictures = tmp_path / "temporary"
    pictures.mkdir()
    options = ("--config", str(tmp_path / "transom.toml"), "--source", f"hall={camera.url}")
    place = {"TMPDIR": str(pictures)}
    with Terminal("setup", *options, "--zone", ZONE, environment=place) as terminal:
        terminal.wait_for("user at the camera")
        terminal.type("")
        terminal.wait_for("this device's name")
        assert list(pictures.glob("*/hall.jpg"))
        terminal.hang_up()
    assert list(pictures.iterdir()) == []


def test_the_starter_proposes_the_window_of_a_drawn_room(
    setup: Setup, tmp_path: Path, broker: Broker
) -> None:
    from train.scenes import generate_dataset
    from transom.dataset import read_dataset

    generate_dataset(
        tmp_path / "rooms", groups=4, pictures=1, seed=5, size=(640, 480), workers=1, is_plain=True
    )
    row = read_dataset(tmp_path / "rooms").rows[0]
    image = cv2.imread(str(tmp_path / "rooms" / row.image))
    assert image is not None
    writer = cv2.VideoWriter(
        str(tmp_path / "hall.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (640, 480)
    )
    for _ in range(5):
        writer.write(image)
    writer.release()
    told, _ = setup("--source", "hall=file:hall.avi", *at(broker))
    assert {zone["device_class"] for zone in told["cameras"][0]["zones"]} <= {"door", "window"}
    assert all(0.15 <= zone["sureness"] <= 1.0 for zone in told["cameras"][0]["zones"])
    assert tomllib.loads((tmp_path / "transom.toml").read_text())["cameras"][0]["zones"]
