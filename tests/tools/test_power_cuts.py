"""The account of events over power cuts: what counts as lost, and what does not."""

import pytest

from tools.power_cuts import WINDOW, Account, CutError


def safe(*events: str) -> Account:
    account = Account()
    account.note({"what": "tick", "number": 0, "waiting": list(events)})
    return account


def test_an_event_that_was_on_the_disk_must_still_be_there_where_no_broker_was() -> None:
    account = safe("a", "b")
    account.look(["a", "b"], had_broker=False)
    with pytest.raises(CutError, match=r"1 events were on the disk and are not: \['b'\]"):
        account.look(["a"], had_broker=False)


def test_an_event_that_was_heard_need_not_be_there() -> None:
    account = safe("a", "b")
    account.note({"what": "heard", "event_id": "b"})
    account.look(["a"], had_broker=False)


def test_what_was_under_way_may_have_been_acknowledged_by_a_broker_that_went_down_too() -> None:
    account = safe(*map(str, range(WINDOW + 1)))
    account.look(["0"], had_broker=True)
    assert len(account.unheard) == WINDOW


def test_more_than_can_be_under_way_is_lost() -> None:
    account = safe(*map(str, range(WINDOW + 1)))
    with pytest.raises(CutError, match="can have been under way"):
        account.look([], had_broker=True)


def test_an_outbox_that_cannot_be_read_just_now_says_nothing() -> None:
    account = safe("a")
    account.note({"what": "drained", "waiting": None})
    assert account.safe == {"a"}


def test_at_the_end_all_must_have_come() -> None:
    account = safe("a", "b")
    account.note({"what": "heard", "event_id": "a"})
    account.note({"what": "heard", "event_id": "a"})
    with pytest.raises(CutError, match=r"1 events never came: \['b'\]"):
        account.close()
    account.note({"what": "heard", "event_id": "b"})
    account.close()
    assert account.heard["a"] == 2
