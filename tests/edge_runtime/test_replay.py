"""Clips through the daemon's rules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_runtime.replay import as_line, replay
from transom.bundle import Bundle, read_bundle
from transom.config import CameraConfig, Config, MqttConfig, ZoneConfig
from transom.errors import CameraError, ConfigurationError
from transom.messages import Message

DOOR = ((0.36, 0.17), (0.64, 0.17), (0.64, 0.93), (0.36, 0.93))


def camera(name: str, zone: str, fps: float = 5.0) -> CameraConfig:
    zones = (ZoneConfig(name=zone, polygon=DOOR),)
    return CameraConfig(name=name, source="usb:0", fps=fps, zones=zones)


def config_of(*cameras: CameraConfig) -> Config:
    return Config(device="pi", mqtt=MqttConfig(host="localhost"), cameras=cameras)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture(scope="module")
def door_clip(
    tmp_path_factory: pytest.TempPathFactory, scene: Callable[..., Any]
) -> Callable[..., Path]:
    """Write a folder of pictures, five a second: a door with these brightnesses for so long."""

    def write(*parts: tuple[float, float]) -> Path:
        folder = tmp_path_factory.mktemp("clip")
        number = 0
        for brightness, seconds in parts:
            for _ in range(int(5 * seconds)):
                picture = scene(brightness, seed=number % 20, height=120)
                cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
                number += 1
        return folder

    return write


@pytest.fixture(scope="module")
def opening(door_clip: Callable[..., Path]) -> Path:
    """Closed for four seconds, then open for four."""
    return door_clip((40.0, 4.0), (217.0, 4.0))


def lines_of(config: Config, bundle: Bundle, clips: dict[str, Path]) -> list[dict[str, Any]]:
    lines: list[str] = []
    replay(config, bundle, clips, lambda t, message: lines.append(as_line(t, message)))
    return [json.loads(line) for line in lines]


def events(lines: list[dict[str, Any]], zone: str) -> list[tuple[str, str]]:
    return [
        (line["payload"]["event_type"], line["payload"]["state"])
        for line in lines
        if line["topic"] == f"transom/pi/{zone}/event"
    ]


def test_tells_what_the_daemon_would_have_told(bundle: Bundle, opening: Path) -> None:
    lines = lines_of(config_of(camera("hall", "door")), bundle, {"hall": opening})
    assert events(lines, "door") == [("known", "closed"), ("opened", "open")]
    opened = next(
        line
        for line in lines
        if line["payload"] and "opened" in str(line["payload"]) and line["topic"].endswith("/event")
    )
    assert 4.0 < opened["t"] < 6.0
    assert (opened["retain"], opened["qos"]) == (False, 1)
    status = [line["payload"] for line in lines if line["topic"] == "transom/pi/status"]
    assert status == ["online", "offline"]


def test_the_same_clip_gives_the_same_messages(bundle: Bundle, opening: Path) -> None:
    config = config_of(camera("hall", "door"))
    assert lines_of(config, bundle, {"hall": opening}) == lines_of(
        config, bundle, {"hall": opening}
    )


def test_time_never_goes_back_over_several_clips(
    bundle: Bundle, opening: Path, door_clip: Callable[..., Path]
) -> None:
    config = config_of(camera("hall", "front"), camera("yard", "back"))
    short = door_clip((217.0, 2.0))
    lines = lines_of(config, bundle, {"hall": opening, "yard": short})
    times = [line["t"] for line in lines]
    assert times == sorted(times)
    assert events(lines, "front") == [("known", "closed"), ("opened", "open")]
    assert events(lines, "back") == [("known", "open"), ("unknown", "unknown")]


def test_judges_no_more_frames_than_the_camera_would(bundle: Bundle, opening: Path) -> None:
    told: list[Message] = []
    slow = config_of(camera("hall", "door", fps=1.0))
    summary = replay(slow, bundle, {"hall": opening}, lambda _t, message: told.append(message))
    assert summary.frames == 8
    assert summary.clip_s == pytest.approx(7.8)


def test_cameras_without_a_clip_are_left_out(bundle: Bundle, opening: Path) -> None:
    config = config_of(camera("hall", "front"), camera("yard", "back"))
    lines = lines_of(config, bundle, {"hall": opening})
    assert not [line for line in lines if "/back/" in line["topic"] or "/yard/" in line["topic"]]


def test_refuses_to_play_nothing(bundle: Bundle, opening: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no clip for any camera \(hall\)"):
        lines_of(config_of(camera("hall", "door")), bundle, {"attic": opening})


def test_says_which_clip_cannot_be_read(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"missing\.mp4"):
        lines_of(config_of(camera("hall", "door")), bundle, {"hall": tmp_path / "missing.mp4"})


def test_is_faster_than_the_clip(bundle: Bundle, opening: Path) -> None:
    summary = replay(
        config_of(camera("hall", "door")), bundle, {"hall": opening}, lambda _t, _m: None
    )
    assert summary.cpu_s < summary.clip_s
