import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from train.calibrate import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    calibrated_spec,
    fit_limit,
    fit_temperature,
    fit_thresholds,
)
from train.metrics import figures, tally_groups
from transom.prediction import energy, predict, softmax
from transom.tasks import Task

STATE = Task(name="state", classes=("closed", "ajar", "open"), ordinal=True)


def _logits(seed: int, n: int, *, scale: float = 1.0, classes: int = 3):
    """Calibrated logits times `scale`, and truths drawn from their probabilities."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, classes)).astype(np.float32)
    chances = softmax(logits).cumsum(1)
    targets = (generator.random((n, 1)) > chances).sum(1).clip(0, classes - 1)
    return logits * np.float32(scale), targets


def _loss(logits, targets, temperature: float) -> float:
    chosen = softmax(logits / np.float32(temperature))[np.arange(len(targets)), targets]
    return float(-np.log(chosen.astype(np.float64)).mean())


@pytest.mark.parametrize("scale", [0.6, 1.0, 3.0])
def test_finds_the_temperature_that_the_logits_were_multiplied_by(scale: float) -> None:
    logits, targets = _logits(0, 20_000, scale=scale)
    assert fit_temperature(logits, targets) == pytest.approx(scale, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 5.0))
def test_no_other_temperature_is_likelier(seed: int, scale: float) -> None:
    logits, targets = _logits(seed, 150, scale=scale)
    found = fit_temperature(logits, targets)
    best = minimize_scalar(
        lambda t: _loss(logits, targets, t),
        bounds=(MIN_TEMPERATURE, MAX_TEMPERATURE),
        method="bounded",
    )
    assert _loss(logits, targets, found) <= best.fun + 1e-5


def test_a_temperature_lowers_the_calibration_error_on_other_pictures() -> None:
    logits, targets = _logits(1, 4000, scale=3.0)
    temperature = fit_temperature(logits[:2000], targets[:2000])

    def error(values) -> float:
        probabilities = softmax(values)
        tally = tally_groups(
            probabilities, probabilities.argmax(1), targets[2000:], np.zeros(2000, np.int64)
        )
        return float(figures(tally.total())["ece"])

    assert error(logits[2000:] / np.float32(temperature)) < 0.4 * error(logits[2000:])


def test_unlabelled_rows_do_not_count() -> None:
    logits, targets = _logits(2, 400, scale=2.0)
    more = np.concatenate([logits, 50 * np.eye(3, dtype=np.float32)])
    padded = np.concatenate([targets, [-1, -1, -1]])
    assert fit_temperature(more, padded) == fit_temperature(logits, targets)
    assert calibrated_spec(STATE, more, padded) == calibrated_spec(STATE, logits, targets)


def test_without_a_labelled_row_nothing_is_claimed() -> None:
    none = np.zeros((0, 3), np.float32)
    assert fit_temperature(none, np.zeros(0, np.int64)) == 1.0
    spec = calibrated_spec(STATE, none, np.zeros(0, np.int64))
    assert spec.thresholds == (0.0, 0.0, 0.0)
    assert spec.unknown.max_energy is None


def test_all_right_answers_give_no_boundless_sureness() -> None:
    logits = 5 * np.eye(3, dtype=np.float32)
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(MIN_TEMPERATURE)


def test_a_threshold_is_the_least_at_which_a_class_is_right_often_enough() -> None:
    sure = np.linspace(0.5, 0.99, 50)
    logits = np.log(np.stack([sure, 1 - sure], 1)).astype(np.float32)
    targets = (sure < 0.79).astype(np.int64)  # class 0 is right from 0.79 on
    threshold, other = fit_thresholds(logits, targets, precision=1.0, coverage=0.1)
    assert threshold == pytest.approx(0.79, abs=1e-3)
    assert other == 0.0
    low, _ = fit_thresholds(logits, targets, precision=0.5, coverage=0.1)
    assert low < threshold


def test_a_threshold_never_costs_more_coverage_than_allowed() -> None:
    logits, targets = _logits(3, 1000)
    thresholds = fit_thresholds(logits, targets, precision=1.0, coverage=0.9)
    probabilities = softmax(logits)
    guess = probabilities.argmax(1)
    for index, threshold in enumerate(thresholds):
        said = probabilities[guess == index, index]
        assert (said >= np.float32(threshold)).mean() >= 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 400), st.sampled_from([0.9, 0.95, 0.99]))
def test_a_calibrated_task_answers_as_many_good_pictures_as_promised(
    seed: int, n: int, coverage: float
) -> None:
    logits, targets = _logits(seed, n)
    spec = calibrated_spec(STATE, logits, targets, coverage)
    assert (predict(logits, spec).classes >= 0).mean() >= coverage - 1e-9


def test_the_energy_keeps_its_coverage_on_new_pictures() -> None:
    kept = []
    for seed in range(200):
        logits, _ = _logits(seed, 200)
        limit = fit_limit(energy(logits[:100]), 0.9)
        kept.append((energy(logits[100:]) <= limit).mean())
    assert np.mean(kept) == pytest.approx(0.9, abs=0.02)


def test_pictures_unlike_training_are_unknown() -> None:
    logits, targets = _logits(4, 500)
    spec = calibrated_spec(STATE, logits + 4, targets)
    unlike = np.zeros((3, 3), np.float32)
    assert predict(unlike, spec).classes.tolist() == [-1, -1, -1]


def test_too_few_pictures_give_no_limit() -> None:
    logits, _ = _logits(5, 18)
    assert fit_limit(energy(logits), 0.95) is None
    assert fit_limit(energy(_logits(5, 19)[0]), 0.95) is not None


def test_refuses_logits_that_do_not_fit_the_task() -> None:
    with pytest.raises(ValueError, match=r"must be \(5, 3\), got \(5, 4\)"):
        calibrated_spec(STATE, np.zeros((5, 4), np.float32), np.zeros(5, np.int64))
