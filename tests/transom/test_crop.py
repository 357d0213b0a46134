import io
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transom.crop import crop_zone, cut_around, grey_zone
from transom.geometry import Zone

Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 160, 120
SKEWED = Zone(((0.21, 0.13), (0.74, 0.22), (0.83, 0.91), (0.15, 0.78)))


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Return a smooth BGR picture without symmetry; the same on every machine."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [
        np.sin(x / 17 + 0.3) * np.cos(y / 23),
        np.sin(x / 29 + y / 31),
        np.cos(y / 19 + 1.1) * x / width,
    ]
    return np.stack([127 + 120 * wave for wave in waves], axis=2).round().astype(np.uint8)


def texture(height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Return a picture with detail in every pixel; the same on every machine."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return np.asarray((x * 97 + y * 57 + x * y * 13 + c * 101) % 251, np.uint8)


def box(left: int, top: int, right: int, bottom: int) -> Zone:
    return Zone.rectangle(left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT)


def boxes(least: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    return st.tuples(
        st.integers(0, WIDTH - least),
        st.integers(0, HEIGHT - least),
        st.integers(least, WIDTH),
        st.integers(least, HEIGHT),
    ).filter(lambda b: b[2] - b[0] >= least and b[3] - b[1] >= least)


def difference(a: Image, b: Image) -> tuple[float, int]:
    """Return mean and largest difference in grey levels."""
    apart = np.abs(a.astype(np.int16) - b.astype(np.int16))
    return float(apart.mean()), int(apart.max())


@pytest.mark.parametrize("size", [8, 31, 128, 224])
@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("zone", [Zone.whole(), SKEWED, box(3, 5, 9, 119)])
def test_a_crop_is_a_contiguous_square_of_bytes(zone: Zone, size: int, margin: float) -> None:
    crop = crop_zone(texture(), zone, size, margin)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    assert crop.flags.c_contiguous


@pytest.mark.parametrize("size", [8, 32, 100])
@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "zone", [Zone.whole(), SKEWED, box(3, 5, 9, 119), box(0, 0, 2, 2), box(100, 60, 160, 120)]
)
def test_a_zone_in_grey_is_its_crop_without_colour(zone: Zone, size: int, margin: float) -> None:
    frame = np.asarray(cv2.GaussianBlur(texture(), (5, 5), 0), np.uint8)
    crop = crop_zone(frame, zone, size, margin)
    grey = grey_zone(frame, zone, size, margin)
    mean, largest = difference(grey, np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), np.uint8))
    assert grey.shape == (size, size)
    assert mean < 0.5
    assert largest <= 2


@given(st.integers(8, 100), st.data())
def test_an_upright_zone_of_the_crops_size_is_the_exact_piece(size: int, data: Any) -> None:
    left = data.draw(st.integers(0, WIDTH - size))
    top = data.draw(st.integers(0, HEIGHT - size))
    frame = texture()
    crop = crop_zone(frame, box(left, top, left + size, top + size), size)
    assert (crop == frame[top : top + size, left : left + size]).all()


@given(boxes(least=33))
@settings(max_examples=50)
def test_shrinking_averages_areas(edges: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = edges
    frame = texture()
    piece = np.ascontiguousarray(frame[top:bottom, left:right])
    expected = cv2.resize(piece, (32, 32), interpolation=cv2.INTER_AREA)
    assert (crop_zone(frame, box(*edges), 32) == expected).all()


def test_shrinking_to_a_third_is_the_mean_of_nine_pixels() -> None:
    frame = texture(72, 72)
    means = frame.reshape(24, 3, 24, 3, 3).mean(axis=(1, 3))
    crop = crop_zone(frame, Zone.whole(), 24)
    assert np.abs(crop - means).max() <= 0.51


def test_one_side_is_averaged_while_the_other_is_enlarged() -> None:
    frame = texture(height=16, width=96)
    narrow = frame.reshape(16, 32, 3, 3).mean(axis=2).round().astype(np.uint8)
    expected = cv2.resize(narrow, (32, 32), interpolation=cv2.INTER_LINEAR)
    assert difference(crop_zone(frame, Zone.whole(), 32), expected)[1] <= 1


def test_enlarging_interpolates_between_pixels() -> None:
    frame = picture(16, 16)
    expected = cv2.resize(frame, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert (crop_zone(frame, Zone.whole(), 64) == expected).all()


def mirrored(zone: Zone) -> Zone:
    a, b, c, d = ((1 - x, y) for x, y in zone.points)
    return Zone((b, a, d, c))


def upside_down(zone: Zone) -> Zone:
    a, b, c, d = ((x, 1 - y) for x, y in zone.points)
    return Zone((d, c, b, a))


@pytest.mark.parametrize("zone", [Zone.whole(), box(10, 20, 90, 110), SKEWED])
@pytest.mark.parametrize("margin", [0.0, 0.2])  # whole pixels: halves are rounded up
def test_a_flipped_frame_with_a_flipped_zone_gives_the_flipped_crop(
    zone: Zone, margin: float
) -> None:
    frame = picture()
    crop = crop_zone(frame, zone, 48, margin)
    left_right = crop_zone(frame[:, ::-1], mirrored(zone), 48, margin)
    top_bottom = crop_zone(frame[::-1], upside_down(zone), 48, margin)
    for flipped in (left_right[:, ::-1], top_bottom[::-1]):
        mean, largest = difference(crop, flipped)
        assert mean < 0.3
        assert largest <= 3


@given(
    boxes(least=20).filter(lambda b: b[0] > 0 and b[1] > 0 and b[2] < WIDTH and b[3] < HEIGHT),
    st.lists(st.floats(-1.0, 1.0), min_size=8, max_size=8),
)
@settings(max_examples=60)
def test_corners_a_pixel_off_change_little(
    edges: tuple[int, int, int, int], shifts: list[float]
) -> None:
    zone = box(*edges)
    moved = tuple(
        (x + dx / WIDTH, y + dy / HEIGHT)
        for (x, y), dx, dy in zip(zone.points, shifts[::2], shifts[1::2], strict=True)
    )
    near = Zone((moved[0], moved[1], moved[2], moved[3]))
    mean, largest = difference(crop_zone(picture(), zone, 48), crop_zone(picture(), near, 48))
    assert mean < 6.0  # the picture's steepest slope is 7 grey levels a pixel
    assert largest <= 14


def test_a_warp_is_aligned_with_a_cut_to_a_fraction_of_a_pixel() -> None:
    frame = picture()
    zone = box(30, 20, 110, 100)
    (x, y), b, c, d = zone.points
    warped = crop_zone(frame, Zone(((x + 0.52 / WIDTH, y), b, c, d)), 80)
    mean, _ = difference(warped[40:, 40:], crop_zone(frame, zone, 80)[40:, 40:])
    assert mean < 1.0  # half a pixel off, all over, would be 2


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_first_corner_is_the_top_left_of_the_crop(quarter_turns: int, margin: float) -> None:
    zone = box(40, 20, 120, 100)
    turned = zone.points[quarter_turns:] + zone.points[:quarter_turns]
    crop = crop_zone(picture(), Zone(turned), 80, margin)  # type: ignore[arg-type]
    mean, largest = difference(
        np.rot90(crop_zone(picture(), zone, 80, margin), quarter_turns), crop
    )
    assert mean < 0.5
    assert largest <= 3


def test_a_margin_outside_the_frame_repeats_its_border() -> None:
    frame = texture(32, 32)
    expected = np.pad(frame, ((32, 32), (32, 32), (0, 0)), mode="edge")
    assert (crop_zone(frame, Zone.whole(), 96, margin=1.0) == expected).all()


def test_a_margin_inside_the_frame_takes_in_what_is_there() -> None:
    frame = texture()
    crop = crop_zone(frame, box(40, 40, 80, 80), 80, margin=0.5)
    assert (crop == frame[20:100, 20:100]).all()


def test_a_margin_of_a_skewed_zone_beyond_the_frame_repeats_its_border() -> None:
    frame = np.full((60, 60, 3), (10, 20, 30), np.uint8)
    crop = crop_zone(frame, Zone(((0, 0), (0.9, 0.1), (1, 1), (0.05, 0.9))), 32, margin=1.0)
    assert (crop == (10, 20, 30)).all()


def test_a_margin_surrounds_a_skewed_zone_on_every_side() -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    corners = SKEWED.pixels(HEIGHT, WIDTH).round().astype(np.int32)
    cv2.fillConvexPoly(frame, corners, (255, 255, 255))
    crop = crop_zone(frame, SKEWED, 80, margin=0.1)
    assert crop[16:64, 16:64].min() == 255
    ring = np.ones((80, 80), bool)
    ring[3:-3, 3:-3] = False
    assert crop[ring].max() == 0


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_the_smallest_zone_of_the_smallest_frame_gives_its_pixel(margin: float) -> None:
    frame = np.full((1, 1, 3), (7, 8, 9), np.uint8)
    assert (crop_zone(frame, Zone.rectangle(0.3, 0.3, 0.32, 0.32), 8, margin) == (7, 8, 9)).all()


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.0, 0.98), st.floats(0.0, 0.98))
def test_tiny_zones_anywhere_stay_inside_the_range_of_the_frame(
    height: int, width: int, x: float, y: float
) -> None:
    frame = texture(height, width)
    crop = crop_zone(frame, Zone.rectangle(x, y, x + 0.02, y + 0.02), 16)
    near = frame[
        max(int(y * height) - 1, 0) : int((y + 0.02) * height) + 2,
        max(int(x * width) - 1, 0) : int((x + 0.02) * width) + 2,
    ]
    assert near.min() <= crop.min()
    assert crop.max() <= near.max()


def test_a_huge_zone_is_averaged_not_sampled() -> None:
    checks = np.indices((2160, 3840)).sum(axis=0) % 2 * 254
    frame = np.repeat(checks[:, :, None].astype(np.uint8), 3, axis=2)
    assert np.abs(crop_zone(frame, Zone.whole(), 240).astype(int) - 127).max() <= 1


def test_a_nearly_triangular_zone_gives_a_crop_without_a_warning() -> None:
    zone = Zone(((0.5, 0.0), (0.5 + 1e-9, 0.0), (1.0, 1.0), (0.0, 1.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert crop_zone(picture(), zone, 32, margin=1.0).shape == (32, 32, 3)


@pytest.mark.parametrize("zone", [box(11, 7, 97, 103), SKEWED, Zone.whole()])
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda f: f[::-1], id="upside down"),
        pytest.param(lambda f: f[:, ::-1], id="mirrored"),
        pytest.param(lambda f: f[..., ::-1], id="RGB as BGR"),
        pytest.param(lambda f: f[::2, ::3], id="every other pixel"),
        pytest.param(np.asfortranarray, id="column by column"),
        pytest.param(lambda f: f.transpose(1, 0, 2), id="transposed"),
        pytest.param(lambda f: f[5:77, 9:101], id="piece"),
    ],
)
def test_the_layout_of_a_frame_in_memory_changes_nothing(
    zone: Zone, view: Callable[[Image], Image]
) -> None:
    frame = view(texture())
    plain = np.ascontiguousarray(frame).copy()
    assert (crop_zone(frame, zone, 40, 0.1) == crop_zone(plain, zone, 40, 0.1)).all()


@pytest.mark.parametrize("zone", [box(0, 0, 64, 64), SKEWED])
def test_a_crop_is_a_copy_and_leaves_the_frame_alone(zone: Zone) -> None:
    frame = texture()
    frame.flags.writeable = False
    crop = crop_zone(frame, zone, 64)
    assert not np.shares_memory(crop, frame)
    crop[:] = 0
    assert (frame == texture()).all()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            np.zeros((480, 640), np.uint8),
            r"frame must be \(H, W, 3\) uint8, got \(480, 640\) uint8",
        ),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\) uint8"),
    ],
)
def test_refuses_a_frame_of_another_shape_or_type(frame: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop_zone(frame, Zone.whole(), 32)


def test_refuses_what_cv2_returns_for_an_unreadable_file() -> None:
    with pytest.raises(TypeError, match=r"frame must be an array \(H, W, 3\) uint8, got NoneType"):
        crop_zone(None, Zone.whole(), 32)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [7, 0, -1])
def test_refuses_a_crop_too_small_to_hold_anything(size: int) -> None:
    with pytest.raises(ValueError, match=f"crop size must be at least 8 px, got {size}"):
        crop_zone(picture(), Zone.whole(), size)


@pytest.mark.parametrize("margin", [-0.1, 1.1, float("nan"), float("inf")])
def test_refuses_a_margin_that_is_no_share(margin: float) -> None:
    with pytest.raises(ValueError, match=f"crop margin must be 0 to 1 of the zone, got {margin:g}"):
        crop_zone(picture(), Zone.whole(), 32, margin)


GOLDEN_CASES = {
    "exact": (box(40, 30, 72, 62), 32, 0.0),
    "shrunk": (box(10, 5, 150, 115), 32, 0.0),
    "enlarged": (box(60, 50, 70, 60), 32, 0.0),
    "long": (box(20, 50, 140, 62), 32, 0.0),
    "margin": (box(0, 10, 60, 119), 32, 0.15),
    "skewed": (SKEWED, 32, 0.0),
    "skewed_margin": (SKEWED, 32, 0.3),
    "half_turn": (Zone(SKEWED.points[2:] + SKEWED.points[:2]), 32, 0.0),
}


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_preprocessing_is_what_it_was(
    case: str, golden_file: Callable[[str, bytes], bytes]
) -> None:
    zone, size, margin = GOLDEN_CASES[case]
    frame = np.where(np.indices((HEIGHT, WIDTH))[1][..., None] % 40 < 20, texture(), picture())
    crop = crop_zone(frame, zone, size, margin)
    written = io.BytesIO()
    np.save(written, crop)
    kept = np.load(io.BytesIO(golden_file(f"crops/{case}.npy", written.getvalue())))
    # One grey level is what OpenCV's kernels for other processors may differ by.
    mean, largest = difference(crop, kept)
    assert largest <= 1
    assert mean < 0.02


def test_a_corner_that_hardly_is_one_is_still_one_in_the_part_around_a_zone() -> None:
    frame = np.zeros((1080, 1920, 3), np.uint8)
    zone = Zone(((0.2167, 0.2795), (0.56650001, 0.5226), (0.9163, 0.7657), (0.1388, 0.6175)))
    part, inside = cut_around(frame, zone, 0.25)

    height, width = part.shape[:2]
    assert inside.area * width * height == pytest.approx(zone.area * 1080 * 1920, rel=1e-6)
