import numpy as np
import pytest

from train.noise import Scores, draw_scores


def table(right, n=4):
    """One task, groups of n rows, so many right in each."""
    return {
        f"g{index}": {"n": n, "tasks": {"state": {"n": n, "accuracy": count / n}}}
        for index, count in enumerate(right)
    }


def scores(*seeds, n=4):
    return Scores.of([table(right, n) for right in seeds], ["state"])


def test_accuracy_is_that_of_all_rows_and_the_mean_over_seeds():
    found = scores([4, 0, 2], [4, 4, 4])
    assert found.by_seed[:, 0].tolist() == [0.5, 1.0]
    assert draw_scores([found]).means[0, 0] == 0.75


def test_a_group_without_a_label_for_a_task_does_not_count():
    tables = [table([4, 2])]
    tables[0]["unlabelled"] = {"n": 9, "tasks": {}}
    assert Scores.of(tables, ["state"]).by_seed[0, 0] == 0.75


def test_seeds_on_other_rows_are_refused():
    with pytest.raises(ValueError, match="same groups"):
        Scores.of([table([1, 2]), table([1, 2, 3])], ["state"])
    with pytest.raises(ValueError, match="same rows"):
        Scores.of([table([1, 2]), table([1, 2], n=8)], ["state"])


def test_more_groups_make_a_narrower_interval():
    random = np.random.default_rng(0)
    widths = []
    for groups in (10, 1000):
        draws = draw_scores([scores(random.binomial(4, 0.7, groups))])
        low, high = draws.interval(draws.by_task[:, 0, 0])
        assert low < draws.means[0, 0] < high
        widths.append(high - low)
    assert widths[0] > 5 * widths[1]


def test_the_same_hard_groups_do_not_blur_a_difference():
    hard = np.array([0, 4] * 20)
    draws = draw_scores([scores(hard), scores(np.minimum(hard + 1, 4))])
    alone = draws.interval(draws.by_task[:, 0, 0])
    difference = draws.interval(draws.by_task[:, 1, 0] - draws.by_task[:, 0, 0])
    assert difference[0] > 0
    assert difference[1] - difference[0] < 0.6 * (alone[1] - alone[0])


def test_a_single_seed_says_nothing_of_others_and_a_single_group_nothing_of_others():
    one = draw_scores([scores([1, 2])])
    assert (one.knows_groups, one.knows_seeds) == (True, False)
    alone = draw_scores([scores([3])])
    assert alone.interval(alone.by_task[:, 0, 0]) is None


def test_spread_over_seeds_widens_the_interval_as_student_says():
    draws = draw_scores([scores([40] * 50, [60] * 50, n=100)])
    low, high = draws.interval(draws.by_task[:, 0, 0])
    # The mean is 0.5, its standard error 0.1, and t with one degree of freedom reaches 12.7.
    assert high - low == pytest.approx(2 * 12.7 * 0.1, rel=0.25)


def test_a_share_is_never_outside_of_0_to_1():
    draws = draw_scores([scores([40] * 50, [60] * 50, n=100)])
    assert draws.interval_of_share(draws.by_task[:, 0, 0]) == (0.0, 1.0)


def test_networks_that_are_equally_good_are_seldom_told_apart():
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(60):
        ease = random.beta(4, 2, 60)
        rows = []
        for _ in range(2):
            seeds = ease + random.normal(0, 0.03, (3, 1))
            rows.append(scores(*random.binomial(4, seeds.clip(0, 1))))
        draws = draw_scores(rows)
        low, high = draws.interval(draws.by_task[:, 0, 0] - draws.by_task[:, 1, 0])
        alarms += low > 0 or high < 0
    assert alarms <= 7  # 5 % are allowed; 60 times at that rate, 8 or more come once in 200
