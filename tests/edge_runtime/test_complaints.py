import logging

import pytest

from edge_runtime.complaints import BETWEEN_S, Complaints


def test_a_flood_is_one_warning_a_minute_and_topic(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("edge_runtime.test"))
    caplog.set_level(logging.WARNING)
    for _ in range(1000):
        complaints.say("is not used", "transom/pi/door/correct", "no class", 5.0)
        complaints.say("is not used", "transom/pi/gate/correct", "no class", 5.0)
    assert len(caplog.records) == 2
    complaints.say("is not used", "transom/pi/door/correct", "no class", 5.0 + BETWEEN_S)
    assert caplog.messages[2] == (
        "is not used topic=transom/pi/door/correct reason=no class more_before=999"
    )
