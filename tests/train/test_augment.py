import msgspec
import numpy as np
import pytest
import torch

from train.augment import Augment
from train.recipe import Augmentation

OFF = Augmentation(
    flip=0,
    zoom=1,
    stretch=0,
    shift=0,
    rotate_deg=0,
    brightness=0,
    contrast=0,
    gamma=0,
    saturation=0,
    tint=0,
    grey=0,
    noise=0,
    blur=0,
    cutout=0,
)


def only(**amounts):
    return Augment(msgspec.structs.replace(OFF, **amounts))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def crops():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 24, 3), np.uint8)
    return torch.from_numpy(pixels)


def as_image(crops):
    return crops.permute(0, 3, 1, 2).float()


def test_a_batch_comes_out_as_the_network_takes_it(crops):
    image = Augment(Augmentation())(crops, seeded())
    assert image.shape == (16, 3, 24, 24)
    assert image.dtype == torch.float32
    assert image.min() >= 0
    assert image.max() <= 255
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_with_every_amount_at_zero_the_pixels_stay(crops):
    torch.testing.assert_close(Augment(OFF)(crops, seeded()), as_image(crops), atol=1e-3, rtol=0)


def test_the_same_generator_gives_the_same_pictures_and_another_gives_others(crops):
    augment = Augment(Augmentation())
    assert torch.equal(augment(crops, seeded(1)), augment(crops, seeded(1)))
    assert not torch.equal(augment(crops, seeded(1)), augment(crops, seeded(2)))


def test_the_batch_given_is_left_as_it_was(crops):
    before = crops.clone()
    Augment(Augmentation())(crops, seeded())
    assert torch.equal(crops, before)


def test_a_certain_flip_is_the_mirror_image(crops):
    mirrored = only(flip=1)(crops, seeded())
    torch.testing.assert_close(mirrored, as_image(crops).flip(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "amounts",
    [
        {"zoom": 0.6},
        {"stretch": 0.3},
        {"shift": 0.2},
        {"rotate_deg": 30},
        {"brightness": 0.3},
        {"contrast": 0.5},
        {"gamma": 1.0},
        {"saturation": 0.8},
        {"tint": 0.3},
        {"grey": 1.0},
        {"noise": 20},
        {"blur": 1.0},
        {"cutout": 1.0},
    ],
)
def test_every_amount_changes_pictures_by_itself(crops, amounts):
    changed = only(**amounts)(crops, seeded())
    difference = (changed - as_image(crops)).abs().mean((1, 2, 3))
    assert (difference > 0.5).sum() >= 12


def test_an_infrared_picture_has_no_colour(crops):
    image = only(grey=1.0)(crops, seeded())
    torch.testing.assert_close(image[:, 0], image[:, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(image[:, 1], image[:, 2], atol=1e-3, rtol=0)


def test_brightness_and_contrast_keep_a_grey_picture_grey():
    grey = torch.full((8, 16, 16, 3), 100, dtype=torch.uint8)
    image = only(brightness=0.2, contrast=0.5, saturation=0.5)(grey, seeded())
    assert image.flatten(1).std(1).max() < 1e-2
    assert (image[:, 0, 0, 0] - 100).abs().max() <= 51


def test_saturation_keeps_the_brightness(crops):
    weights = torch.tensor([0.114, 0.587, 0.299]).view(1, 3, 1, 1)
    soft = (crops // 2) + 64
    image = only(saturation=0.3)(soft, seeded())
    torch.testing.assert_close(
        (image * weights).sum(1), (as_image(soft) * weights).sum(1), atol=0.1, rtol=0
    )


def test_what_a_shift_uncovers_repeats_the_border():
    crops = torch.zeros(8, 16, 16, 3, dtype=torch.uint8)
    crops[:, :, :8] = 200
    image = only(shift=0.2)(crops, seeded())
    assert (image[:, :, :, 0] - 200).abs().max() < 1e-3
    assert image[:, :, :, -1].abs().max() < 1e-3


def test_a_blur_keeps_the_mean_and_lowers_the_contrast(crops):
    image, before = only(blur=1.0)(crops, seeded()), as_image(crops)
    assert (image.std((1, 2, 3)) < before.std((1, 2, 3))).all()
    torch.testing.assert_close(image.mean((1, 2, 3)), before.mean((1, 2, 3)), atol=6, rtol=0)


def test_a_cutout_covers_at_most_a_quarter():
    white = torch.full((64, 32, 32, 3), 255, dtype=torch.uint8)
    share = (only(cutout=1.0)(white, seeded())[:, 0] == 127).float().mean((1, 2))
    assert share.min() > 0
    assert share.max() <= 0.29


def test_noise_has_no_bias_and_at_most_the_asked_spread():
    grey = torch.full((64, 32, 32, 3), 127, dtype=torch.uint8)
    noise = only(noise=10)(grey, seeded()) - 127
    assert noise.mean().abs() < 0.1
    assert noise[:, 0].std((1, 2)).max() < 10.7
