import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sampling import SAMPLINGS, draw, row_shares
from transom.errors import ConfigurationError

TARGETS = np.array([[0, 0], [0, 0], [0, 1], [1, -1], [-1, 1], [-1, 2]])
GROUPS = ["a", "a", "b", "c", "d", "e"]


@pytest.mark.parametrize("name", list(SAMPLINGS))
def test_shares_are_a_distribution(name):
    shares = SAMPLINGS[name](TARGETS, GROUPS)
    assert shares.shape == (6,)
    assert shares.min() > 0
    assert shares.sum() == pytest.approx(1.0)


def test_classes_of_one_task_have_equal_shares():
    targets = np.array([[0]] * 8 + [[1]] * 2)
    shares = SAMPLINGS["class_balanced"](targets, ["g"] * 10)
    assert shares[:8].sum() == pytest.approx(0.5)
    assert shares[8:].sum() == pytest.approx(0.5)


def test_a_row_labelled_for_more_tasks_counts_for_each():
    shares = SAMPLINGS["class_balanced"](TARGETS, GROUPS)
    # kind: 1/2 over three rows; state: 1/3 over two rows; two tasks.
    assert shares[0] == pytest.approx((1 / 6 + 1 / 6) / 2)
    assert shares[3] == pytest.approx(1 / 4)


def test_rows_without_any_label_are_never_drawn_when_classes_are_balanced():
    targets = np.array([[0], [-1], [1]])
    assert SAMPLINGS["class_balanced"](targets, ["a", "b", "c"])[1] == 0


def test_a_big_group_counts_by_the_root_of_its_size():
    targets = np.zeros((17, 1), np.int64)
    shares = SAMPLINGS["group_balanced"](targets, ["big"] * 16 + ["small"])
    assert shares[:16].sum() / shares[16] == pytest.approx(4.0)


def test_a_data_set_is_drawn_from_as_its_weight_says_however_large_it_is():
    targets = np.array([[0]] * 90 + [[1]] * 6 + [[0]] * 4)
    groups = [f"g{row}" for row in range(100)]
    origins = ["drawn"] * 90 + ["real"] * 10
    shares = row_shares("class_balanced", targets, groups, origins, {"drawn": 1, "real": 3})
    assert shares[:90].sum() == pytest.approx(0.25)
    assert shares[90:96].sum() == pytest.approx(shares[96:].sum())


def test_without_weights_data_sets_are_one():
    origins = ["a", "a", "a", "b", "b", "b"]
    shares = row_shares("group_balanced", TARGETS, GROUPS, origins, {})
    assert shares == pytest.approx(SAMPLINGS["group_balanced"](TARGETS, GROUPS))


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 0, "b": 0}])
def test_refuses_weights_that_do_not_name_just_the_data_sets(weights):
    with pytest.raises(ConfigurationError, match=r"must name just the data sets .*a, b"):
        row_shares("shuffled", TARGETS, GROUPS, ["a", "a", "a", "b", "b", "b"], weights)


def test_equal_shares_draw_every_row_once():
    drawn = draw(np.full(50, 1 / 50), 50, np.random.default_rng(0))
    assert sorted(drawn) == list(range(50))
    assert list(drawn) != list(range(50))


@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=30),
    st.integers(1, 200),
    st.integers(0, 2**32 - 1),
)
def test_each_row_is_drawn_as_often_as_its_share_says_to_within_one(weights, count, seed):
    shares = np.array(weights) / sum(weights)
    drawn = draw(shares, count, np.random.default_rng(seed))
    assert drawn.shape == (count,)
    times = np.bincount(drawn, minlength=len(shares))
    assert np.abs(times - shares * count).max() <= 1 + 1e-6


def test_the_same_generator_draws_the_same_rows():
    shares = SAMPLINGS["class_balanced"](TARGETS, GROUPS)
    first, second = (draw(shares, 40, np.random.default_rng(3)) for _ in range(2))
    assert (first == second).all()
    assert (first != draw(shares, 40, np.random.default_rng(4))).any()
