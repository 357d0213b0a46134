"""Cameras as they are: files, MJPEG and RTSP servers that freeze, drip, lie and vanish."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime import sources
from edge_runtime.capture import MOST_HELD, CameraProcess
from edge_runtime.clips import read_file
from edge_runtime.delivery import waiter
from edge_runtime.frame_ring import FrameRing
from edge_runtime.one_picture import take_picture
from edge_runtime.redaction import redact, shown_source
from edge_runtime.sources import open_source
from tests.edge_runtime.broker import wait_until
from tests.edge_runtime.cameras import (
    MjpegServer,
    camera_config,
    encoded,
    jpeg,
    next_frame,
    numbered,
    open_rings,
    started_cameras,
    wait_for,
    whole,
)
from tests.edge_runtime.rtsp import RtspServer, require_ffmpeg
from transom.errors import CameraError

Image = npt.NDArray[np.uint8]
Scene = Callable[..., Image]

SECRET = "geheim/ü@:&?"


@pytest.fixture
def start() -> Iterator[Callable[..., CameraProcess]]:
    """Start cameras; afterwards none of their processes may be left."""
    yield from started_cameras()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 30 pictures at 10 fps, each brighter than the one before."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (128, 96))
    for index in range(30):
        writer.write(numbered(index))
    writer.release()
    return path


# Files


def test_a_clip_is_read_whole_and_in_its_own_time(clip: Path) -> None:
    frames = list(read_file(clip))

    assert [round(frame.clip_s, 3) for frame in frames] == [round(i / 10, 3) for i in range(30)]
    levels = [float(frame.image.mean()) for frame in frames]
    np.testing.assert_allclose(levels, [21 + 5 * i for i in range(30)], atol=2.0)


def test_a_folder_of_pictures_is_read_by_name(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{index}.png"), numbered(index))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")

    frames = list(read_file(tmp_path, folder_fps=2.0))

    assert [frame.clip_s for frame in frames] == [0.0, 0.5, 1.0]
    assert np.array_equal(frames[2].image, numbered(2))


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.mp4").write_bytes(b"nothing to see here" * 100)

    with pytest.raises(CameraError, match=r"not\.mp4: is not a video that can be read"):
        next(read_file(tmp_path / "not.mp4"))
    with pytest.raises(CameraError, match="there is no such file"):
        next(read_file(tmp_path / "gone.mp4"))
    with pytest.raises(CameraError, match=r"empty: holds no picture \(\.bmp, \.jpeg, .*\)$"):
        next(read_file(tmp_path / "empty"))


def test_a_recording_named_by_its_time_is_read_where_it_lies(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "2026-01-01T10:00:00 tür %d.avi").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(list(read_file(Path("2026-01-01T10:00:00 tür %d.avi")))) == 30


def test_after_a_pause_in_a_recording_its_own_time_goes_on(tmp_path: Path) -> None:
    when = "setpts='(N*0.5+gt(N,5)*7200)/TB'"  # two pictures a second, and two hours between
    how = f"-vf {when} -fps_mode vfr -bf 0 -c:v libx264 -preset ultrafast"
    times = [picture.clip_s for picture in read_file(encoded(tmp_path / "pause.mkv", how, 1.2))]

    assert times == sorted(times)
    assert np.diff(times[:6]).tolist() == pytest.approx([0.5] * 5)
    assert np.diff(times[6:]).tolist() == pytest.approx([0.5] * (len(times) - 7))
    assert times[6] - times[5] < 1.0


def test_a_clip_of_a_codec_that_is_not_read_says_what_to_do(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2.VideoCapture, "grab", lambda _capture: False)
    with pytest.raises(CameraError, match="holds no picture that can be read; a clip of another"):
        list(read_file(clip))
    with pytest.raises(CameraError, match="holds no picture that can be read; a clip of another"):
        open_source(camera_config(f"file:{clip}"), None).grab()


def test_no_interlaced_picture_is_delivered_and_the_camera_says_why(
    tmp_path: Path, start: Callable[..., CameraProcess]
) -> None:
    how = "-flags +ildct+ilme -c:v libx264 -preset ultrafast -g 10"
    path = encoded(tmp_path / "interlaced.ts", how, 3.0)
    camera = start(camera_config(f"file:{path}", loop=True))
    wait_for(lambda: camera.newest() is not None or camera.status() == "gone")

    assert camera.newest() is None
    assert "is its picture progressive (not interlaced)" in camera.detail
    with pytest.raises(CameraError, match="its picture is interlaced, which cannot be decoded"):
        take_picture(camera_config(f"file:{path}"), None)


def test_a_pause_in_a_file_is_no_camera_that_hangs() -> None:
    class Paused:
        def __init__(self) -> None:
            self.alive: list[int] = []

        def mark_alive(self, now_ns: int) -> None:
            self.alive.append(now_ns)

        def write(self, image: Image, taken_ns: int, key_frames: int) -> None: ...

    sink = Paused()
    waiter(sink, threading.Event())(2.5)
    assert len(sink.alive) == 3
    assert np.diff(sink.alive).max() < 2e9


def test_a_file_of_one_picture_is_not_opened_again_without_a_pause(tmp_path: Path) -> None:
    path = encoded(tmp_path / "one.mp4", "-frames:v 1 -c:v libx264")
    waited: list[float] = []
    source = open_source(camera_config(f"file:{path}", loop=True), None, waited.append)
    assert [source.grab() for _ in range(4)] == [True] * 4
    source.release()
    assert waited == pytest.approx([0.1] * 3)


def test_a_file_plays_as_fast_as_it_was_filmed_and_ends(
    clip: Path, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"file:{clip}"))
    assert camera.status() == "starting"

    frames = [next_frame(camera)]
    assert camera.status() == "online"
    while camera.status() == "online":
        frame = camera.newest()
        frames.extend([] if frame is None else [frame])

    assert camera.detail == "the file was played to its end"
    span_s = (frames[-1].taken_ns - frames[0].taken_ns) / 1e9
    numbers = frames[-1].number - frames[0].number
    assert span_s == pytest.approx(numbers / 10, abs=0.15)
    assert camera.presence.failures == 0


def test_a_looped_file_starts_again(clip: Path, start: Callable[..., CameraProcess]) -> None:
    camera = start(camera_config(f"file:{clip}", loop=True))
    levels = [float(next_frame(camera).image.mean()) for _ in range(35)]

    assert (np.diff(levels) < -50).sum() >= 1
    assert camera.status() == "online"


def test_delivers_no_more_frames_than_asked_for(
    clip: Path, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"file:{clip}", fps=2.5, loop=True))
    frames = [next_frame(camera) for _ in range(4)]

    gaps_s = np.diff([frame.taken_ns for frame in frames]) / 1e9
    assert gaps_s.mean() == pytest.approx(0.4, abs=0.12)


# MJPEG over HTTP


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.close()


def test_reads_mjpeg_over_http(server: MjpegServer, start: Callable[..., CameraProcess]) -> None:
    camera = start(camera_config(server.url))
    frame = next_frame(camera)

    assert frame.image.shape == (96, 128, 3)
    assert abs(time.monotonic_ns() - frame.taken_ns) < 2e9
    assert next_frame(camera).number > frame.number


def test_a_slow_reader_gets_the_newest_frame_and_none_twice(
    server: MjpegServer, start: Callable[..., CameraProcess]
) -> None:
    server.part = lambda index: whole(jpeg(min(index, 40)))
    camera = start(camera_config(server.url))
    first = next_frame(camera)
    wait_for(lambda: camera._child is not None and camera._child.ring.newest(first.number + 10))

    second = camera.newest()

    assert second is not None
    assert second.number > first.number + 10
    assert float(second.image.mean()) > float(first.image.mean()) + 40
    later = camera.newest()
    assert later is None or later.number > second.number


def test_a_frozen_server_is_noticed_and_healed_and_nobody_waits_meanwhile(
    server: MjpegServer, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(server.url))
    next_frame(camera)
    server.may_send.clear()
    frozen_s = time.monotonic()
    longest_s = 0.0
    while camera.status() == "online":
        before_s = time.monotonic()
        camera.newest()
        longest_s = max(longest_s, time.monotonic() - before_s)

    assert time.monotonic() - frozen_s < 6.0
    assert longest_s < 0.5
    assert camera.newest() is None
    server.may_send.set()
    returned_s = time.monotonic()
    next_frame(camera)
    assert camera.status() == "online"
    assert time.monotonic() - returned_s < 10.0


def test_a_camera_that_freezes_and_is_replaced_costs_another_no_frame(
    server: MjpegServer, start: Callable[..., CameraProcess]
) -> None:
    other = MjpegServer()
    bad, good = start(camera_config(server.url)), start(camera_config(other.url, fps=2.0))
    next_frame(bad)
    numbers = [next_frame(good).number]
    os.kill(bad.process_id or 0, signal.SIGSTOP)  # worse than a server that freezes
    wait_for(lambda: numbers.extend(newest_number(good)) or bad.status() == "gone")
    wait_for(lambda: numbers.extend(newest_number(good)) or bad.newest())
    other.close()

    assert len(numbers) >= 10
    assert np.diff(numbers).tolist() == [1] * (len(numbers) - 1)


def newest_number(camera: CameraProcess) -> list[int]:
    frame = camera.newest()
    return [] if frame is None else [frame.number]


def test_a_server_that_drips_bytes_does_not_reset_the_timeout_with_each(
    server: MjpegServer,
) -> None:
    data = whole(jpeg(0))
    server.part = lambda index: data if index == 0 else b"x"
    server.interval_s = 0.05
    source = open_source(camera_config(server.url), None)
    assert source.grab()
    started_s = time.monotonic()
    with pytest.raises(CameraError, match=r"no picture came in 2\.5 s"):
        source.grab()
    source.release()
    assert time.monotonic() - started_s < 5.0


def test_half_a_picture_is_never_delivered(server: MjpegServer) -> None:
    def part(index: int) -> bytes:
        data = jpeg(index % 40)
        return whole(data[: len(data) // 2] if index % 2 else data)

    server.part = part
    source = open_source(camera_config(server.url), None)
    levels = []
    for _ in range(8):
        assert source.grab()
        image = source.retrieve()
        assert image is not None
        levels.append(round((float(image.mean()) - 21) / 5))
        assert np.ptp(image.mean(axis=(1, 2))) < 6  # no part of another picture in it
    source.release()
    assert [level % 2 for level in levels] == [0] * 8


def test_a_picture_within_a_picture_is_not_taken_for_it(server: MjpegServer) -> None:
    inner, outer = jpeg(1), jpeg(30)
    thumbnail = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    server.part = lambda index: whole(outer[:2] + thumbnail + outer[2:])
    source = open_source(camera_config(server.url), None)
    assert source.grab()
    image = source.retrieve()
    source.release()

    assert image is not None
    assert float(image.mean()) == pytest.approx(171, abs=2)


def test_rubbish_instead_of_pictures_ends_in_an_error_that_says_so(server: MjpegServer) -> None:
    server.part = lambda index: bytes(range(256)) * 40
    source = open_source(camera_config(server.url), None)
    with pytest.raises(CameraError, match=r"no picture came|without a JPEG"):
        source.grab()
    source.release()


def test_a_page_instead_of_a_stream_is_refused(server: MjpegServer) -> None:
    server.kind = "text/html"
    with pytest.raises(CameraError, match=r"must be an MJPEG stream .*, is text/html"):
        open_source(camera_config(server.url), None)


def test_nobody_at_the_address_is_named(start: Callable[..., CameraProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    camera = start(camera_config(f"http://127.0.0.1:{port}/video?user=me&pwd=hush"))
    wait_for(lambda: camera.status() == "gone")

    assert f"http://127.0.0.1:{port}/video: " in camera.detail
    assert "refused" in camera.detail
    assert "hush" not in camera.detail


def test_a_server_that_vanishes_and_comes_back_is_found_again(
    start: Callable[..., CameraProcess], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = MjpegServer()
    port = server.server_address[1]
    camera = start(camera_config(server.url))
    last = next_frame(camera)
    server.close()
    wait_for(lambda: camera.status() == "gone" and camera.process_id is None)
    wait_for(lambda: camera.status() == "gone" and camera.presence.failures >= 3)
    server = MjpegServer(port)
    again = next_frame(camera)
    server.close()

    assert again.number > last.number
    assert [r.message.partition(" camera=")[0] for r in caplog.records] == [
        "camera gone",
        "camera back",
    ]


# The process


def test_a_killed_process_is_replaced(
    server: MjpegServer, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(server.url))
    last = next_frame(camera)
    first_pid = camera.process_id
    assert first_pid is not None
    os.kill(first_pid, signal.SIGKILL)
    wait_for(lambda: camera.status() == "gone")
    assert camera.detail == "its process ended with -9"

    again = next_frame(camera)
    assert again.number > last.number
    assert camera.process_id != first_pid
    assert camera.presence.failures == 1
    assert not Path(f"/proc/{first_pid}").exists()


def test_a_process_that_hangs_is_killed_by_the_monotonic_clock(
    server: MjpegServer, start: Callable[..., CameraProcess]
) -> None:
    ahead_ns = 0
    camera = start(camera_config(server.url), monotonic_ns=lambda: time.monotonic_ns() + ahead_ns)
    next_frame(camera)
    pid = camera.process_id
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    ahead_ns = int(4.5e9)
    camera.newest()
    assert camera.status() == "online"
    ahead_ns = int(6e9)

    assert camera.status() == "gone"
    assert "no picture for" in camera.detail
    wait_for(lambda: camera.status() and not Path(f"/proc/{pid}").exists())


class Held(subprocess.Popen[bytes]):
    """A process that a driver holds in the kernel: no signal ends it."""

    all: ClassVar[list["Held"]] = []

    def __init__(self, _command: list[str], **more: Any) -> None:
        self.is_held = True
        super().__init__(["sleep", "60"], **more)
        self.all.append(self)

    def kill(self) -> None:
        """Have no effect."""

    def poll(self) -> int | None:
        """Not end."""
        return None if self.is_held else super().poll()

    def let_go(self) -> None:
        """End after all."""
        self.is_held = False
        super().kill()
        self.wait()


def test_a_driver_that_holds_processes_is_not_given_more_and_more_of_them(
    start: Callable[..., CameraProcess],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_ns = time.monotonic_ns()
    monkeypatch.setattr("edge_runtime.capture.subprocess.Popen", Held)
    monkeypatch.setattr(Held, "all", held := [])
    try:
        camera = start(camera_config("usb:0"), monotonic_ns=lambda: now_ns)
        for _ in range(600):  # an hour
            now_ns += int(6e9)
            camera.status()
        assert len(held) == MOST_HELD
        assert camera.status() == "gone"
        assert "a driver holds them" in camera.detail
        assert camera.detail.startswith("no picture for ")
        assert caplog.text.count("a driver holds them") == 1

        held[0].let_go()
        camera.status()
        assert len(held) == MOST_HELD + 1
    finally:
        for process in held:
            process.let_go()


def test_pauses_between_attempts_grow_and_stay_short_at_first(
    start: Callable[..., CameraProcess], tmp_path: Path
) -> None:
    ahead_ns = 0
    camera = start(
        camera_config(f"file:{tmp_path}/missing.mp4"),
        monotonic_ns=lambda: time.monotonic_ns() + ahead_ns,
    )
    pauses_s = []
    for attempt in range(1, 6):
        wait_for(lambda attempt=attempt: camera.status() and camera.presence.failures == attempt)
        pauses_s.append(camera.presence.pause_left_s(time.monotonic_ns() + ahead_ns))
        ahead_ns += int(max(pauses_s[-1], 0.0) * 1e9) + 1

    assert pauses_s[0] <= 1.5
    assert pauses_s[-1] > pauses_s[0]
    assert all(pause_s <= 6.0 for pause_s in pauses_s)


@pytest.mark.parametrize("state", ["starting", "streaming", "stopped"])
def test_stops_within_a_second(
    server: MjpegServer, start: Callable[..., CameraProcess], state: str
) -> None:
    camera = start(camera_config(server.url))
    if state != "starting":
        next_frame(camera)
    if state == "stopped":
        os.kill(camera.process_id or 0, signal.SIGSTOP)
    pid = camera.process_id
    started_s = time.monotonic()
    camera.stop(1.0)

    assert time.monotonic() - started_s < 1.0
    assert not Path(f"/proc/{pid}").exists()
    assert camera.newest() is None


def test_a_camera_dies_with_its_daemon(server: MjpegServer) -> None:
    code = (
        "import sys, time; from edge_runtime.capture import CameraProcess;"
        "from transom.config import CameraConfig; import msgspec;"
        "c = CameraProcess(msgspec.json.decode(sys.stdin.readline(), type=CameraConfig));"
        "c.start()\n"
        "while c.newest() is None: time.sleep(0.01)\n"
        "print(c.process_id, flush=True); sys.stdin.read()"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    daemon.stdin.write(msgspec.json.encode(camera_config(server.url)) + b"\n")
    daemon.stdin.flush()
    pid = int(daemon.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    daemon.kill()
    daemon.wait()
    daemon.stdin.close()
    daemon.stdout.close()

    wait_for(lambda: not _is_running(pid), 2.0)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


# Secrets


def test_the_password_reaches_the_camera_and_nobody_else(
    server: MjpegServer, start: Callable[..., CameraProcess], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.credentials = f"me:{SECRET}"
    camera = start(camera_config(server.url, username="me"), SECRET)
    next_frame(camera)
    pid = camera.process_id
    seen = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()

    assert SECRET not in seen
    assert SECRET not in caplog.text + camera.detail + repr(camera)


def test_a_wrong_password_is_an_answer_of_the_camera(
    server: MjpegServer, start: Callable[..., CameraProcess], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.credentials = "me:right"
    camera = start(camera_config(server.url, username="me"), SECRET)
    wait_for(lambda: camera.status() == "gone")

    assert "answers 401" in camera.detail
    assert SECRET not in caplog.text + camera.detail


def test_what_a_library_prints_of_a_url_comes_out_without_the_password(
    start: Callable[..., CameraProcess],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    camera = start(camera_config(f"rtsp://127.0.0.1:{port}/s?key=hush", username="me"), SECRET)
    wait_for(lambda: camera.status() == "gone")
    printed = "".join(capfd.readouterr())

    assert f"rtsp://127.0.0.1:{port}/s: cannot be opened" in camera.detail
    for told in (caplog.text, camera.detail, printed):
        assert "hush" not in told
        assert SECRET not in told
        assert "geheim" not in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tcp] rtsp://a:b@cam/x failed", "[tcp] rtsp://***@cam/x failed"),
        ("open http://cam/x?token=1&u=2 now", "open http://cam/x?*** now"),
        ("open rtsp://cam/x?token=it's\"so now", "open rtsp://cam/x?*** now"),
        ("open rtsp://o'neil:a@b@cam/x now", "open rtsp://***@cam/x now"),
        ("password is geheim", "password is ***"),
        ("as gehe%2Fim", "as ***"),
        ("nothing to hide: 3 of 4?", "nothing to hide: 3 of 4?"),
    ],
)
def test_redacts_what_may_be_a_secret(text: str, expected: str) -> None:
    assert redact(text, ("geheim", "gehe/im")) == expected


def test_a_source_is_shown_without_user_and_query() -> None:
    assert shown_source("rtsp://me:x@cam.lan:554/s?t=1#f") == "rtsp://cam.lan:554/s"
    assert shown_source("usb:0") == "usb:0"


# RTSP, served by a real server


@pytest.fixture
def rtsp(clip: Path) -> Iterator[str]:
    """The address of a real RTSP server on loopback that plays the clip."""
    require_ffmpeg()
    server = RtspServer(clip)
    yield server.url
    server.close()


def test_reads_rtsp_over_tcp_and_heals_from_a_killed_process(
    rtsp: str, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(rtsp))
    frame = next_frame(camera)
    assert frame.image.shape == (96, 128, 3)
    assert next_frame(camera).number > frame.number
    os.kill(camera.process_id or 0, signal.SIGKILL)
    wait_for(lambda: camera.status() == "gone")
    assert next_frame(camera).number > frame.number


def test_only_pictures_are_asked_for_so_that_no_sound_is_waited_for(
    clip: Path, start: Callable[..., CameraProcess]
) -> None:
    require_ffmpeg()
    server = RtspServer(clip)
    try:
        next_frame(start(camera_config(server.url)))
    finally:
        server.close()
    assert server.asked_for == ["track"]


@pytest.mark.parametrize("tells_parameters", [True, False])
def test_a_camera_that_sends_a_key_frame_every_seven_seconds_is_waited_for(
    clip: Path, start: Callable[..., CameraProcess], *, tells_parameters: bool
) -> None:
    require_ffmpeg()
    server = RtspServer(clip, grain=6, key_frame_s=7.0, tells_parameters=tells_parameters)
    try:
        camera = start(camera_config(server.url))
        assert next_frame(camera, 25.0).image.shape == (96, 128, 3)
    finally:
        server.close()

    assert camera.presence.failures == 0


def test_a_camera_that_sends_no_key_frame_at_all_is_told_to(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_ffmpeg()
    monkeypatch.setattr(sources, "OPEN_TIMEOUT_S", 0.8)
    monkeypatch.setattr(sources, "FIRST_PICTURE_S", 2.5)
    server = RtspServer(clip, key_frame_s=60.0)
    try:
        source = open_source(camera_config(server.url), None)
        with pytest.raises(CameraError, match=r"or no key frame came in [345] s; is its path"):
            source.grab()
        source.release()
    finally:
        server.close()


def test_a_camera_that_only_accepts_connections_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started_s = time.monotonic()
        with pytest.raises(CameraError, match="cannot be opened: it does not answer within 3 s"):
            open_source(camera_config(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/s"), None)
    assert time.monotonic() - started_s < 6.0


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ("401 Unauthorized", "it answers 401 Unauthorized; are its user and password right?"),
        ("403 Forbidden", "it answers 403 Forbidden; are its user and password right?"),
        ("404 Not Found", "it answers 404 Not Found; is its path right?"),
        (
            "461 Unsupported Transport",
            "it answers 461 Unsupported Transport; may its stream be had over TCP (interleaved)?",
        ),
        ("453 Not Enough Bandwidth", "it answers 453 Not Enough Bandwidth; is its path right?"),
    ],
)
def test_an_rtsp_camera_that_refuses_says_what_is_wrong(
    clip: Path, start: Callable[..., CameraProcess], refusal: str, told: str
) -> None:
    server = RtspServer(clip, refusal=refusal)
    try:
        camera = start(camera_config(server.url, username="me"), SECRET)
        wait_for(lambda: camera.status() == "gone")
    finally:
        server.close()

    assert camera.detail == f"{server.url}: cannot be opened: {told}"


def test_an_rtsp_camera_that_is_not_there_is_not_said_to_refuse_anybody(
    start: Callable[..., CameraProcess],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    camera = start(camera_config(f"rtsp://127.0.0.1:{port}/s"))
    wait_for(lambda: camera.status() == "gone")

    assert camera.detail == f"rtsp://127.0.0.1:{port}/s: cannot be opened: Connection refused"


def test_a_usb_camera_that_is_not_there_says_what_to_look_at() -> None:
    with pytest.raises(CameraError, match=r"usb:/dev/video99: cannot be opened; is the camera"):
        open_source(camera_config("usb:/dev/video99"), None)


# Damage on the way


@pytest.mark.parametrize("b_frames", [0, 3])
def test_pictures_that_the_decoder_calls_damaged_are_not_delivered(
    tmp_path: Path,
    start: Callable[..., CameraProcess],
    monkeypatch: pytest.MonkeyPatch,
    b_frames: int,
) -> None:
    require_ffmpeg()
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")  # as a user may have it
    whole_path, damaged_path = tmp_path / "whole.ts", tmp_path / "damaged.ts"
    command = "ffmpeg -v error -f lavfi -i testsrc2=s=320x240:r=30:d=4 -c:v libx264 -threads 1"
    command += f" -bf {b_frames} -b_strategy 0 -preset veryfast -g 20 -b:v 600k -f mpegts"
    subprocess.run([*command.split(), str(whole_path)], check=True)
    data = bytearray(whole_path.read_bytes())
    rng = np.random.default_rng(0)
    packets = len(data) // 188
    for packet in range(packets // 6, packets // 2, 12):
        if not data[packet * 188 + 1] & 0x40:  # the start of a picture stays as it is
            data[packet * 188 + 100 : packet * 188 + 104] = rng.bytes(4)
    damaged_path.write_bytes(data)
    originals = [shrunk(frame.image) for frame in read_file(whole_path)]
    decoded = [is_damaged(frame.image, originals) for frame in read_file(damaged_path)]

    camera = start(camera_config(f"file:{damaged_path}"))
    images = []
    while camera.status() != "gone":
        frame = camera.newest()
        images.extend([] if frame is None else [frame.image])
    delivered = [is_damaged(image, originals) for image in images]

    assert sum(decoded) >= 20  # without the decoder's word they would all have been used
    assert sum(delivered) <= sum(decoded) // 10
    assert len(delivered) >= 40


def test_a_stream_come_upon_in_its_midst_is_used_from_its_first_key_frame_on(
    tmp_path: Path, start: Callable[..., CameraProcess]
) -> None:
    x265 = "-preset ultrafast -x265-params log-level=none:bframes=0:keyint=10:min-keyint=10"
    path = encoded(tmp_path / "stream.hevc", f"-c:v libx265 {x265}")
    units = re.split(rb"\x00*\x00\x00\x01", path.read_bytes())[1:]
    del units[next(i for i, unit in enumerate(units) if 16 <= unit[0] >> 1 & 63 <= 21)]
    path.write_bytes(b"".join(b"\x00\x00\x01" + unit for unit in units))

    assert next_frame(start(camera_config(f"file:{path}"))).key_frames == 1


def test_after_packets_that_a_camera_left_out_a_key_frame_is_waited_for(
    clip: Path, start: Callable[..., CameraProcess]
) -> None:
    require_ffmpeg()
    server = RtspServer(clip, grain=6, key_frame_s=3.0, lost_s=(4.0, 4.4))
    try:
        camera = start(camera_config(server.url))
        frames = [next_frame(camera)]
        while frames[-1].key_frames == frames[0].key_frames:
            frames.append(next_frame(camera))
    finally:
        server.close()

    assert len(frames) > 5  # the first key frame came after 3 s, the next after 6 s
    assert (frames[-1].taken_ns - frames[-2].taken_ns) / 1e9 > 1.2
    assert camera.presence.failures == 0


def shrunk(image: Image) -> npt.NDArray[np.int16]:
    return np.asarray(cv2.resize(image, (80, 60), interpolation=cv2.INTER_AREA), np.int16)


def is_damaged(image: Image, originals: list[npt.NDArray[np.int16]]) -> bool:
    """Whether some part of a picture is far from that part of every picture that was sent."""
    small = shrunk(image)
    parts = [np.abs(small - one).reshape(15, 4, 20, 4, 3).mean(axis=(1, 3, 4)) for one in originals]
    return float(min(part.max() for part in parts)) > 12.0


# The memory between the processes


@contextmanager
def written_by(code: str) -> Iterator[tuple[FrameRing, "subprocess.Popen[bytes]"]]:
    """Yield memory that another process writes, which calls it `ring`, and that process."""
    start = (
        "import fcntl, itertools, sys, time, numpy as np\n"
        "from edge_runtime.frame_ring import FrameRing\n"
        "ring = FrameRing(int(sys.argv[1]))\n"
    )
    ring = FrameRing()
    with subprocess.Popen(
        [sys.executable, "-c", start + code, str(ring.descriptor)],
        pass_fds=(ring.descriptor,),
        stdout=subprocess.PIPE,
    ) as writer:
        try:
            yield ring, writer
        finally:
            writer.kill()
            ring.close()


def test_a_frame_is_read_whole_while_the_other_process_writes() -> None:
    code = (
        "for index in itertools.count(1):\n"
        "    ring.write(np.full((480, 640, 3), index % 256, np.uint8), index)"
    )
    with written_by(code) as (ring, writer):
        number = seen = 0
        while seen < 300:
            assert writer.poll() is None
            frame = ring.newest(number)
            if frame is None:
                continue
            assert frame.number > number
            assert frame.taken_ns == frame.number
            assert (frame.image == frame.number % 256).all()
            number, seen = frame.number, seen + 1
    assert not open_rings()


def test_the_time_of_the_last_picture_never_goes_back_while_the_other_process_writes_it() -> None:
    with written_by("for now in itertools.count(1 << 40): ring.mark_alive(now)") as (ring, writer):
        wait_until(ring.alive_ns)
        moments = [ring.alive_ns() for _ in range(300_000)]
        assert writer.poll() is None
    assert moments[0] < moments[-1]
    assert moments == sorted(moments)


def test_a_writer_that_dies_while_writing_leaves_the_other_frame() -> None:
    code = (
        "for level in (1, 2): ring.write(np.full((48, 64, 3), level, np.uint8), level)\n"
        "fcntl.lockf(ring.descriptor, fcntl.LOCK_EX, 1, 1)\n"
        "print('holds', flush=True); time.sleep(60)"
    )
    with written_by(code) as (ring, writer):
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"holds\n"
        held = ring.newest()
        writer.kill()
        writer.wait()
        freed = ring.newest()

    assert held is not None
    assert held.number == 1
    assert freed is not None
    assert freed.number == 2


def test_refuses_a_frame_that_is_too_large_or_no_frame() -> None:
    ring = FrameRing()
    with pytest.raises(ValueError, match="larger than 16 megapixels"):
        ring.write(np.zeros((4097, 4096, 3), np.uint8), 1)
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8"):
        ring.write(np.zeros((48, 64), np.uint8), 1)
    ring.close()
