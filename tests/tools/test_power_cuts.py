"""The account of events over power cuts: what counts as lost, and what does not."""

import math
import random
import threading
import time
from collections import Counter

import pytest

from tools.power_cuts.account import WINDOW, Account, CutError
from tools.power_cuts.findings import beside, records, total
from tools.power_cuts.machine import Machine
from tools.power_cuts.plan import Plan, work_side_by_side


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


class Lane(Machine):
    """A machine that is only counted, and breaks a promise at its cut number `broken`."""

    def __init__(self, lane: int, broken: int | None = None) -> None:
        self.lane = lane
        self.found = Counter[str]()
        self.account = Account()
        self.ended: list[int] = []
        self._broken = broken
        self._off = threading.Event()

    def cut(self, boot: int, broker: str, chance: random.Random) -> None:
        self.found["cuts"] += 1
        if boot == self._broken:
            raise CutError("an event is lost")
        self._off.wait(0.001)

    def switch_off(self) -> None:
        self._off.set()

    def finish(self, boot: int) -> None:
        self.ended.append(boot)


def test_machines_share_out_the_cuts_and_each_is_left_alone_at_its_end() -> None:
    lanes = [Lane(0), Lane(1)]
    work_side_by_side(lanes, Plan(20, math.inf), 0)
    assert total(lanes)["cuts"] == 20
    assert [lane.ended for lane in lanes] == [[lane.found["cuts"]] for lane in lanes]


def test_a_broken_promise_stops_the_other_machines_too() -> None:
    lanes = [Lane(0), Lane(1, broken=3)]
    with pytest.raises(CutError, match="an event is lost"):
        work_side_by_side(lanes, Plan(10**9, math.inf), 0)
    assert lanes[0].found["cuts"] < 10**9


def test_no_cut_begins_after_the_time_that_was_given() -> None:
    lane = Lane(0)
    work_side_by_side([lane], Plan(5, time.monotonic() - 1.0), 0)
    assert (lane.found["cuts"], lane.ended) == (0, [0])


def test_sittings_add_up() -> None:
    first = records([safe("a", "b")], Counter(cuts=15))
    second = records([safe("c")], Counter({"cuts": 7, "bundle committed": 2}))
    both = beside(first, second)
    assert [record.runs for record in both] == [22, 22]
    assert both[0].values == {"safe": 3, "unheard": 0, "sittings": 2}
    assert both[1].values == {"swaps": 2, "sittings": 2}
    assert beside([], second) == second
