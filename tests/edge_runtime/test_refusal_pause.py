"""Wishes without end that are refused: few are taken up, and soon again once it is over."""

from edge_runtime.refusal_pause import RefusalPause


def refused_in(seconds: float, refusals: RefusalPause) -> int:
    """Have a wish refused whenever one would be taken up."""
    now_s, count = 0.0, 0
    while now_s < seconds:
        now_s += refusals.pause_s(now_s)
        refusals.note(now_s)
        count += 1
    return count


def test_who_wishes_nonsense_all_day_is_answered_some_fourteen_hundred_times() -> None:
    assert 1400 < refused_in(86_400.0, RefusalPause()) < 1480


def test_who_errs_a_few_times_is_answered_a_second_later_each_time() -> None:
    assert refused_in(16.0, RefusalPause()) == 17


def test_the_first_wish_after_a_quiet_time_waits_a_second_again() -> None:
    refusals = RefusalPause()
    for second in range(100):
        refusals.note(float(second))
    assert refusals.pause_s(99.0) == 60.0
    refusals.note(700.0)
    assert refusals.pause_s(700.0) == 1.0
