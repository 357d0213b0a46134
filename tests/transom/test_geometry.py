import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transom.geometry import MIN_AREA, Zone

fractions = st.floats(0.0, 1.0)
corners = st.tuples(fractions, fractions)


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """Any zone: a rectangle with its corners moved about."""
    left, right = draw(st.floats(0.0, 0.9)), draw(st.floats(0.1, 1.0))
    top, bottom = draw(st.floats(0.0, 0.9)), draw(st.floats(0.1, 1.0))
    shifts = draw(st.lists(st.floats(-0.1, 0.1), min_size=8, max_size=8))
    upright = ((left, top), (right, top), (right, bottom), (left, bottom))
    moved = [
        (min(max(x + dx, 0.0), 1.0), min(max(y + dy, 0.0), 1.0))
        for (x, y), dx, dy in zip(upright, shifts[::2], shifts[1::2], strict=True)
    ]
    try:
        return Zone((moved[0], moved[1], moved[2], moved[3]))
    except ValueError:
        assume(False)
        raise


@given(zones())
def test_a_zone_survives_being_written_and_read(zone: Zone) -> None:
    assert Zone.from_text(zone.to_text()) == zone


def test_the_smallest_zone_survives_being_written_and_read() -> None:
    side = math.sqrt(MIN_AREA) * 1.000001
    zone = Zone.rectangle(0.12345, 0.12345, 0.12345 + side, 0.12345 + side)
    assert Zone.from_text(zone.to_text()) == zone


def test_four_decimals_are_written_where_they_say_it_all() -> None:
    zone = Zone.rectangle(0.25, 0.0, 0.75, 1.0)
    assert zone.to_text() == "0.2500 0.0000 0.7500 0.0000 0.7500 1.0000 0.2500 1.0000"


@given(st.tuples(corners, corners, corners, corners))
def test_whatever_is_accepted_is_convex_clockwise_and_large_enough(points: object) -> None:
    try:
        zone = Zone(points)  # type: ignore[arg-type]
    except ValueError:
        return
    assert zone.area >= MIN_AREA
    # Every corner lies on the right of every side: convex, and clockwise with y downwards.
    for i, (ax, ay) in enumerate(zone.points):
        bx, by = zone.points[(i + 1) % 4]
        for cx, cy in zone.points:
            assert (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) >= -1e-9


@given(zones())
def test_refuses_a_zone_that_runs_the_other_way(zone: Zone) -> None:
    with pytest.raises(ValueError, match="clockwise from the top left, got"):
        Zone(zone.points[::-1])


@given(zones())
def test_refuses_a_zone_that_crosses_itself(zone: Zone) -> None:
    a, b, c, d = zone.points
    with pytest.raises(ValueError, match=r"convex|covers"):
        Zone((a, c, b, d))


@given(zones(), st.integers(0, 3), st.integers(0, 1), st.sampled_from([-0.01, 1.01, 7.0]))
def test_refuses_a_corner_outside_the_frame(zone: Zone, i: int, axis: int, value: float) -> None:
    points = [list(p) for p in zone.points]
    points[i][axis] = value
    with pytest.raises(ValueError, match="is outside the frame; x and y are fractions"):
        Zone(tuple((x, y) for x, y in points))  # type: ignore[arg-type]


@given(zones(), st.integers(0, 3), st.integers(0, 1), st.sampled_from([math.nan, math.inf]))
def test_refuses_a_corner_that_is_no_number(zone: Zone, i: int, axis: int, value: float) -> None:
    points = [list(p) for p in zone.points]
    points[i][axis] = value
    with pytest.raises(ValueError, match="is outside the frame"):
        Zone(tuple((x, y) for x, y in points))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (((0, 0), (1, 0), (1, 1)), "a zone must have 4 points"),
        (((0, 0), (1, 0), (1, 1), (0,)), "a zone must have 4 points"),
        (((0.5, 0.5),) * 4, "zone covers 0 of the frame, 0.0001 is the least"),
        (((0, 0), (1, 0), (1, 1e-5), (0, 1e-5)), "zone covers 1e-05 of the frame"),
        (((0, 0), (1, 0), (0.1, 0.1), (0, 1)), "must be convex"),
        (((0, 0), (0.5, 0), (1, 0), (0.5, 1)), "must be convex"),
    ],
)
def test_refuses_what_is_not_a_quadrilateral_with_area(points: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Zone(points)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "0 0 1 0 1 1 0",
        "0 0 1 0 1 1 0 1 0",
        "0,0,1,0,1,1,0,1",
        "a b c d e f g h",
        "0 0 1 0 1 1 0 nan",
        "0 0 1 0 1 1 0 inf",
    ],
)
def test_refuses_text_that_is_not_eight_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be 8 numbers x1 y1 … x4 y4 or empty, got"):
        Zone.from_text(text)


@pytest.mark.parametrize("text", ["", "   "])
def test_empty_text_is_the_whole_frame(text: str) -> None:
    assert Zone.from_text(text) == Zone.whole()


def test_any_white_space_parts_the_numbers() -> None:
    assert Zone.from_text(" 0 0\t1 0  1 1 0 1 ") == Zone.whole()


@given(zones())
def test_area_is_that_of_the_two_triangles(zone: Zone) -> None:
    a, b, c, d = (np.array(p) for p in zone.points)

    def triangle(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
        (ux, uy), (vx, vy) = q - p, r - p
        return float(abs(ux * vy - uy * vx) / 2)

    assert zone.area == pytest.approx(triangle(a, b, c) + triangle(a, c, d), abs=1e-12)


def test_pixels_are_measured_from_the_corner_of_the_frame() -> None:
    pixels = Zone.rectangle(0.25, 0.5, 0.75, 1.0).pixels(height=480, width=640)
    assert pixels.dtype == np.float32
    assert pixels.tolist() == [[160, 240], [480, 240], [480, 480], [160, 480]]


def test_centre_is_the_mean_of_the_corners() -> None:
    assert Zone.rectangle(0.2, 0.4, 0.4, 0.8).centre() == pytest.approx((0.3, 0.6))


def test_a_zone_can_be_a_key() -> None:
    assert {Zone.whole(): 1}[Zone.from_text("")] == 1


def test_a_corner_on_a_line_is_refused_whichever_way_rounding_turns_it() -> None:
    corners = ((0.2167, 0.2795), (0.5665, 0.5226), (0.9163, 0.7657), (0.1388, 0.6175))
    with pytest.raises(ValueError, match="must be convex"):
        Zone(corners)
