"""Pictures that cannot be judged, and those that must not be mistaken for them."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.picture import HEAL_S, PictureHealth

Image = npt.NDArray[np.uint8]
Scene = Callable[..., Image]
SHAPE = (480, 640, 3)


def noisy(level: float, noise: float, seed: int = 0) -> Image:
    values = np.random.default_rng(seed).normal(level, noise, SHAPE)
    return np.clip(values, 0, 255).astype(np.uint8)


def graded(seed: int = 0) -> Image:
    ramp = np.linspace(60.0, 120.0, SHAPE[1])[None, :, None]
    noise = np.random.default_rng(seed).normal(0.0, 8.0, SHAPE)
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def half_decoded(scene: Scene, filling: tuple[int, int, int], share: float = 0.5) -> Image:
    image = scene()
    image[int(SHAPE[0] * (1 - share)) :] = filling
    return image


def smeared(scene: Scene) -> Image:
    """The scene of which a decoder draws the last row that arrived down to the bottom."""
    image = scene()
    image[350:] = image[350]
    return image


def without_chroma(scene: Scene) -> Image:
    """The scene as it looks when a decoder gives the luma and no chroma planes."""
    planes = cv2.cvtColor(scene(), cv2.COLOR_BGR2YUV_I420)
    planes[SHAPE[0] :] = 0
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda scene: noisy(6, 4), "dark"),
        (lambda scene: np.zeros(SHAPE, np.uint8), "dark"),
        (lambda scene: noisy(254, 2), "bright"),
        (lambda scene: (0.1 * scene() + 228).astype(np.uint8), "bright"),
        (lambda scene: noisy(128, 10), "covered"),
        (lambda scene: noisy(90, 20), "covered"),
        (lambda scene: np.full(SHAPE, 90, np.uint8), "covered"),
        (lambda scene: graded(), "covered"),
        (lambda scene: half_decoded(scene, (0, 135, 0)), "corrupt"),
        (lambda scene: half_decoded(scene, (0, 154, 0), 0.1), "corrupt"),
        (lambda scene: half_decoded(scene, (130, 130, 130)), "corrupt"),
        (lambda scene: half_decoded(scene, (128, 128, 128), 1.0), "corrupt"),
        (lambda scene: half_decoded(scene, (0, 135, 0), 1.0), "corrupt"),
        (without_chroma, "corrupt"),
        (smeared, "corrupt"),
    ],
)
def test_names_what_is_wrong_with_a_picture(
    scene: Scene, make: Callable[[Scene], Image], reason: str
) -> None:
    assert PictureHealth().judge(make(scene), 0.0) == reason


def night(scene: Scene) -> Image:
    """An infra-red picture: no colour, little contrast, a sensor at its limit."""
    grey = 0.4 * cv2.cvtColor(scene(noise=0.0), cv2.COLOR_BGR2GRAY) + 20.0
    grey = grey + np.random.default_rng(3).normal(0.0, 12.0, grey.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda scene: scene(),
        lambda scene: scene(noise=25.0),
        lambda scene: scene(230.0),
        lambda scene: scene(height=240),
        lambda scene: scene(height=1080),
        night,
    ],
)
def test_a_picture_of_a_room_is_usable_by_day_and_by_night(
    scene: Scene, make: Callable[[Scene], Image]
) -> None:
    assert PictureHealth().judge(make(scene), 0.0) is None


def test_an_infrared_wall_of_medium_grey_is_not_taken_for_a_decoders_filling(scene: Scene) -> None:
    image = night(scene)
    image[240:] = np.clip(
        np.random.default_rng(1).normal(129.0, 2.0, (240, 640, 1)), 0, 255
    ).astype(np.uint8)

    assert PictureHealth().judge(image, 0.0) is None


def test_the_same_picture_again_and_again_is_frozen_after_four_seconds(scene: Scene) -> None:
    health, image = PictureHealth(), scene()

    reasons = [health.judge(image.copy(), index / 5) for index in range(40)]

    assert reasons[:20] == [None] * 20
    assert reasons[20:] == ["frozen"] * 20


def test_a_still_scene_with_a_sensors_noise_is_not_frozen(scene: Scene) -> None:
    health = PictureHealth()
    moments = (scene(seed=seed, noise=0.5, height=240) for seed in range(60))

    assert {health.judge(moment, index / 5) for index, moment in enumerate(moments)} == {None}


def test_a_few_exact_repeats_are_not_frozen(scene: Scene) -> None:
    health = PictureHealth()

    reasons = {health.judge(scene(seed=index // 4), index / 5) for index in range(24)}

    assert reasons == {None}


def test_a_slow_camera_is_frozen_only_after_several_repeats(scene: Scene) -> None:
    health, image = PictureHealth(), scene()

    reasons = [health.judge(image, index * 10.0) for index in range(6)]

    assert reasons == [None, None, None, None, "frozen", "frozen"]


def test_a_frozen_stream_heals_by_itself_when_it_moves_again(scene: Scene) -> None:
    health, image = PictureHealth(), scene()
    for index in range(30):
        health.judge(image, index / 5)

    reasons = [health.judge(scene(seed=1 + index), 6.0 + index / 5) for index in range(10)]

    healed = int(HEAL_S * 5 + 0.5)
    assert reasons[:healed] == ["frozen"] * healed
    assert reasons[healed + 1 :] == [None] * (10 - healed - 1)


def test_one_corrupt_picture_is_refused_at_once_and_healed_soon(scene: Scene) -> None:
    health = PictureHealth()
    assert health.judge(scene(seed=0), 0.0) is None
    assert health.judge(half_decoded(scene, (0, 135, 0)), 0.2) == "corrupt"
    assert health.judge(scene(seed=1), 0.4) == "corrupt"
    assert health.judge(scene(seed=2), 0.4 + HEAL_S) is None


def test_a_picture_at_the_border_of_darkness_does_not_flicker() -> None:
    random = np.random.default_rng(0)

    def evening(top: float) -> Image:
        columns = np.arange(SHAPE[1])[None, :, None] // 40 % 2
        noise = random.integers(0, 2, SHAPE)
        return (columns * top + noise).astype(np.uint8)

    health = PictureHealth()
    assert health.judge(evening(27.0), 0.0) is None
    assert health.judge(evening(20.0), 1.0) == "dark"
    assert [health.judge(evening(27.0), 2.0 + i) for i in range(5)] == ["dark"] * 5
    assert health.judge(evening(60.0), 8.0) == "dark"
    assert health.judge(evening(61.0), 8.0 + HEAL_S) is None


def test_a_change_of_resolution_is_not_frozen_and_no_error(scene: Scene) -> None:
    health = PictureHealth()
    assert health.judge(scene(height=480), 0.0) is None
    assert health.judge(scene(height=720), 0.2) is None


def test_refuses_what_is_not_a_picture() -> None:
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8, got \(480, 640\) uint8"):
        PictureHealth().judge(np.zeros((480, 640), np.uint8), 0.0)
