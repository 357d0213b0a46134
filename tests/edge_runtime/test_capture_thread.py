"""Cameras read by threads of the daemon: the same promises but for the kill."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime import delivery
from edge_runtime.capture_thread import HANG_S, CameraThread
from tests.edge_runtime.cameras import (
    MjpegServer,
    camera_config,
    encoded,
    jpeg,
    next_frame,
    numbered,
    wait_for,
    whole,
)
from transom.config import CameraConfig
from transom.crop import Image
from transom.errors import CameraError

SECRET = "geheim/ü@:&?"


@pytest.fixture
def start() -> Iterator[Callable[..., CameraThread]]:
    """Start cameras; afterwards none of their threads may be left."""
    cameras: list[CameraThread] = []

    def start(
        config: CameraConfig,
        secret: str | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> CameraThread:
        camera = CameraThread(config, secret, monotonic_ns=monotonic_ns)
        camera.start()
        cameras.append(camera)
        return camera

    yield start
    for camera in cameras:
        camera.stop(5.0)
    assert [t.name for t in threading.enumerate() if t.name.startswith("camera ")] == []


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.close()


def test_frames_come_from_a_thread_too(
    server: MjpegServer, start: Callable[..., CameraThread]
) -> None:
    camera = start(camera_config(server.url))
    assert camera.status() == "starting"
    frame = next_frame(camera)

    assert frame.image.shape == (96, 128, 3)
    assert camera.status() == "online"
    assert camera.process_id is None
    assert next_frame(camera).number > frame.number


def test_a_clip_ends_and_is_not_tried_again(
    tmp_path: Path, start: Callable[..., CameraThread]
) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (128, 96))
    for index in range(5):
        writer.write(numbered(index))
    writer.release()
    camera = start(camera_config(f"file:{path}"))
    wait_for(lambda: camera.newest() is None and camera.status() == "gone")

    assert camera.detail == "the file was played to its end"
    assert camera.presence.failures == 0


def test_a_frame_that_was_handed_over_does_not_change_any_more(
    server: MjpegServer, start: Callable[..., CameraThread]
) -> None:
    camera = start(camera_config(server.url))
    frame = next_frame(camera)
    before = frame.image.copy()
    next_frame(camera)

    assert (frame.image == before).all()


def test_a_server_that_freezes_is_noticed_and_healed(
    server: MjpegServer, start: Callable[..., CameraThread]
) -> None:
    camera = start(camera_config(server.url))
    last = next_frame(camera)
    server.may_send.clear()
    frozen_s = time.monotonic()
    wait_for(lambda: camera.status() == "gone")
    assert time.monotonic() - frozen_s < 6.0
    assert "no picture came in 2.5 s" in camera.detail or "timed out" in camera.detail

    server.may_send.set()
    assert next_frame(camera).number > last.number


def test_a_camera_of_whose_pictures_none_can_be_decoded_is_gone_and_says_so(
    server: MjpegServer, start: Callable[..., CameraThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "USELESS_S", 0.5)
    server.part = lambda index: whole(jpeg(index % 40).replace(b"\xff\xc0", b"\xff\xc5"))
    camera = start(camera_config(server.url))
    wait_for(lambda: camera.newest() is None and camera.status() == "gone")
    assert "none of its pictures could be decoded whole for 0.5 s; is its codec" in camera.detail

    server.part = lambda index: whole(jpeg(index % 40))
    next_frame(camera)
    assert camera.status() == "online"


def test_what_is_printed_of_a_camera_that_is_away_fills_neither_memory_nor_log() -> None:
    code = (
        "import os, sys, time; from edge_runtime.capture_thread import CameraThread;"
        "from tests.edge_runtime.cameras import camera_config, wait_for; ahead_ns = 0;"
        "now = lambda: time.monotonic_ns() + ahead_ns;"
        "camera = CameraThread(camera_config('rtsp://127.0.0.1:9/s'), monotonic_ns=now);"
        "camera.start()\n"
        "for failures in range(1, 8):\n"
        "    wait_for(lambda: camera.status() and camera.presence.failures == failures)\n"
        "    print(os.fstat(1).st_size, file=sys.stderr); ahead_ns += 60_000_000_000"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    lines = ended.stderr.splitlines()
    sizes = [int(line) for line in lines if line.isdecimal()]
    assert len(sizes) == 7
    assert 0 < max(sizes) <= 2 * min(sizes)
    told = [line for line in lines if not line.isdecimal()]
    assert len(told) == 1
    assert told[0].startswith("camera gone")


def test_no_interlaced_picture_is_delivered_by_a_thread_either(tmp_path: Path) -> None:
    how = "-flags +ildct+ilme -c:v libx264 -preset ultrafast -g 10"
    path = encoded(tmp_path / "interlaced.ts", how, 3.0)
    # In a process of its own: how much FFmpeg says is settled when it is first used.
    code = (
        "import sys; from edge_runtime import delivery;"
        "from edge_runtime.capture_thread import CameraThread;"
        "from tests.edge_runtime.cameras import camera_config, wait_for;"
        "delivery.USELESS_S = 0.5;"
        "camera = CameraThread(camera_config(sys.argv[1], loop=True)); camera.start();"
        "wait_for(lambda: camera.newest() is not None or camera.status() == 'gone');"
        "sys.exit(camera.detail)"
    )
    command = [sys.executable, "-c", code, f"file:{path}"]
    ended = subprocess.run(command, capture_output=True, text=True)

    assert "is its picture progressive (not interlaced)" in ended.stderr
    assert ended.stdout == ""


def test_a_camera_that_is_looked_at_rarely_is_not_gone_for_two_damaged_pictures() -> None:
    written: list[Image] = []

    class Source:
        """Its first picture can be decoded; two more are looked at before it ends."""

        def __init__(self) -> None:
            self.count = 0

        def grab(self) -> bool:
            self.count += 1
            time.sleep(0.02)
            return self.count < 40

        def retrieve(self) -> Image | None:
            return np.zeros((2, 2, 3), np.uint8) if self.count == 1 else None

        def has_key_frame(self) -> bool:
            return True

        def taken_ahead(self) -> int:
            return 0

        def release(self) -> None:
            return

    class Sink:
        def mark_alive(self, now_ns: int) -> None:
            return

        def write(self, image: Image, taken_ns: int, key_frames: int) -> None:
            written.append(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "USELESS_S", 0.1)
        assert not delivery.deliver(Source(), Sink(), delivery.Pace(4.0), threading.Event())
    assert len(written) == 1


def test_a_wrong_password_is_told_without_it(
    server: MjpegServer, start: Callable[..., CameraThread], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.credentials = "me:right"
    camera = start(camera_config(server.url, username="me"), SECRET)
    wait_for(lambda: camera.status() == "gone")

    assert "answers 401" in camera.detail
    assert SECRET not in caplog.text + camera.detail


def test_a_library_that_prints_says_nothing_of_the_password(
    start: Callable[..., CameraThread], capfd: pytest.CaptureFixture[str]
) -> None:
    camera = start(camera_config("rtsp://127.0.0.1:9/s?key=hush", username="me"), SECRET)
    wait_for(lambda: camera.status() == "gone")

    printed = "".join(capfd.readouterr())
    assert "hush" not in printed + camera.detail
    assert "geheim" not in printed + camera.detail


def test_a_library_that_hangs_makes_the_camera_gone_and_then_ends_the_daemon(
    start: Callable[..., CameraThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "boundary")
    ahead_ns = 0
    camera = start(camera_config("picamera:5"), None, lambda: time.monotonic_ns() + ahead_ns)
    next_frame(camera)
    import picamera2  # the library's stand-in, which the camera has imported

    try:
        wait_for(lambda: camera.status() == "gone")
        assert "no picture for" in camera.detail
        ahead_ns = int(HANG_S * 1e9)
        with pytest.raises(CameraError, match=r'has hung for \d+ s .* set isolation = "process"'):
            camera.status()
    finally:
        picamera2.released.set()
        camera.stop(5.0)
        del sys.modules["picamera2"]  # monkeypatch would bring it back


def test_whatever_a_library_raises_the_camera_is_opened_again(
    start: Callable[..., CameraThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "boundary")
    camera = start(camera_config("picamera:6", username="me"), "geheim")
    try:
        first = next_frame(camera)
        wait_for(lambda: camera.newest() is None and camera.status() == "gone")
        assert camera.detail == "picamera:6: MemoryError: no memory for rtsp://***@cam.lan"
        assert next_frame(camera).number > first.number
    finally:
        camera.stop(5.0)
        sys.modules.pop("picamera2", None)


def test_a_pi_camera_that_does_not_start_is_let_go_to_be_opened_again(
    start: Callable[..., CameraThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "boundary")
    camera = start(camera_config("picamera:7"))
    try:
        wait_for(lambda: camera.newest() is None and camera.status() == "gone")
        assert camera.detail.endswith("Failed to start camera: Cannot allocate memory")
        next_frame(camera)
    finally:
        camera.stop(5.0)
        sys.modules.pop("picamera2", None)


def test_a_hung_library_that_comes_back_in_time_is_online_again(
    start: Callable[..., CameraThread], server: MjpegServer
) -> None:
    ahead_ns = 0
    server.part = lambda index: whole(jpeg(index % 40))
    camera = start(camera_config(server.url), None, lambda: time.monotonic_ns() + ahead_ns)
    next_frame(camera)
    ahead_ns = int(6e9)
    camera.status()
    ahead_ns = 0

    next_frame(camera)
    assert camera.status() == "online"
