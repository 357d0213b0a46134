import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from train.selective import COVERAGES, selective


def answers(seed: int, n: int, levels: int):
    """Confidences with ties, whether they are right (more often where sure), and groups."""
    generator = np.random.default_rng(seed)
    confidence = generator.integers(1, levels + 1, n) / levels
    right = generator.random(n) < 0.4 + 0.6 * confidence
    return confidence, right, generator.integers(0, max(n // 4, 1), n)


def by_hand(confidence, right):
    """The curve by its definition: keep what is at least as sure, again for every sureness."""
    levels = np.unique(confidence)[::-1]
    kept = [right[confidence >= level] for level in levels]
    coverage = [len(rows) / len(right) for rows in kept]
    accuracy = [accuracy_score(np.ones(len(rows)), rows) for rows in kept]
    return levels, np.array(coverage), np.array(accuracy)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 40))
def test_the_curve_is_the_accuracy_of_the_rows_that_are_kept(seed, n, levels) -> None:
    confidence, right, groups = answers(seed, n, levels)
    found = selective(confidence, right, np.unique(groups, return_inverse=True)[1])
    expected = by_hand(confidence, right)
    np.testing.assert_allclose(found.confidence, expected[0])
    np.testing.assert_allclose(found.coverage, expected[1])
    np.testing.assert_allclose(found.accuracy, expected[2])
    share = np.diff(expected[1], prepend=0)
    assert found.aurc == pytest.approx(float((share * (1 - expected[2])).sum()))
    for coverage, accuracy in zip(COVERAGES, found.at, strict=True):
        assert accuracy == pytest.approx(expected[2][expected[1] >= coverage - 1e-9][0])


def test_at_full_coverage_it_is_the_accuracy_of_torchmetrics() -> None:
    confidence, right, groups = answers(1, 200, 30)
    truth = np.zeros(200, np.int64)
    said = np.where(right, 0, 1)
    expected = multiclass_accuracy(
        torch.from_numpy(said), torch.from_numpy(truth), num_classes=2, average="micro"
    )
    assert selective(confidence, right, groups).at[-1] == pytest.approx(float(expected))


def test_confidence_that_sorts_right_from_wrong_lowers_the_area() -> None:
    right = np.arange(100) < 70
    groups = np.arange(100) % 10
    sorts = selective(np.linspace(1, 0, 100), right, groups)
    sorts_not = selective(np.full(100, 0.5), right, groups)
    reversed_ = selective(np.linspace(0, 1, 100), right, groups)
    assert sorts_not.aurc == pytest.approx(0.3)
    assert sorts.aurc < sorts_not.aurc < reversed_.aurc
    assert sorts.at[6] == 1.0
    assert sorts_not.coverage.tolist() == [1.0]


def test_intervals_draw_whole_groups() -> None:
    right = np.repeat(np.arange(20) % 3 > 0, 30)  # each group all right or all wrong
    confidence = np.random.default_rng(0).random(600)
    by_group = selective(confidence, right, np.repeat(np.arange(20), 30))
    by_row = selective(confidence, right, np.arange(600))
    for wide, narrow, value in zip(by_group.intervals, by_row.intervals, by_group.at, strict=True):
        assert wide[0] <= value <= wide[1]
        assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    low, high = by_group.aurc_interval
    assert low < by_group.aurc < high


def test_one_group_gives_no_interval_and_no_row_no_curve() -> None:
    confidence, right, _ = answers(0, 20, 10)
    found = selective(confidence, right, np.zeros(20, np.int64))
    assert found.intervals == (None,) * len(COVERAGES)
    assert found.aurc_interval is None
    assert selective(confidence[:0], right[:0], np.zeros(0, np.int64)) is None
