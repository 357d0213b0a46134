"""What a setup is made of: devices, proposals, zones by numbers, files."""

import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.config_option import DEFAULT_CONFIG, how_to_start
from edge_runtime.setup.draft import DraftZone, as_name
from edge_runtime.setup.drawing import as_jpeg, draw_zones
from edge_runtime.setup.files import changed_secrets, check_folder, write_all
from edge_runtime.setup.outlines import find_outlines, overlap
from edge_runtime.setup.propose import Proposer
from edge_runtime.setup.unit import drop_in_beside, with_credentials
from edge_runtime.setup.v4l2 import lasting_path, read_capability, video_devices
from edge_runtime.setup.zones import as_option, change, named_apart, read_option, read_zone
from tests.edge_runtime.conftest import Image, TinyBundle
from transom.bundle import read_bundle
from transom.config import Name
from transom.errors import ConfigurationError
from transom.geometry import Zone

DOOR = DraftZone("door", "door", Zone.rectangle(0.3, 0.1, 0.6, 0.9), 0.8)


def capability(driver: str, capabilities: int, device_caps: int) -> bytes:
    """What a driver answers to VIDIOC_QUERYCAP."""
    fields = (driver.encode(), b"HD Webcam", b"usb-0000:00:14.0-1", 0x060600)
    return struct.pack("=16s32s32s3I3I", *fields, capabilities, device_caps, 0, 0, 0)


@pytest.mark.parametrize(
    ("driver", "device_caps", "captures"),
    [
        ("uvcvideo", 0x04200001, True),
        ("uvcvideo", 0x04A00000, False),  # the second node of a webcam: metadata
        ("bcm2835-codec", 0x04208000, False),
        ("bcm2835-isp", 0x04200001, False),
        ("rp1-cfe", 0x24A00001, False),  # a sensor behind a media controller
    ],
)
def test_a_device_captures_where_its_own_node_does(
    driver: str, device_caps: int, captures: bool
) -> None:
    answer = capability(driver, 0x84A00001, device_caps)
    device = read_capability(Path("/dev/video0"), answer)
    assert (device.driver, device.card, device.captures) == (driver, "HD Webcam", captures)


def test_what_is_no_video_device_is_passed_over(tmp_path: Path) -> None:
    for name in ("video0", "video12", "videos", "videoX"):
        (tmp_path / name).touch()
    assert list(video_devices(tmp_path)) == []


def test_a_camera_is_named_so_that_another_one_does_not_take_its_place(tmp_path: Path) -> None:
    device, links = tmp_path / "video2", tmp_path / "by-id"
    device.touch()
    links.mkdir()
    (links / "usb-ACME-index0").symlink_to(device)
    assert lasting_path(device, links) == links / "usb-ACME-index0"
    assert lasting_path(tmp_path / "video3", links) == tmp_path / "video3"
    assert lasting_path(device, tmp_path / "none") == device


def room(*, red: bool = True) -> Image:
    """A grey room with noise, and a red panel in a bright frame."""
    rng = np.random.default_rng(3)
    picture = 120.0 + rng.normal(0.0, 3.0, (360, 480, 3))
    if red:
        picture[80:330, 190:310] = 230.0
        picture[88:330, 198:302] = (20.0, 20.0, 220.0)
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_proposes_what_has_an_outline_and_looks_like_a_door(tiny_bundle: TinyBundle) -> None:
    proposer = Proposer(read_bundle(tiny_bundle.path, None))
    (found,) = proposer.propose(room())

    assert (found.name, found.device_class) == ("door", "door")
    truth = np.array([190 / 480, 80 / 360, 310 / 480, 330 / 360])
    box = np.array([*found.zone.points[0], *found.zone.points[2]])
    assert overlap(truth, box[None])[0][0] > 0.8
    assert 0.5 < (found.sureness or 0.0) < 1.0


def test_proposes_nothing_where_nothing_is_sure(tiny_bundle: TinyBundle) -> None:
    assert Proposer(read_bundle(tiny_bundle.path, None)).propose(room(red=False)) == []


def test_the_outlines_of_a_plain_wall_are_few_and_bounded() -> None:
    flat = np.full((240, 320, 3), 128, np.uint8)
    found = find_outlines(flat, 20)
    assert len(found.boxes) <= 20
    assert (found.boxes >= 0.0).all()
    assert (found.boxes <= 1.0).all()


@pytest.mark.parametrize("shape", [(96, 128), (1080, 1920), (640, 360)])
def test_outlines_lie_in_the_picture_whatever_its_shape(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    boxes = find_outlines(noise, 50).boxes
    for box in boxes.tolist():
        Zone.rectangle(*box)


def test_a_picture_for_people_has_rulers_and_numbered_zones() -> None:
    plain = room()
    drawn = draw_zones(plain, [DOOR])
    assert drawn.shape == (960, 1280, 3)
    assert (drawn[500, 382:386] != drawn[500, 500]).any()  # the left side, at 0.3
    decoded = cv2.imdecode(np.frombuffer(as_jpeg(drawn), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("add back 0.7 0.1 0.9 0.9", [("door", "door"), ("back", "door")]),
        ("add attic_window 0.7 0.1 0.9 0.9", [("door", "door"), ("attic_window", "window")]),
        ("add gate garage_door 0.7 0.1 0.9 0.9", [("door", "door"), ("gate", "garage_door")]),
        ("name 1 front_door", [("front_door", "door")]),
        ("class 1 window", [("door", "window")]),
        ("drop 1", []),
        ("move 1 0.1 0.1 0.2 0.2", [("door", "door")]),
    ],
)
def test_zones_are_changed_by_numbers(words: str, expected: list[tuple[str, str]]) -> None:
    found = change([DOOR], words.split(), set())
    assert [(zone.name, zone.device_class) for zone in found] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("move 2 0 0 1 1", "zones are numbered 1 to 1, got '2'"),
        ("move 1 0 0 2 1", "outside the frame"),
        ("move 1 0.5 0 0.2 1", "convex"),
        ("move 1 a b c d", "left top right bottom"),
        ("move 1 nan 0 1 1", "outside the frame"),
        ("name 1 Front", "of a-z, 0-9 and _"),
        ("name 1 status", "no topic's own"),
        ("name 1 attic", "name of another zone"),
        ("class 1 hole", "a class must be one of door, window"),
        ("add door 0 0 1 1", "name of another zone"),
        ("open 1", "is not understood"),
        ("", "add one"),
    ],
)
def test_what_cannot_be_done_says_what_can(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change([DOOR], words.split(), {"attic"})


def test_names_are_told_apart_from_those_of_other_cameras() -> None:
    assert [zone.name for zone in named_apart([DOOR, DOOR], {"door", "door_3"})] == [
        "door_2",
        "door_4",
    ]


def test_an_option_says_a_zone_again() -> None:
    assert read_option(as_option("hall", DOOR))[1].zone == DOOR.zone
    assert read_option("front=0.1,0.1,0.3,0.1,0.3,0.4,0.1,0.4")[0] is None
    assert read_zone(["0.1", "0.1", "0.3", "0.12", "0.3", "0.4", "0.1", "0.4"]).points[1] == (
        0.3,
        0.12,
    )


@given(st.text(max_size=60))
def test_any_text_becomes_a_name(text: str) -> None:
    msgspec.convert(as_name(text, "camera"), Name)


def test_files_are_written_for_their_owner_alone_and_signals_come_again(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    write_all(path, "device = 1\n", {"mqtt-password": "geheim"})

    assert path.read_text() == "device = 1\n"
    assert (tmp_path / "mqtt-password").read_text() == "geheim\n"
    assert (tmp_path / "mqtt-password").stat().st_mode & 0o777 == 0o600
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[Service]\nNice=5\n", "[Service]\nNice=5\n"),
        ("[Service]\nLoadCredential=b-password:/old\n# mine\n", "[Service]\n# mine\n"),
        ("[Service]\nNice=5\n[Unit]\nAfter=x", "[Service]\nNice=5\n[Unit]\nAfter=x\n[Service]\n"),
        ("", "[Service]\n"),
    ],
)
def test_what_stands_in_the_unit_s_drop_in_stays(tmp_path: Path, before: str, after: str) -> None:
    drop_in = tmp_path / "credentials.conf"
    drop_in.write_text(before)
    line = "LoadCredential=b-password:/etc/transom/b-password\n"
    assert with_credentials(drop_in, ["b-password"]) == after + line


def test_only_the_configuration_of_the_unit_has_a_drop_in(tmp_path: Path) -> None:
    for folder in ("etc/transom", "etc/systemd/system"):
        (tmp_path / folder).mkdir(parents=True)
    beside = drop_in_beside(tmp_path / "etc/transom/transom.toml")
    assert beside == tmp_path / "etc/systemd/system/transom.service.d/credentials.conf"
    assert drop_in_beside(tmp_path / "etc/transom/other.toml") is None
    (tmp_path / "etc/systemd/system").rmdir()
    assert drop_in_beside(tmp_path / "etc/transom/transom.toml") is None


def test_the_unit_s_configuration_is_started_by_the_unit(tmp_path: Path) -> None:
    assert "systemctl restart transom" in how_to_start(DEFAULT_CONFIG)
    other = tmp_path / "transom.toml"
    assert how_to_start(other) == f"transom run --config {other}"


def test_a_password_that_is_another_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "mqtt-password").write_text("old\n")
    assert changed_secrets(tmp_path, {"mqtt-password": "old", "cam-password": "new"}) == []
    assert changed_secrets(tmp_path, {"mqtt-password": "new"}) == [tmp_path / "mqtt-password"]


def test_a_configuration_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_all(path, "device = 1\n", {})
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        check_folder(tmp_path / "none" / "transom.toml")


def test_a_setup_loads_nothing_of_the_workstation() -> None:
    code = "import json, sys, edge_runtime.setup.commands; print(json.dumps(list(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert {"torch", "onnx", "train", "export"}.isdisjoint(json.loads(answer.stdout))
