import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.ledger import WINDOW, Ledger


def ledger_of(accepted: str, offered: str = "") -> Ledger:
    ledger = Ledger()
    for event_id in accepted:
        ledger.accept(event_id)
    for event_id in offered:
        ledger.offer(event_id)
    return ledger


def test_what_was_accepted_and_came_once_is_all_right() -> None:
    verdict = ledger_of("abc").judge("abc")
    verdict.check(interruptions=0)
    assert (verdict.accepted, verdict.copies) == (3, 0)


def test_what_was_accepted_and_never_came_is_lost() -> None:
    verdict = ledger_of("abc").judge("ac")
    assert verdict.lost == ("b",)
    with pytest.raises(AssertionError, match="1 of 3 lost"):
        verdict.check(interruptions=9)


def test_what_was_offered_only_may_come_or_not() -> None:
    ledger_of("ab", offered="c").judge("ab").check(interruptions=0)
    ledger_of("ab", offered="c").judge("abc").check(interruptions=0)


def test_what_nobody_offered_is_a_stranger() -> None:
    with pytest.raises(AssertionError, match="nobody offered"):
        ledger_of("a").judge("ax").check(interruptions=9)


def test_copies_are_counted_and_bounded_by_the_interruptions() -> None:
    verdict = ledger_of("abc").judge("aababc")  # a again; after b both again
    assert (verdict.copies, verdict.longest_repeat) == (3, 2)
    verdict.check(interruptions=1)
    with pytest.raises(AssertionError, match="3 copies, 0 explained"):
        verdict.check(interruptions=0)


def test_events_that_overtake_others_are_found() -> None:
    with pytest.raises(AssertionError, match="overtook"):
        ledger_of("abc").judge("acb").check(interruptions=1)


@given(st.lists(st.integers(0, WINDOW), min_size=1, max_size=20))
def test_no_resending_after_a_kill_is_taken_for_a_loss(rewinds: list[int]) -> None:
    """A device that goes back by at most a window at each kill is in order, whatever it repeats."""
    arrivals: list[int] = []
    ahead = 0
    for rewind in rewinds:
        start = max(ahead - rewind, 0)
        ahead = start + WINDOW + 5
        arrivals += range(start, ahead)
    ledger = Ledger()
    for number in range(ahead):
        ledger.accept(str(number))
    verdict = ledger.judge(map(str, arrivals))
    verdict.check(interruptions=len(rewinds))
    assert verdict.copies == len(arrivals) - ahead
    assert verdict.longest_repeat <= WINDOW
