"""What is kept of a booted machine's log."""

import pytest

from tools.booted import record

LOG = """
[   11.951844] sh[219]: transom-check: ok   is ready after the first verdict of its camera
[   11.963179] sh[219]: transom-check: ready 4 s after its start
[   12.347481] sh[219]: transom-check: ok   is exposed by at most 1.5 of 10
[   12.405253] sh[341]: → Overall exposure level for transom.service: 1.3 OK
[   78.104047] sh[219]: transom-check: ok   is killed by the watchdog when it hangs
[   81.285259] sh[219]: transom-check: ok   is active again
[   81.345553] sh[219]: transom-check: ok   says online again
[   94.696963] sh[219]: transom-check: all well
"""


def test_figures_are_those_of_the_log() -> None:
    found = record(LOG, "2026-01-01")
    assert found.has_passed
    assert found.finding == (
        "exposure 1.3 of 10; ready 4 s after its start, its camera delivering; made to hang, "
        "killed 66 s later and online again after 3 s"
    )


def test_a_boot_with_a_failure_is_recorded_as_failed() -> None:
    found = record(LOG.replace("all well", "1 failures"), "2026-01-01")
    assert not found.has_passed
    assert found.finding == "**FAILED**"


def test_a_boot_that_stopped_early_is_not_recorded() -> None:
    with pytest.raises(SystemExit, match="did the machine stop early"):
        record(LOG[:300], "2026-01-01")
