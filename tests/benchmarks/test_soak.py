import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.soak import slope_per_hour

MINUTES = np.arange(180) / 12.0


def wavering(seed: int) -> npt.NDArray[np.float64]:
    """Return memory that rises and falls by itself, its neighbours alike, MiB."""
    steps = np.random.default_rng(seed).normal(0.0, 0.3, len(MINUTES))
    return 300.0 + np.convolve(steps, np.ones(6), "same")


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_of_ten_mebibytes_an_hour_is_found(seed: int) -> None:
    slope, low, high = slope_per_hour(MINUTES, wavering(seed) + 10.0 * MINUTES / 60.0)
    assert low < slope < high
    assert 0.0 < low < 10.0 < high


def test_the_interval_of_memory_that_only_wavers_covers_no_growth() -> None:
    covered = [
        low <= 0.0 <= high
        for _, low, high in (slope_per_hour(MINUTES, wavering(seed)) for seed in range(20))
    ]
    assert sum(covered) >= 16


def test_memory_that_never_changes_has_no_slope() -> None:
    assert slope_per_hour(MINUTES, np.full(len(MINUTES), 300.0)) == pytest.approx(
        (0, 0, 0), abs=1e-6
    )
