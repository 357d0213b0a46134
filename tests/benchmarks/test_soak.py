import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.soak import Moment, lowest_by_minute, slope_per_hour

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
