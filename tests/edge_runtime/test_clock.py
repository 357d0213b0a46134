import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_runtime import clock as clock_module
from edge_runtime.clock import Clock, iso


def test_monotonic_time_never_goes_back() -> None:
    clock = Clock()
    readings = [clock.monotonic_ns() for _ in range(1000)]
    assert readings == sorted(readings)
    assert readings[-1] / 1e9 <= clock.monotonic_s()


def test_monotonic_time_is_the_same_in_another_process() -> None:
    code = "from edge_runtime.clock import Clock; print(Clock().monotonic_ns())"
    before = Clock().monotonic_ns()
    other = int(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
    assert before < other < Clock().monotonic_ns()


def test_wall_time_is_utc() -> None:
    assert Clock().wall().tzinfo is UTC


def test_the_boot_has_one_id() -> None:
    assert Clock().boot_id() == Clock().boot_id()
    uuid.UUID(Clock().boot_id())


def test_is_synchronised_where_timesyncd_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "synchronized"
    monkeypatch.setattr(clock_module, "_TIMESYNCD", stamp)
    from_kernel = Clock().is_synchronised()
    stamp.touch()
    assert Clock().is_synchronised()
    assert from_kernel in (True, False)


def test_moments_are_written_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, timezone(timedelta(hours=2)))
    assert iso(moment) == "2026-01-02T01:04:05.678Z"
