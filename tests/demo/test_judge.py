from demo.judge import Alert, Change, judge, true_changes


def alert(t_s: float, zone: str = "door", event_type: str = "opened", state: str = "open") -> Alert:
    return Alert(
        t_s=t_s,
        at="2026-01-01T00:00:00Z",
        zone=zone,
        event_type=event_type,
        state=state,
        previous="closed",
        confidence=0.9,
        latency_ms=10.0 * t_s,
    )


def test_reads_the_changes_of_every_zone_in_the_order_of_time() -> None:
    states = {
        "door": [(0, "closed"), (50, "open"), (90, "closed")],
        "window": [(0, "ajar"), (70, "ajar")],
    }

    assert true_changes(states, fps=10.0) == [
        Change(5.0, "door", "opened", "open"),
        Change(9.0, "door", "closed", "closed"),
    ]


def test_an_alert_of_the_right_zone_and_kind_in_time_is_found() -> None:
    verdict = judge([Change(5.0, "door", "opened", "open")], [alert(6.0)])

    assert (len(verdict.found), verdict.missed, verdict.false) == (1, [], [])
    assert verdict.median_latency_ms == 60.0


def test_an_alert_of_another_zone_explains_nothing() -> None:
    change = Change(5.0, "door", "opened", "open")

    verdict = judge([change], [alert(6.0, zone="window")])

    assert verdict.missed == [change]
    assert [a.zone for a in verdict.false] == ["window"]
    assert verdict.median_latency_ms is None


def test_an_alert_long_after_the_change_is_false_and_the_change_missed() -> None:
    verdict = judge([Change(5.0, "door", "opened", "open")], [alert(30.0)])

    assert len(verdict.missed) == len(verdict.false) == 1


def test_ajar_and_open_in_one_movement_count_as_one_announcement() -> None:
    verdict = judge([Change(5.0, "door", "opened", "open")], [alert(4.0, state="ajar"), alert(6.0)])

    assert verdict.found[0][1].state == "open"
    assert verdict.false == []
