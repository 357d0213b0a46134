import math

import pytest

from train.recipe import Recipe
from train.schedule import Schedule

RECIPE = Recipe(epochs=10, frozen_epochs=2, unfreeze_epochs=3, warmup=0.25)


def test_stages_rest_together_and_thaw_one_after_the_other_from_the_deepest() -> None:
    schedule = Schedule(RECIPE, steps=4, stages=3)
    assert [schedule.frozen_stages(epoch) for epoch in range(10)] == [3, 3, 2, 2, 2, 1, 1, 1, 0, 0]
    assert schedule.alike(6) == [5, 6, 7]


@pytest.mark.parametrize("stages", [0, 3])
def test_all_stages_thaw_at_once_where_the_recipe_names_no_pace(stages: int) -> None:
    schedule = Schedule(RECIPE.with_values({"unfreeze_epochs": 0}), steps=4, stages=stages)
    assert [schedule.frozen_stages(epoch) for epoch in range(4)] == [stages, stages, 0, 0]


def test_the_rate_is_whole_while_stages_rest_then_warms_up_and_falls_along_a_cosine() -> None:
    schedule = Schedule(RECIPE, steps=4, stages=3)
    rates = [schedule.rate_at(step) for step in range(40)]
    assert rates[:8] == [1.0] * 8
    assert rates[8:16] == pytest.approx([(done + 1) / 9 for done in range(8)])
    assert rates[16] == 1.0
    assert rates[28] == pytest.approx(0.5)
    assert rates[39] == pytest.approx(0.5 + 0.5 * math.cos(math.pi * 23 / 24))


def test_nothing_rests_where_nothing_is_pretrained() -> None:
    schedule = Schedule(RECIPE.with_values({"warmup": 0.0}), steps=4, stages=0)
    assert schedule.frozen_stages(0) == 0
    assert schedule.rate_at(20) == pytest.approx(0.5)
