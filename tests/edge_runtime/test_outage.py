"""How long a camera that went is left alone before it is tried again."""

import pytest

from edge_runtime.outage import RETRY_LAST_S, RETRY_SOON_S, SOON_S, Presence


def pauses_s(outage_s: float) -> list[tuple[float, float]]:
    """Return, for each attempt of an outage, when it failed and the pause after it, seconds."""
    presence, now_ns = Presence("hall"), 0
    found: list[tuple[float, float]] = []
    while now_ns < outage_s * 1e9:
        presence.went("no picture", now_ns, had_come=not found)
        found.append((now_ns / 1e9, presence.pause_left_s(now_ns)))
        now_ns += int(found[-1][1] * 1e9)
        assert presence.is_retry_due(now_ns + 1)
    return found


def test_no_pause_is_shorter_than_a_second_or_longer_than_half_a_minute() -> None:
    pauses = [pause for _, pause in pauses_s(3600.0)]

    assert min(pauses) >= 1.0
    assert max(pauses) <= RETRY_LAST_S
    assert max(pauses) > 0.7 * RETRY_LAST_S


def test_a_camera_that_went_lately_is_tried_often() -> None:
    assert all(pause <= RETRY_SOON_S for failed_s, pause in pauses_s(3600.0) if failed_s < SOON_S)


def test_cameras_that_went_together_do_not_come_back_together() -> None:
    firsts = {round(pauses_s(1.0)[0][1], 6) for _ in range(20)}

    assert len(firsts) == 20
    assert max(firsts) - min(firsts) > 0.1


def test_a_camera_that_was_back_is_tried_soon_again() -> None:
    presence = Presence("hall")
    for attempt in range(40):
        presence.went("no picture", int(attempt * 60e9), had_come=False)
    presence.came("usb:0", int(2400e9))
    presence.went("no picture", int(2500e9), had_come=True)

    assert presence.pause_left_s(int(2500e9)) <= 1.5


def test_is_logged_when_it_goes_and_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    presence = Presence("hall")
    presence.came("usb:0", 0)
    for second in (10, 20, 30):
        presence.went("no picture", int(second * 1e9), had_come=second == 10)
    presence.came("usb:0", int(70e9))

    assert [record.getMessage() for record in caplog.records] == [
        "camera gone camera=hall reason=no picture",
        "camera back camera=hall away_s=60.0",
    ]
