import logging

import pytest

from edge_runtime.complaints import BETWEEN_S, Complaints
from edge_runtime.replay import ClipClock


def test_a_flood_is_one_warning_a_minute_and_topic(caplog: pytest.LogCaptureFixture) -> None:
    clock = ClipClock()
    complaints = Complaints(logging.getLogger("edge_runtime.test"), clock)
    caplog.set_level(logging.WARNING)
    for _ in range(1000):
        complaints.say("is not used", "transom/pi/door/correct", "no class")
        complaints.say("is not used", "transom/pi/gate/correct", "no class")
    assert len(caplog.records) == 2
    clock.now_ns += int(BETWEEN_S * 1e9)
    complaints.say("is not used", "transom/pi/door/correct", "no class")
    assert caplog.messages[2] == (
        "is not used topic=transom/pi/door/correct reason=no class more_before=999"
    )
