"""Streams that stand still and streams that are stuck, as encoders make them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.clips import read_file
from edge_runtime.frozen import KEYLESS_S, FreezeWatch

Image = npt.NDArray[np.uint8]
Scene = Callable[..., Image]

FPS = 10
STUCK_S = 8
SECONDS = 22

ENCODERS = {
    "H.264, key frame each second": "-c:v libx264 -preset veryfast -crf 28 -g 10",
    "H.264, poor, key frame in three seconds": "-c:v libx264 -preset veryfast -qp 42 -g 30",
    "H.265": "-c:v libx265 -preset ultrafast -crf 34 -g 20 -x265-params log-level=none",
    "MPEG-4": "-c:v mpeg4 -q:v 12 -g 12",
    "MJPEG": "-c:v mjpeg -q:v 14 -pix_fmt yuvj420p",
}


@pytest.fixture(scope="module")
def moments(scene: Scene) -> list[Image]:
    """A still scene under a weak sensor noise, of which an encoder leaves little."""
    still = scene(noise=0.0, height=240).astype(np.float32)
    random = np.random.default_rng(3)
    return [
        np.clip(np.rint(still + random.normal(0.0, 0.6, still.shape)), 0, 255).astype(np.uint8)
        for _ in range(SECONDS * FPS)
    ]


def encode(path: Path, pictures: list[Image], options: str) -> Path:
    if shutil.which("ffmpeg") is None:
        text = "ffmpeg is not installed"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    height, width = pictures[0].shape[:2]
    command = f"ffmpeg -v error -y -f rawvideo -pix_fmt bgr24 -s {width}x{height} -r {FPS} -i -"
    command += f" -pix_fmt yuv420p -threads 1 {options}"
    raw = b"".join(picture.tobytes() for picture in pictures)
    subprocess.run([*command.split(), str(path)], input=raw, check=True)
    return path


def frozen_times(path: Path) -> list[float]:
    """Return when a clip is called frozen, seconds, looked at five times a second."""
    watch = FreezeWatch()
    return [
        picture.clip_s
        for index, picture in enumerate(read_file(path))
        if index % 2 == 0 and watch.is_frozen(picture.image, picture.clip_s, picture.key_frames)
    ]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_still_scene_is_alive_however_little_an_encoder_leaves_of_its_noise(
    moments: list[Image], tmp_path: Path, encoder: str
) -> None:
    path = encode(tmp_path / "still.mkv", moments, ENCODERS[encoder])

    assert frozen_times(path) == []


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_stream_whose_picture_is_stuck_is_frozen_within_three_key_frames_and_ten_seconds(
    moments: list[Image], tmp_path: Path, encoder: str
) -> None:
    alive = moments[: STUCK_S * FPS]
    pictures = alive + [alive[-1]] * (len(moments) - len(alive))
    times_s = frozen_times(encode(tmp_path / "stuck.mkv", pictures, ENCODERS[encoder]))

    assert times_s
    assert STUCK_S + 3.0 < times_s[0] <= STUCK_S + 13.0
    assert len(times_s) == round((SECONDS - times_s[0]) * FPS / 2)  # and stays so


def test_a_clock_that_a_camera_writes_into_a_stuck_picture_does_not_make_it_alive(
    moments: list[Image], tmp_path: Path
) -> None:
    def with_clock(index: int) -> Image:
        picture = moments[0].copy()
        text = f"2026-11-28 12:00:{index // FPS:02d}"
        cv2.putText(picture, text, (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
        return picture

    pictures = [with_clock(index) for index in range(12 * FPS)]
    path = encode(tmp_path / "clock.mkv", pictures, ENCODERS["MJPEG"])

    assert frozen_times(path)


def black_but_for(window: Image) -> Image:
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[100:220, 400:480] = window
    return picture


def test_a_dark_room_with_one_bright_window_is_alive() -> None:
    random = np.random.default_rng(0)
    watch = FreezeWatch()

    found = [
        watch.is_frozen(
            black_but_for(random.integers(118, 122, (120, 80, 3), np.uint8)), index / 5, None
        )
        for index in range(60)
    ]

    assert not any(found)


def played_at_five(picture: Image, count: int) -> Iterator[tuple[Image, float]]:
    return ((picture, index / 5) for index in range(count))


def test_pictures_between_two_key_frames_say_nothing(scene: Scene) -> None:
    watch, picture = FreezeWatch(), scene()

    assert not any(watch.is_frozen(p, now_s, 1) for p, now_s in played_at_five(picture, 500))


def test_a_stream_without_key_frames_is_frozen_after_ten_minutes(scene: Scene) -> None:
    watch, picture = FreezeWatch(), scene(height=120)
    found = [watch.is_frozen(picture, float(now_s), 1) for now_s in range(0, 700, 5)]

    assert found.index(True) == KEYLESS_S / 5


def test_a_clip_that_is_played_over_and_over_is_alive(scene: Scene) -> None:
    watch = FreezeWatch()
    clip = [scene(seed=seed, height=120) for seed in range(15)]

    assert not any(watch.is_frozen(clip[i % 15], i / 5, None) for i in range(150))


def test_a_short_cycle_of_pictures_is_what_a_stuck_stream_looks_like(scene: Scene) -> None:
    watch = FreezeWatch()
    cycle = [scene(seed=seed, height=120) for seed in range(3)]
    found = [watch.is_frozen(cycle[i % 3], i / 5, i // 3) for i in range(60)]

    assert any(found)


def test_a_frozen_picture_is_alive_again_when_something_new_comes_twice(scene: Scene) -> None:
    watch, picture = FreezeWatch(), scene(height=120)
    for stuck, now_s in played_at_five(picture, 40):
        watch.is_frozen(stuck, now_s, None)
    after = [scene(seed=1 + i, height=120) for i in range(3)]

    assert [watch.is_frozen(p, 8.0 + i / 5, None) for i, p in enumerate(after)] == [
        True,
        False,
        False,
    ]


def test_a_picture_too_small_to_judge_is_alive() -> None:
    watch, picture = FreezeWatch(), np.full((6, 6, 3), 90, np.uint8)

    assert not any(watch.is_frozen(p, now_s, None) for p, now_s in played_at_five(picture, 60))
