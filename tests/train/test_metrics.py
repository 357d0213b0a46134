import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score
from torchmetrics.functional.classification import multiclass_calibration_error

from train.metrics import (
    FIGURES,
    bootstrap_intervals,
    few_groups_interval,
    figures,
    group_indices,
    mean_interval,
    plain,
    tally_groups,
)
from transom.prediction import UNKNOWN_INDEX


def _answers(seed: int, n: int, classes: int, *, sharpness: float = 2.0):
    """Probabilities, believed classes, truths and groups as a fair network would give them."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    logits = generator.normal(0, 1, (n, classes)) + sharpness * np.eye(classes)[truth]
    odds = np.exp(logits)
    probabilities = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    believed = np.where(probabilities.max(1) > 0.6, probabilities.argmax(1), UNKNOWN_INDEX)
    return probabilities, believed, truth, generator.integers(0, max(n // 3, 1), n)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(2, 5))
def test_figures_are_those_of_scikit_learn_and_torchmetrics(
    seed: int, n: int, classes: int
) -> None:
    probabilities, believed, truth, groups = _answers(seed, n, classes)
    tally = tally_groups(probabilities, believed, truth, groups).total()
    found, guess = plain(figures(tally)), probabilities.argmax(1)
    present = np.unique(truth)
    recalls = [(guess[truth == c] == c).mean() for c in present]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    if set(guess) <= set(present) and len(present) > 1:  # scikit-learn warns otherwise
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    error = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), classes, n_bins=15, norm="l1"
    )
    assert found["ece"] == pytest.approx(float(error), abs=2e-3)
    np.testing.assert_array_equal(
        tally.confusion, confusion_matrix(truth, guess, labels=range(classes))
    )


def test_coverage_counts_what_is_not_unknown() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], np.float32)
    believed, truth = np.array([0, UNKNOWN_INDEX, 1, 0]), np.array([0, 0, 0, 0])
    tally = tally_groups(probabilities, believed, truth, np.zeros(4, np.int64)).total()
    found = plain(figures(tally))
    assert found["coverage"] == 0.75
    assert found["accuracy_covered"] == pytest.approx(2 / 3)
    assert found["accuracy"] == 0.75


def test_no_row_gives_no_figure_and_no_interval() -> None:
    none = np.zeros(0, np.int64)
    tally = tally_groups(np.zeros((0, 3), np.float32), none, none, none)
    assert plain(figures(tally.total())) == dict.fromkeys(FIGURES)
    assert bootstrap_intervals(tally) == dict.fromkeys(FIGURES)


def test_one_group_gives_no_interval() -> None:
    probabilities, believed, truth, _ = _answers(0, 50, 3)
    tally = tally_groups(probabilities, believed, truth, np.zeros(50, np.int64))
    assert bootstrap_intervals(tally) == dict.fromkeys(FIGURES)


def test_intervals_hold_the_figure_and_are_the_same_each_time() -> None:
    probabilities, believed, truth, groups = _answers(1, 300, 3)
    tally = tally_groups(probabilities, believed, truth, group_indices(groups.astype(str)))
    first, second = bootstrap_intervals(tally), bootstrap_intervals(tally)
    assert first == second
    accuracy = plain(figures(tally.total()))["accuracy"]
    low, high = first["accuracy"]
    assert low < accuracy < high


def test_no_mistake_among_few_groups_does_not_promise_none_among_others() -> None:
    for groups in (5, 22, 300):
        right = np.tile(np.float32([[0.9, 0.1]]), (3 * groups, 1))
        truth, each = np.zeros(3 * groups, np.int64), np.repeat(np.arange(groups), 3)
        for answers, found in ((truth, groups), (truth + 1, 0)):
            tally = tally_groups(right, np.zeros(3 * groups, np.int64), answers, each)
            exact = binomtest(found, groups).proportion_ci(0.95, method="exact")
            assert bootstrap_intervals(tally)["accuracy"] == pytest.approx((exact.low, exact.high))


def test_each_group_counts_alike_in_group_accuracy() -> None:
    guess = np.array([0] * 90 + [1] * 5 + [0] * 5)
    groups = np.array([0] * 90 + [1] * 10)
    probabilities = np.float32(np.eye(2)[guess] * 0.8 + 0.1)
    tally = tally_groups(probabilities, guess, np.zeros(100, np.int64), groups)
    found = plain(figures(tally.total()))
    by_group = [accuracy_score(np.zeros((groups == g).sum()), guess[groups == g]) for g in (0, 1)]
    assert found["group_accuracy"] == pytest.approx(np.mean(by_group)) == 0.75
    assert found["accuracy"] == 0.95


def test_rows_of_one_group_are_no_independent_evidence() -> None:
    generator = np.random.default_rng(0)
    right = np.repeat(generator.random(40) < 0.7, 25)  # each group all right or all wrong
    truth = np.zeros(1000, np.int64)
    probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]]).astype(np.float32)
    believed = probabilities.argmax(1)
    by_group = bootstrap_intervals(
        tally_groups(probabilities, believed, truth, np.repeat(np.arange(40), 25))
    )
    by_row = bootstrap_intervals(tally_groups(probabilities, believed, truth, np.arange(1000)))
    width = {name: found["accuracy"][1] - found["accuracy"][0]
             for name, found in (("group", by_group), ("row", by_row))}  # fmt: skip
    assert width["group"] > 4 * width["row"]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        right = generator.random(120) < 0.8
        probabilities = np.where(right[:, None], [[0.8, 0.2]], [[0.2, 0.8]]).astype(np.float32)
        tally = tally_groups(
            probabilities, probabilities.argmax(1), np.zeros(120, np.int64), np.arange(120)
        )
        low, high = bootstrap_intervals(tally, repeats=300)["accuracy"]
        hits += low <= 0.8 <= high
    assert 51 <= hits <= 60


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_one_row_a_group_gives_the_interval_of_student(level: float) -> None:
    for count in (2, 3, 5, 40):
        values = np.random.default_rng(count).normal(size=count)
        expected = ttest_1samp(values, 0.0).confidence_interval(level)
        found = few_groups_interval(values, np.arange(count), level)
        assert found == pytest.approx((expected.low, expected.high), rel=1e-3)


def test_three_days_are_little_evidence_and_the_interval_knows_it() -> None:
    generator, held, drawn = np.random.default_rng(4), 0, 0
    groups = np.repeat(np.arange(3), 10)
    for _ in range(300):
        values = generator.normal(size=30) + generator.normal(size=3)[groups]
        low, high = few_groups_interval(values, groups) or (np.nan, np.nan)
        held += low <= 0.0 <= high
        low, high = mean_interval(values, groups) or (np.nan, np.nan)
        drawn += low <= 0.0 <= high
    assert held >= 0.92 * 300
    assert drawn <= 0.85 * 300, "drawing whole days would have done, then"


def test_days_that_happen_to_agree_are_no_proof() -> None:
    values = np.tile(np.eye(10)[0], 3)  # one picture in ten is better, each day
    found = few_groups_interval(values, np.repeat(np.arange(3), 10))
    assert found is not None
    assert found[0] < 0.0 < found[1]


def test_one_day_gives_no_interval_of_few_groups() -> None:
    assert few_groups_interval(np.ones(5), np.zeros(5, np.int64)) is None
