"""Waves, limits and the end of a rollout, without anybody to speak with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollout import Plan, Rollout, waves

DIGEST = "ab" * 32


def fleet(count: int, away: int = 0) -> dict[str, bool]:
    return {f"pi-{number}": number >= away for number in range(count)}


def ask(rollout: Rollout, now_s: float = 0.0) -> list[str]:
    due = rollout.due()
    for course in due:
        rollout.asked(course, now_s)
    return [course.device for course in due]


@given(
    st.integers(1, 300),
    st.integers(0, 20),
    st.lists(st.floats(0.1, 99.0), max_size=5, unique=True).map(sorted),
)
def test_every_device_is_in_one_wave(count: int, canaries: int, stages: list[float]) -> None:
    plan = Plan(canaries, (*stages, 100.0))
    parts = waves(list(fleet(count)), plan)
    assert [device for part in parts for device in part] == list(fleet(count))
    assert all(parts)
    assert not canaries or len(parts[0]) == min(canaries, count)


@pytest.mark.parametrize("stages", [(), (50.0,), (10.0, 10.0, 100.0), (0.0, 100.0), (100.0, 50.0)])
def test_refuses_stages_that_do_not_rise_to_all(stages: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="stages must rise above 0 and end with 100"):
        Plan(stages=stages)


def test_the_next_wave_is_asked_when_the_one_before_has_decided() -> None:
    rollout = Rollout(fleet(20), DIGEST, Plan(1, (50.0, 100.0)))
    canary = ask(rollout)
    assert len(canary) == 1
    assert ask(rollout) == []
    rollout.told(canary[0], "accepted")
    assert ask(rollout) == []
    rollout.told(canary[0], "committed")
    second = ask(rollout)
    assert len(second) == 9
    for device in second[:-1]:
        rollout.told(device, "committed")
    assert ask(rollout) == []
    rollout.told(second[-1], "committed")
    assert len(ask(rollout)) == 10
    assert not rollout.is_over


def test_a_canary_that_fails_ends_it_before_anybody_else_is_asked() -> None:
    rollout = Rollout(fleet(20), DIGEST, Plan())
    (canary,) = ask(rollout)
    rollout.told(canary, "refused", "golden")
    assert rollout.is_aborted
    assert rollout.is_over
    assert ask(rollout) == []
    assert rollout.counts() == {"failed": 1, "planned": 19}


def test_ends_as_soon_as_more_failed_than_allowed_of_those_asked() -> None:
    rollout = Rollout(fleet(101), DIGEST, Plan(1, (100.0,), most_failures_percent=5.0))
    rollout.told(ask(rollout)[0], "committed")
    others = ask(rollout)
    for device in others[:5]:
        rollout.told(device, "refused", "golden")
    assert not rollout.is_aborted  # 5 of 101
    rollout.told(others[5], "rolled_back", "crashes")
    assert rollout.is_aborted
    assert list(rollout.undecided()) == []
    assert len(list(rollout.let_be())) == 94


def test_a_device_that_goes_back_later_counts_as_failed() -> None:
    rollout = Rollout(fleet(2), DIGEST, Plan(1, (100.0,), most_failures_percent=60.0))
    (canary,) = ask(rollout)
    rollout.told(canary, "committed")
    ask(rollout)
    course = rollout.told(canary, "rolled_back", "daemon ended 3 times")
    assert course is not None
    assert course.standing == "failed"


def test_devices_that_are_away_are_asked_last_and_not_waited_for() -> None:
    rollout = Rollout(fleet(10, away=3), DIGEST, Plan(1, (50.0, 100.0)))
    asked: list[str] = []
    while not rollout.is_over:
        wave = ask(rollout)
        asked += wave
        for device in wave:
            if device not in ("pi-0", "pi-1", "pi-2"):
                rollout.told(device, "committed")
    assert set(asked[-3:]) == {"pi-0", "pi-1", "pi-2"}
    assert rollout.counts() == {"done": 7, "away": 3}
    assert len(list(rollout.undecided())) == 3


def test_a_device_that_was_away_and_comes_back_is_waited_for() -> None:
    rollout = Rollout(fleet(2, away=1), DIGEST, Plan(1, (100.0,)))
    rollout.told(ask(rollout)[0], "committed")
    (away,) = ask(rollout)
    assert rollout.is_over
    rollout.told(away, "accepted")
    assert not rollout.is_over


def test_silence_and_indecision_are_failures() -> None:
    plan = Plan(2, (100.0,), most_failures_percent=100.0, answer_s=60.0, decide_s=600.0)
    rollout = Rollout(fleet(2), DIGEST, plan)
    silent, slow = ask(rollout)
    rollout.told(slow, "accepted")
    rollout.check_time(60.0)
    assert not rollout.is_over
    rollout.check_time(61.0)
    assert "is [updates] in its configuration?" in rollout.courses[silent].reason
    assert rollout.courses[slow].standing == "underway"
    rollout.check_time(601.0)
    assert rollout.courses[slow].reason == "not decided within 600 s"
    assert {course.device for course in rollout.let_be()} == {silent, slow}
    assert rollout.is_over


def test_one_that_waits_for_a_person_does_not_hold_the_others_up() -> None:
    rollout = Rollout(fleet(2), DIGEST, Plan(1, (100.0,)))
    rollout.told(ask(rollout)[0], "waiting")
    assert len(ask(rollout)) == 1


def test_a_rollout_that_is_taken_up_again_asks_in_the_same_order() -> None:
    def order(digest: str) -> list[str]:
        rollout = Rollout(fleet(30), digest, Plan())
        asked: list[str] = []
        while wave := ask(rollout):
            asked += wave
            for device in wave:
                rollout.told(device, "committed")
        return asked

    assert order(DIGEST) == order(DIGEST)
    assert order(DIGEST) != order("cd" * 32)  # the canary is not always the same poor device


def test_what_others_report_is_passed_over() -> None:
    rollout = Rollout(fleet(2), DIGEST, Plan())
    assert rollout.told("stranger", "refused") is None
    assert rollout.told("pi-0", "refused") is None  # not asked yet
    assert not rollout.is_aborted
