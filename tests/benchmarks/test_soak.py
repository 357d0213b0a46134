import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.soak import Moment, lowest_by_minute, record, slope_per_hour

HOUR = np.arange(60.0)


def wavering(seed: int) -> npt.NDArray[np.float64]:
    """Return memory that rises and falls by itself, its neighbours alike, MiB a minute."""
    steps = np.random.default_rng(seed).normal(0.0, 0.1, len(HOUR) + 2)
    return 300.0 + np.convolve(steps, np.ones(3), "valid")


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_of_a_mebibyte_an_hour_is_found(seed: int) -> None:
    slope, low, high = slope_per_hour(wavering(seed) + HOUR / 60.0)
    assert low < slope < high
    assert 0.0 < low < 1.0 < high


def test_the_interval_of_memory_that_only_wavers_covers_no_growth() -> None:
    covered = [
        low <= 0.0 <= high
        for _, low, high in (slope_per_hour(wavering(seed)) for seed in range(20))
    ]
    assert sum(covered) >= 16


@pytest.mark.parametrize("minutes", [1, 2, 7, 60])
def test_memory_that_never_changes_has_no_slope(minutes: int) -> None:
    assert slope_per_hour(np.full(minutes, 300.0)) == pytest.approx((0, 0, 0), abs=1e-6)


def test_what_is_open_for_a_moment_is_told_from_what_stays_open() -> None:
    opened = 27, 28, 27, 27, 28, 28, 29, 28
    moments = [Moment(n / 4.0, 60.0, 100.0, many, {}, 5) for n, many in enumerate(opened)]
    assert lowest_by_minute(moments, lambda moment: moment.main_descriptors).tolist() == [27, 28]


def test_a_minute_of_which_the_end_of_a_run_left_one_look_is_not_judged() -> None:
    values = [70.0, 60.0, 62.0, 61.0, 71.0, 59.0, 66.0, 64.0, 69.0]  # four looks a minute
    moments = [Moment(n / 4.0, own, 100.0, 24, {}, 5) for n, own in enumerate(values)]
    assert lowest_by_minute(moments, lambda moment: moment.main_mib).tolist() == [60.0, 59.0]


@pytest.mark.parametrize("is_within", [True, False])
def test_a_row_of_the_page_says_what_a_run_found(is_within: bool) -> None:
    found = {
        "minutes": 119.9,  # until the last look
        "times_the_pace": 19.9,
        "slope_mib_per_hour": [-0.31, -0.9, 0.2],
        "main_descriptors": {"lowest_by_minute": [25], "highest": 26},
        "cameras_replaced": 0,
        "is_within_bounds": is_within,
    }
    row = record(found)
    assert (row.runs, row.lane) == (120, "full")
    assert row.finding == (
        "19.9 times a house's pace: -0.31 MiB an hour (-0.9 to 0.2), 25 descriptors in the main "
        "process, 0 cameras' processes replaced"
        if is_within
        else "**FAILED**"
    )
