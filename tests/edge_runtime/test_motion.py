"""The gate before the network: what passes, and what must not."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.motion import (
    GATE_PX,
    HOLD_S,
    LOOK_EVERY_S,
    USUAL_S,
    Motion,
    MotionGate,
    UsualMotion,
)
from transom.crop import grey_zone
from transom.geometry import Zone

Image = npt.NDArray[np.uint8]
SIZE = 128


def door(opened_px: float = 0.0, *, seed: int = 0, noise: float = 3.0, light: float = 0.0) -> Image:
    """Return a crop of a door whose edge has moved by some pixels and shows a dark gap."""
    picture = np.full((SIZE, SIZE, 3), 150.0)
    picture[:, :6] = picture[:, -6:] = 200.0
    picture[40:60, 30:90] = 120.0
    gap = round(opened_px)
    picture[4:-4, 8 : 8 + gap] = 60.0
    picture += light + np.random.default_rng(seed).normal(0.0, noise, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def see(gate: MotionGate, picture: Image, now_s: float) -> bool:
    """Show a gate a picture that is all zone; return whether it is due."""
    return gate.is_due(grey_zone(picture, Zone.whole(), GATE_PX), now_s)


def quiet_gate(noise: float = 3.0) -> tuple[MotionGate, float]:
    """Return a gate that has seen a closed door for a minute, and the time."""
    gate = MotionGate()
    for index in range(300):
        see(gate, door(seed=index, noise=noise), index / 5)
    return gate, 60.0


def test_the_first_look_is_at_once() -> None:
    assert see(MotionGate(), door(), 1234.5)


@pytest.mark.parametrize("noise", [1.0, 3.0, 10.0, 20.0])
def test_a_still_door_is_looked_at_only_every_ten_seconds(noise: float) -> None:
    gate, start_s = quiet_gate(noise)

    due = [see(gate, door(seed=1000 + i, noise=noise), start_s + i / 5) for i in range(300)]

    assert sum(due) <= 60 / LOOK_EVERY_S + 1


def test_no_two_looks_are_further_apart_than_ten_seconds() -> None:
    gate, start_s = quiet_gate()
    looks = [
        start_s + index / 5
        for index in range(600)
        if see(gate, door(seed=index), start_s + index / 5)
    ]

    assert np.diff(looks).max() <= LOOK_EVERY_S + 0.2


@pytest.mark.parametrize("opened_px", [4, 10, 40, 100])
@pytest.mark.parametrize("noise", [1.0, 10.0])
def test_a_door_that_opens_passes_with_its_first_picture(opened_px: int, noise: float) -> None:
    gate, start_s = quiet_gate(noise)
    see(gate, door(seed=1, noise=noise), start_s)

    assert see(gate, door(opened_px, seed=2, noise=noise), start_s + 0.2)


def test_a_whole_zone_that_changes_its_brightness_passes() -> None:
    gate = MotionGate()
    for index in range(200):
        see(gate, np.full((SIZE, SIZE, 3), 40, np.uint8), index / 5)

    assert see(gate, np.full((SIZE, SIZE, 3), 128, np.uint8), 40.0)


def test_a_door_that_opens_slowly_adds_up_until_it_passes() -> None:
    gate, start_s = quiet_gate()
    gate = MotionGate(look_every_s=1000.0)
    for index in range(300):
        see(gate, door(seed=index), index / 5)

    due = [
        see(gate, door(20 * index / 600, seed=index), start_s + index / 5) for index in range(600)
    ]

    assert any(due[:300])  # 2 minutes from closed to 20 px; seen before half of it


def test_stays_due_for_some_seconds_after_motion() -> None:
    gate, start_s = quiet_gate()
    see(gate, door(40, seed=1), start_s)

    due = [see(gate, door(40, seed=2 + i), start_s + 0.2 * (i + 1)) for i in range(45)]

    assert all(due[: int(HOLD_S * 5) - 1])
    assert not any(due[int(HOLD_S * 5) + 1 :])


def test_light_that_changes_slowly_is_not_motion() -> None:
    gate, start_s = quiet_gate()

    due = [
        see(gate, door(seed=index, light=20 * np.sin(index / 300)), start_s + index / 5)
        for index in range(1500)
    ]

    assert sum(due) <= 300 / LOOK_EVERY_S + 1


def shadow(now_s: float, period_s: float) -> npt.NDArray[np.float64]:
    """The part of the light that clouds leave, whose soft edges cross the zone."""
    across = np.linspace(0.0, 0.4, SIZE)[None, :, None]
    return np.asarray(1.0 - 0.17 * (1.0 + np.sin(2 * np.pi * (across - now_s / period_s))))


def under(light: npt.NDArray[np.float64], picture: Image) -> Image:
    return np.clip(picture * light, 0, 255).astype(np.uint8)


def test_clouds_that_pass_all_day_do_not_wake_the_network() -> None:
    gate = MotionGate()
    doors = [door(seed=seed) for seed in range(10)]

    due = [
        see(gate, under(shadow(index / 2, 30.0), doors[index % 10]), index / 2)
        for index in range(300)
    ]

    assert sum(due[20:]) <= 140 / LOOK_EVERY_S + 1


@pytest.mark.parametrize("opened_px", [4, 20, 100])
def test_a_door_that_opens_while_a_cloud_passes_is_seen(opened_px: int) -> None:
    doors, opened = [door(seed=seed) for seed in range(10)], door(opened_px, seed=999)
    for begin in range(0, 60, 6):
        gate = MotionGate(look_every_s=1000.0, hold_s=0.0)
        for index in range(begin, begin + 20):
            see(gate, under(shadow(index / 2, 30.0), doors[index % 10]), index / 2)

        last_s = (begin + 20) / 2
        assert see(gate, under(shadow(last_s, 30.0), opened), last_s)


def test_clouds_leave_the_gate_as_sharp_as_it_was() -> None:
    gate = MotionGate(hold_s=0.0)
    doors = [door(seed=seed, noise=1.0) for seed in range(10)]
    for index in range(300):
        see(gate, under(shadow(index / 2, 30.0), doors[index % 10]), index / 2)
    faint = door(seed=99, noise=1.0)
    faint[40:80, 60:68] += 8

    assert see(gate, under(shadow(150.0, 30.0), faint), 150.0)


def test_a_lamp_wakes_the_network_for_some_seconds_only() -> None:
    gate, start_s = quiet_gate()
    glow = 1.0 + 0.6 * np.exp(-np.linspace(0.0, 1.5, SIZE)[None, :, None])

    due = [see(gate, under(glow, door(seed=i)), start_s + i / 5) for i in range(150)]

    assert due[0]
    assert sum(due) <= HOLD_S * 5 + 1 + 25 / LOOK_EVERY_S


def test_gets_used_to_more_noise_when_night_falls() -> None:
    gate, start_s = quiet_gate(noise=1.0)

    due = [see(gate, door(seed=i, noise=25.0), start_s + i / 5) for i in range(600)]

    assert sum(due[300:]) <= 60 / LOOK_EVERY_S + 1


@given(seed=st.integers(0, 1000), opened_px=st.integers(5, 110), noise=st.floats(0.0, 12.0))
@settings(max_examples=25, deadline=None)
def test_whatever_the_noise_an_opening_door_always_passes(
    seed: int, opened_px: int, noise: float
) -> None:
    gate = MotionGate()
    for index in range(60):
        see(gate, door(seed=seed + index, noise=noise), index / 5)

    assert see(gate, door(opened_px, seed=seed + 99, noise=noise), 12.2)


def test_works_on_the_smallest_crop() -> None:
    gate = MotionGate()
    see(gate, np.full((16, 16, 3), 40, np.uint8), 0.0)
    assert see(gate, np.full((16, 16, 3), 90, np.uint8), 20.0)


def swayed(minutes: float, amount: float = 1.0) -> tuple[UsualMotion, float]:
    """Return what has learnt from so many minutes in which a zone never rested, and the time."""
    usual, gusts = UsualMotion(), np.random.default_rng(0).lognormal(0.0, 0.3, 1000)
    for index in range(int(minutes * 300)):
        usual.judge(amount * float(gusts[index % 1000]), index / 5)
    return usual, minutes * 60.0


def test_in_a_zone_at_rest_every_motion_is_unusual() -> None:
    usual = UsualMotion()
    assert {usual.judge(0.0, index / 5) for index in range(1000)} == {"none"}
    assert usual.judge(0.001, 200.0) == "unusual"


def test_what_goes_on_all_the_time_is_usual_and_a_leaf_above_it_is_not() -> None:
    usual, now_s = swayed(minutes=2)
    assert usual.judge(1.0, now_s) == "usual"
    assert usual.judge(5.0, now_s + 0.2) == "unusual"
    assert usual.judge(0.0, now_s + 0.4) == "none"


def test_who_passes_a_third_of_the_time_stays_unusual() -> None:
    usual = UsualMotion()
    judged = [usual.judge(float(index % 15 < 5), index / 5) for index in range(3000)]
    assert set(judged) == {"none", "unusual"}


def test_usual_motion_is_forgotten_when_the_wind_drops() -> None:
    usual, now_s = swayed(minutes=10)
    for index in range(int(USUAL_S * 5)):
        usual.judge(0.0, now_s + index / 5)
    assert usual.judge(1.0, now_s + USUAL_S) == "unusual"


def test_nothing_is_usual_in_the_first_seconds() -> None:
    usual = UsualMotion()
    assert {usual.judge(1.0, index / 5) for index in range(20)} == {"unusual"}


@given(unit=st.floats(1e-3, 1e3), amounts=st.lists(st.floats(0.0, 10.0), max_size=60))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_motion_does_not_matter(unit: float, amounts: list[float]) -> None:
    ones, others = swayed(0.5)[0], swayed(0.5, unit)[0]
    for index, amount in enumerate(amounts):
        scaled = others.judge(unit * amount, 30.0 + index / 5)
        if abs(amount / 3.0 / ones.usual - 1.0) > 1e-6:
            assert scaled == ones.judge(amount, 30.0 + index / 5)
        else:
            ones.judge(amount, 30.0 + index / 5)


def test_a_picture_that_never_rests_still_passes_and_an_opening_door_stands_out_of_it() -> None:
    gate, random = MotionGate(), np.random.default_rng(3)
    blots = random.normal(0.0, 60.0, (SIZE // 8 + 8, SIZE // 8 + 8)).repeat(8, 0).repeat(8, 1)

    def swaying(index: int, opened_px: float = 0.0) -> Image:
        shift = round(4.0 + 3.0 * np.sin(index * 0.9))
        picture = door(opened_px, seed=index).astype(np.float64)
        picture[80:] += 0.3 * blots[:SIZE, shift : shift + SIZE][80:, :, None]
        return np.clip(picture, 0, 255).astype(np.uint8)

    motions: list[Motion] = []
    for index in range(200):
        assert see(gate, swaying(index), index / 5)
        motions.append(gate.motion)
    assert "unusual" not in motions[100:]
    assert motions[100:].count("usual") > 50
    assert see(gate, swaying(200, 40.0), 40.0)
    assert gate.motion == "unusual"
