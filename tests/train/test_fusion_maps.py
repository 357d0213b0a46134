import numpy as np
import pytest
import torch

from train.fusion.maps import MAPS, PixelMaps, edge_filters, gabor_filters, neighbour_filters

GREY = (255.0, 255.0, 255.0)
IMAGENET = (57.375, 57.12, 58.395)


def picture(grey: np.ndarray, std: tuple[float, float, float] = GREY) -> torch.Tensor:
    """Grey levels (S, S), 0 to 255, as normalised pixels (1, 3, S, S)."""
    planes = torch.from_numpy(grey).float().expand(1, 3, *grey.shape)
    return (planes - 117.0) / torch.tensor(std).view(1, 3, 1, 1)


def halves() -> np.ndarray:
    grey = np.zeros((32, 32))
    grey[:, 16:] = 255
    return grey


def waves(wavelength: float, *, across: bool) -> np.ndarray:
    wave = 127.5 + 60 * np.cos(2 * np.pi * np.arange(32) / wavelength)
    return np.tile(wave, (32, 1)) if across else np.tile(wave[:, None], (1, 32))


@pytest.mark.parametrize("make", [edge_filters, gabor_filters, neighbour_filters])
def test_a_filter_sees_differences_only(make):
    filters = make()
    assert filters.shape[1] == filters.shape[2]
    assert filters.shape[1] % 4 == 1
    np.testing.assert_allclose(filters.sum((1, 2)), 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "level"), [("edge", 0.0), ("texture", 0.0), ("binary_pattern", 3)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_plain_wall_says_nothing(name, level, stride):
    maps = PixelMaps((name,), GREY, stride)(picture(np.full((32, 32), 200.0)))
    assert maps.shape == (1, len(MAPS[name].filters), 32 // stride, 32 // stride)
    inner = maps[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(inner, torch.full_like(inner, level), atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", list(MAPS))
def test_the_border_of_the_picture_is_no_edge(name):
    maps = PixelMaps((name,), GREY, 1)(picture(np.full((32, 32), 250.0)))
    border = torch.cat([maps[:, :, 0], maps[:, :, -1], maps[..., 0], maps[..., -1]], -1)
    assert not border.any()


def test_an_edge_is_where_it_is_and_has_a_direction():
    brighter, below, darker, above = PixelMaps(("edge",), GREY, 1)(picture(halves()))[0]
    torch.testing.assert_close(brighter[16, 15:17], torch.tensor([6.0, 6.0]), atol=1e-3, rtol=0)
    beside = torch.cat([brighter[16, :15], brighter[16, 17:]])
    assert max(beside.max(), below.max(), above.max(), darker.max()) < 1e-3


@pytest.mark.parametrize(("wavelength", "first"), [(4.0, 0), (8.0, 4)])
def test_a_texture_answers_to_its_wavelength_and_direction(wavelength, first):
    maps = PixelMaps(("texture",), GREY, 1)
    for across, direction in ((True, 0), (False, 2)):
        response = maps(picture(waves(wavelength, across=across)))[0, :8]
        assert int(response.mean((1, 2)).argmax()) == first + direction


def test_a_binary_pattern_does_not_care_how_bright_it_is():
    rng = np.random.default_rng(0)
    grey = rng.integers(40, 120, (32, 32)).astype(np.float64)
    maps = PixelMaps(("binary_pattern",), GREY, 1)
    torch.testing.assert_close(maps(picture(grey)), maps(picture(grey + 90)), atol=2e-3, rtol=0)
    brighter = np.roll(grey, 1, axis=1) > grey + 8
    found = maps(picture(grey))[0, 3].numpy()  # the neighbour on the left
    inner = (slice(2, -2), slice(2, -2))
    assert (found[inner][brighter[inner]] == 6).all()


@pytest.mark.parametrize("name", list(MAPS))
def test_maps_do_not_depend_on_how_a_backbone_normalises(name):
    grey = np.random.default_rng(2).integers(0, 256, (32, 32)).astype(np.float64)
    expected = PixelMaps((name,), GREY, 2)(picture(grey))
    found = PixelMaps((name,), IMAGENET, 2)(picture(grey, IMAGENET))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)


def test_banks_of_different_reach_lie_on_each_other():
    grey = np.random.default_rng(3).integers(0, 256, (32, 32)).astype(np.float64)
    both = PixelMaps(("texture", "edge"), GREY, 2)(picture(grey))
    alone = PixelMaps(("edge",), GREY, 2)(picture(grey))
    torch.testing.assert_close(both[:, 16:, 2:-2, 2:-2], alone[:, :, 2:-2, 2:-2])


def test_half_precision_of_the_network_is_not_that_of_the_maps():
    maps = PixelMaps(("binary_pattern",), GREY, 1)
    grey = np.random.default_rng(4).integers(0, 256, (16, 16)).astype(np.float64)
    with torch.autocast("cpu", torch.bfloat16):
        found = maps(picture(grey))
    torch.testing.assert_close(found, maps(picture(grey)))
    assert found.dtype == torch.float32


def test_filters_are_stored_with_the_weights_and_not_trained():
    maps = PixelMaps(("edge", "texture"), GREY, 2)
    assert list(maps.state_dict()) == ["luma", "filters", "biases"]
    assert list(maps.parameters()) == []
