"""What a device says first, and takes back of what it said under other names."""

import errno
import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_runtime import introduction
from edge_runtime.introduction import FILE_NAME, ToldFile, introduce
from tests.edge_runtime.conftest import tiny_manifest
from tests.edge_runtime.homeassistant_schema import find_mistakes
from tests.edge_runtime.test_daemon import CLOSED, Play, camera_config, config_of
from transom.bundle import read_bundle
from transom.config import Config, HomeAssistantConfig

DISCOVERY = "homeassistant/device/transom_pi/config"


def said(state: Path, config: Config) -> dict[str, bytes]:
    """What is retained of a device that starts with a configuration, by topic."""
    return {m.topic: m.payload for m in introduce(config, tiny_manifest(), ToldFile(state))}


def components(said: dict[str, bytes]) -> dict[str, Any]:
    return dict(json.loads(said[DISCOVERY])["components"])


def test_a_zone_and_a_camera_of_another_name_leave_nothing_of_the_old_one(tmp_path: Path) -> None:
    first = said(tmp_path, config_of(camera_config("hall", "door", snapshot=True)))
    assert list(first) == [DISCOVERY]
    second = said(tmp_path, config_of(camera_config("entry", "front")))
    assert {topic for topic, payload in second.items() if not payload} == {
        "transom/pi/door/state",
        "transom/pi/door/snapshot",
        "transom/pi/camera/hall/status",
        "transom/pi/camera/hall/problem",
    }
    described = components(second)
    assert described["door"] == {"platform": "binary_sensor"}
    assert described["door-snapshot"] == {"platform": "image"}
    assert described["camera-hall-problem"] == {"platform": "binary_sensor"}
    assert described["front"]["unique_id"] == "transom_pi_front"
    assert set(components(first)) <= set(described)
    assert find_mistakes(json.loads(second[DISCOVERY])) == []


def test_it_is_taken_back_at_each_start_until_the_name_is_there_again(tmp_path: Path) -> None:
    for zone in ("door", "front", "front"):
        told = said(tmp_path, config_of(camera_config(zone=zone)))
    assert told["transom/pi/door/state"] == b""
    told = said(tmp_path, config_of(camera_config(zone="door")))
    assert "transom/pi/door/state" not in told
    assert told["transom/pi/front/state"] == b""
    assert components(told)["door"]["platform"] == "binary_sensor"
    assert "unique_id" in components(told)["door"]


def test_pictures_of_a_zone_whose_snapshots_are_switched_off_are_taken_away(tmp_path: Path) -> None:
    said(tmp_path, config_of(camera_config(snapshot=True)))
    told = said(tmp_path, config_of(camera_config()))
    assert told["transom/pi/door/snapshot"] == b""
    assert components(told)["door-snapshot"] == {"platform": "image"}
    assert "transom/pi/door/state" not in told


def test_home_assistant_is_told_when_it_is_to_be_told_no_more(tmp_path: Path) -> None:
    said(tmp_path, config_of())
    assert said(tmp_path, config_of(homeassistant=HomeAssistantConfig(discovery=False))) == {
        DISCOVERY: b""
    }


@pytest.mark.parametrize(
    "changed", [{"device": "pi2"}, {"homeassistant": HomeAssistantConfig(prefix="ha")}]
)
def test_nothing_is_written_below_another_name_or_another_prefix(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    config = config_of()
    said(tmp_path, config)
    told = said(tmp_path, msgspec.structs.replace(config, **changed))
    assert all(told.values())


def test_a_start_with_what_is_known_writes_nothing(tmp_path: Path) -> None:
    said(tmp_path, config_of(camera_config(zone="door")))
    said(tmp_path, config_of(camera_config(zone="front")))
    written = (tmp_path / FILE_NAME).stat()
    said(tmp_path, config_of(camera_config(zone="front")))
    assert (tmp_path / FILE_NAME).stat().st_ino == written.st_ino


@pytest.mark.parametrize("content", [b"", b"{\xff", b'{"topics": 3}'])
def test_a_damaged_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert list(said(tmp_path, config_of())) == [DISCOVERY]
    assert said(tmp_path, config_of(camera_config(zone="front")))["transom/pi/door/state"] == b""


def test_a_disk_that_fails_keeps_nothing_from_being_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with caplog.at_level(logging.WARNING):
        assert list(said(tmp_path, config_of())) == [DISCOVERY]
    assert "what was told before is not known" in caplog.text


def test_what_is_gone_is_taken_back_from_a_full_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said(tmp_path, config_of(camera_config(zone="door")))

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(introduction, "write_file", full)
    told = said(tmp_path, config_of(camera_config(zone="front")))
    assert told["transom/pi/door/state"] == b""
    assert "what is told cannot be written" in caplog.text


def test_many_names_over_the_years_do_not_grow_without_end(tmp_path: Path) -> None:
    for number in range(120):
        told = said(tmp_path, config_of(camera_config(f"hall{number}", f"door{number}")))
    assert len(told) <= 301
    assert "transom/pi/door119/state" not in told
    assert (tmp_path / FILE_NAME).stat().st_size < 40_000


def test_the_daemon_takes_back_what_it_said_in_an_earlier_run(
    tmp_path: Path, tiny_bundle: Any, play_list_camera: Any, scene: Any
) -> None:
    bundle = read_bundle(tiny_bundle.path, None)
    frames = [scene(CLOSED, seed=seed, height=120) for seed in range(10)]
    for zone in ("door", "front"):
        config = config_of(camera_config(zone=zone))
        play = Play(bundle, config, play_list_camera, frames, told=ToldFile(tmp_path))
        play.turn(1)
    retained = {m.topic: m.payload for _, m in play.sent if m.retain}
    assert retained["transom/pi/door/state"] == b""
    assert retained["transom/pi/front/state"]
    assert all(payload or topic.endswith("door/state") for topic, payload in retained.items())
