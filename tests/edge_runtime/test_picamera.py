"""The Pi's own camera and what libraries do in a camera's process: leak, fail and hang."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.capture import CameraProcess
from edge_runtime.sources import open_source
from tests.edge_runtime.cameras import camera_config, next_frame, started_cameras, wait_for
from transom.config import CaptureConfig
from transom.errors import CameraError

WORKS, MISSING, LEAKS, BURSTS, FAILS, HANGS = range(6)  # of the library in `boundary`
SMALL = CaptureConfig(memory_mb=96)


@pytest.fixture
def start() -> Iterator[Callable[..., CameraProcess]]:
    """Start cameras; afterwards none of their processes may be left."""
    yield from started_cameras()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picamera2 that processes started by this one can import."""
    folder = str(Path(__file__).parent / "boundary")
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)


def test_a_pi_camera_gives_frames_in_the_order_of_colours_that_the_network_takes(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{WORKS}", fps=10))
    frame = next_frame(camera)

    assert frame.image.shape == (720, 1280, 3)
    assert frame.image[100, 101].tolist() == [30, 30, 200]
    later = next_frame(camera)
    assert (later.key_frames or 0) > (frame.key_frames or 0)
    assert "picamera2" not in sys.modules


def test_a_pi_camera_that_is_not_there_is_named(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{MISSING}"))
    wait_for(lambda: camera.status() == "gone")

    assert camera.detail == (
        f"picamera:{MISSING}: no camera of this number is connected; is its cable in?"
    )


def test_a_pi_camera_that_another_program_holds_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "boundary")
    try:
        source = open_source(camera_config(f"picamera:{WORKS}"), None)
        with pytest.raises(CameraError, match=r"cannot be opened: Failed to acquire .* busy"):
            open_source(camera_config(f"picamera:{WORKS}"), None)
        source.release()
    finally:
        sys.modules.pop("picamera2", None)


def test_a_pi_camera_that_fails_is_opened_again(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{FAILS}"))
    next_frame(camera)
    wait_for(lambda: camera.status() == "gone")
    assert camera.detail == f"picamera:{FAILS}: gives no picture: camera frontend has timed out"

    assert next_frame(camera).number > 1


def test_a_pi_camera_whose_library_hangs_is_killed_and_opened_again(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{HANGS}"))
    first = next_frame(camera)
    wait_for(lambda: camera.status() == "gone")
    assert "no picture for" in camera.detail

    assert next_frame(camera).number > first.number


def test_a_process_that_leaks_is_replaced_at_its_ceiling(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{LEAKS}"), capture=SMALL)
    first = next_frame(camera)
    wait_for(lambda: camera.status() == "gone", 60.0)
    assert "MiB, 96 MiB is the most" in camera.detail

    assert next_frame(camera).number > first.number


def test_a_process_that_takes_a_board_s_memory_at_once_is_refused_it(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{BURSTS}"), capture=SMALL)
    wait_for(lambda: camera.status() == "gone")

    assert camera.detail == "its process asked for more than 192 MiB"


def test_the_kernel_takes_a_camera_s_process_before_the_daemon(
    library: None, start: Callable[..., CameraProcess]
) -> None:
    camera = start(camera_config(f"picamera:{WORKS}"))
    next_frame(camera)
    own, its = (
        int(Path(f"/proc/{process}/oom_score_adj").read_text())
        for process in (os.getpid(), camera.process_id)
    )

    assert its >= min(own + 200, 1000)


def test_a_pi_camera_without_its_library_says_what_to_install() -> None:
    if shutil.which("rpicam-hello") is not None:
        pytest.skip("this machine has a Pi camera")
    with pytest.raises(CameraError, match="install python3-picamera2"):
        open_source(camera_config("picamera:0"), None)
