"""The cameras of a configuration: which of them begin before there is a daemon."""

from pathlib import Path

import msgspec

from edge_runtime.camera_set import CameraSet
from transom.config import Config

DOOR = {"name": "door", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}


def camera_set(tmp_path: Path, *cameras: dict[str, object]) -> CameraSet:
    watched = [
        {"name": f"camera_{number}", "zones": [DOOR | {"name": f"door_{number}"}], **camera}
        for number, camera in enumerate(cameras)
    ]
    raw = {"device": "pi", "mqtt": {"host": "localhost"}, "cameras": watched}
    return CameraSet(msgspec.convert(raw, Config), tmp_path / "transom.toml")


def test_a_file_that_is_played_once_waits_for_the_daemon_to_look(tmp_path: Path) -> None:
    clip = f"file:{tmp_path / 'clip.mp4'}"
    cameras = camera_set(tmp_path, {"source": clip}, {"source": clip, "loop": True})
    try:
        cameras.start()
        once, again = cameras.cameras
        assert once.process_id is None
        assert list(cameras.process_ids()) == [again.process_id]
    finally:
        cameras.stop()
    assert list(cameras.process_ids()) == []
