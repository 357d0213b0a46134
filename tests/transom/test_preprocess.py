from typing import get_args

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transom.manifest import InputSpec
from transom.preprocess import Step, preprocess

Crop = npt.NDArray[np.uint8]

STEPS: tuple[Step, ...] = get_args(Step)
every_step = pytest.mark.parametrize("step", STEPS)


def noisy(size: int = 32, noise: float = 20.0) -> Crop:
    """A wall with a dark gap, as a camera sees it at night."""
    rng = np.random.default_rng(0)
    crop = np.full((size, size, 3), (90.0, 110.0, 130.0))
    crop[:, size // 2 :] = 30.0
    return (crop + rng.normal(0.0, noise, crop.shape)).clip(0, 255).astype(np.uint8)


def neighbours(crop: Crop) -> npt.NDArray[np.float64]:
    """The 9 pixels around every inner pixel, (9, S - 2, S - 2, 3)."""
    size = crop.shape[0]
    return np.stack(
        [crop[y : size - 2 + y, x : size - 2 + x] for y in range(3) for x in range(3)]
    ).astype(np.float64)


@every_step
def test_a_step_makes_another_crop_and_leaves_its_own_alone(step: Step) -> None:
    crop = noisy()
    before = crop.copy()
    result = preprocess(crop, [step])
    assert (result.shape, result.dtype) == (crop.shape, np.uint8)
    assert result.flags.c_contiguous
    assert (crop == before).all()
    assert (result != crop).any()
    assert (preprocess(crop, [step]) == result).all()


@every_step
@pytest.mark.parametrize("size", [16, 17, 224])
def test_a_step_takes_any_size(step: Step, size: int) -> None:
    assert preprocess(noisy(size), [step]).shape == (size, size, 3)


@every_step
def test_a_step_takes_crops_that_may_not_be_written(step: Step) -> None:
    crop = noisy()
    crop.flags.writeable = False
    preprocess(crop, [step])


def test_without_steps_the_crop_is_the_crop() -> None:
    crop = noisy()
    assert preprocess(crop, ()) is crop


def test_steps_are_done_in_their_order() -> None:
    crop = noisy()
    both = preprocess(crop, ["median", "sharpen"])
    assert (both == preprocess(preprocess(crop, ["median"]), ["sharpen"])).all()
    assert (both != preprocess(crop, ["sharpen", "median"])).any()


def test_gaussian_weighs_the_middle_with_a_quarter() -> None:
    weights = np.outer([1, 2, 1], [1, 2, 1]).ravel() / 16
    expected = np.tensordot(weights, neighbours(noisy()), 1)
    found = preprocess(noisy(), ["gaussian"])[1:-1, 1:-1]
    assert np.abs(found - expected).max() <= 1.0


def test_median_is_the_median_of_nine() -> None:
    expected = np.median(neighbours(noisy()), axis=0)
    assert (preprocess(noisy(), ["median"])[1:-1, 1:-1] == expected).all()


@pytest.mark.parametrize("step", ["gaussian", "median", "bilateral"])
def test_denoising_takes_noise_away(step: Step) -> None:
    wall = preprocess(noisy(noise=10.0), [step])[2:-2, 2:13].astype(float)
    assert wall.std((0, 1)).mean() < 0.6 * noisy(noise=10.0)[2:-2, 2:13].std((0, 1)).mean()


def test_bilateral_keeps_what_a_gaussian_smears() -> None:
    def step_of(crop: Crop) -> float:
        grey = crop.mean((0, 2))
        return float(grey[15] - grey[16])

    crop = noisy(noise=4.0)
    assert step_of(preprocess(crop, ["bilateral"])) > 0.9 * step_of(crop)
    assert step_of(preprocess(crop, ["gaussian"])) < 0.6 * step_of(crop)


def test_sharpen_adds_half_of_what_smoothing_takes_away() -> None:
    crop = preprocess(noisy(), ["gaussian"])
    smooth = cv2.GaussianBlur(crop, (5, 5), 0).astype(float)
    expected = (1.5 * crop - 0.5 * smooth).clip(0, 255)
    assert np.abs(preprocess(crop, ["sharpen"]) - expected).max() <= 0.5


def test_clahe_shows_what_is_in_the_dark_and_leaves_colours() -> None:
    rng = np.random.default_rng(0)
    panels = np.repeat(np.repeat(rng.integers(20, 60, (16, 16)), 4, 0), 4, 1)
    dim = (panels[..., None] * (0.8, 1.0, 1.1)).astype(np.uint8)
    result = preprocess(dim, ["clahe"])
    assert result.mean(2).std() > 1.5 * dim.mean(2).std()
    hues = [cv2.cvtColor(c, cv2.COLOR_BGR2LAB)[..., 1:].astype(int) for c in (dim, result)]
    assert np.abs(hues[0] - hues[1]).max() <= 4


def test_brighten_lifts_shadows_and_keeps_black_and_white() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    found = preprocess(ramp, ["brighten"]).reshape(256, 3)
    assert (found[0].tolist(), found[255].tolist()) == ([0] * 3, [255] * 3)
    assert (np.diff(found.astype(int), axis=0) >= 0).all()
    assert np.abs(found[:, 0] - 255 * (np.arange(256) / 255) ** 0.6).max() <= 0.5


@given(st.lists(st.sampled_from(STEPS), max_size=8), st.integers(0, 2**32 - 1))
def test_any_steps_in_any_order_give_a_crop(steps: list[Step], seed: int) -> None:
    crop = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    result = preprocess(crop, steps)
    assert (result.shape, result.dtype) == (crop.shape, np.uint8)


def test_a_step_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"must be one of gaussian, .*, brighten, got 'polish'"):
        preprocess(noisy(), ["polish"])  # type: ignore[list-item]


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (2, 16, 16, 3)])
def test_what_is_no_crop_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="crop must be"):
        preprocess(np.zeros(shape, np.uint8), ["median"])


def test_a_manifest_without_steps_is_the_manifest_it_was() -> None:
    for spec in (InputSpec(size=16), InputSpec(size=16, margin=0.0, preprocess=())):
        assert msgspec.json.encode(spec) == b'{"size":16,"margin":0.0}'


def test_a_manifest_with_steps_says_them_in_order() -> None:
    spec = InputSpec(size=16, margin=0.1, preprocess=("median", "clahe"))
    data = msgspec.json.encode(spec)
    assert data == b'{"size":16,"margin":0.1,"preprocess":["median","clahe"]}'
    assert msgspec.json.decode(data, type=InputSpec) == spec


def test_a_manifest_with_a_step_that_this_transom_lacks_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"'polish' - at `\$.preprocess\[1\]`"):
        msgspec.json.decode(b'{"size":16,"preprocess":["median","polish"]}', type=InputSpec)
