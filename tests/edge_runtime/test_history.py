"""The last hour of a zone."""

import numpy as np

from edge_runtime.decision import Decision
from edge_runtime.history import DAY_NS, HOUR_NS, Moment, Stretch, ZoneHistory

SECOND_NS = 10**9


def moment(taken_ns: int, open_: float = 0.5) -> Moment:
    said = np.array([1.0 - open_, open_], np.float32)
    return Moment(taken_ns, said, said, (0.5, 0.5), Decision("open", 1.0, False, "open", None))


def test_what_was_kept_and_the_newest_are_told_though_both_are_of_one_time() -> None:
    history = ZoneHistory()
    history.note(moment(SECOND_NS))
    assert len(history.moments()) == 1
    history.note(moment(SECOND_NS, 0.55))
    assert [float(one.said[1]) for one in history.moments() if one.said is not None] == [
        0.5,
        np.float32(0.55),
    ]


def test_a_moment_is_kept_every_five_seconds_and_where_it_brings_news() -> None:
    history = ZoneHistory()
    for second in range(12):
        history.note(moment(second * SECOND_NS, 0.9 if second == 7 else 0.5))
    kept = [one.taken_ns // SECOND_NS for one in history.moments()]
    assert kept == [0, 5, 7, 8, 11]


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    history = ZoneHistory()
    history.note(moment(0))
    history.note(moment(HOUR_NS + 1))
    assert [one.taken_ns for one in history.moments()] == [HOUR_NS + 1]


def told(taken_ns: int, state: str) -> Moment:
    return Moment(taken_ns, None, None, (0.5, 0.5), Decision(state, 1.0, False, state, None))


def test_the_day_is_when_which_state_began_and_the_one_that_it_began_in() -> None:
    history = ZoneHistory()
    for hour, state in enumerate(["unknown", "closed", "closed", "open", "closed"]):
        history.note(told(hour * HOUR_NS, state))
    assert history.day() == [
        Stretch(0, "unknown"),
        Stretch(HOUR_NS, "closed"),
        Stretch(3 * HOUR_NS, "open"),
        Stretch(4 * HOUR_NS, "closed"),
    ]
    history.note(told(3 * HOUR_NS + DAY_NS + 1, "open"))
    assert [stretch.since_ns for stretch in history.day()] == [
        3 * HOUR_NS,
        4 * HOUR_NS,
        3 * HOUR_NS + DAY_NS + 1,
    ]


def test_the_day_of_a_restless_zone_is_bounded() -> None:
    history = ZoneHistory()
    for second in range(5000):
        history.note(told(second * SECOND_NS, "open" if second % 2 else "closed"))
    assert len(history.day()) == 1000
