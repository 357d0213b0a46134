import os
from pathlib import Path

import pytest

from edge_runtime.clock import Clock
from edge_runtime.diagnostics import Machine, collect
from edge_runtime.mqtt import PublisherCounters
from edge_runtime.outbox import OutboxCounts
from transom.messages import Diagnostics, decode, encode


class SetClock(Clock):
    """A clock that stands where a test puts it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stat_line(user_ticks: int, system_ticks: int) -> str:
    return f"7 (a ) name) S 1 7 7 0 -1 4194560 1 0 0 0 {user_ticks} {system_ticks} 0 0 20 0 1 0 9\n"


def test_cpu_is_the_share_of_a_core_since_the_last_call(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    clock = SetClock()
    machine = Machine(clock, proc=tmp_path)
    for process in (7, 8):
        write(tmp_path / str(process) / "stat", stat_line(0, 0))
    clock.now_s += 10.0
    assert machine.cpu_percent([7, 8]) == 0.0
    write(tmp_path / "7" / "stat", stat_line(2 * ticks, 1 * ticks))
    write(tmp_path / "8" / "stat", stat_line(ticks, 0))
    clock.now_s += 10.0
    assert machine.cpu_percent([7, 8]) == 40.0
    clock.now_s += 10.0
    assert machine.cpu_percent([7, 9]) == 0.0


def test_a_busy_process_uses_cpu_and_has_memory() -> None:
    clock = Clock()
    machine = Machine(clock)
    machine.cpu_percent([os.getpid()])
    until_s = clock.monotonic_s() + 0.2
    while clock.monotonic_s() < until_s:
        pass
    assert machine.cpu_percent([os.getpid()]) > 5.0
    assert machine.rss_mb() > 5.0


def test_reads_the_temperature_of_the_processor_and_of_nothing_else(tmp_path: Path) -> None:
    thermal = tmp_path / "class" / "thermal"
    write(thermal / "thermal_zone0" / "type", "battery\n")
    write(thermal / "thermal_zone0" / "temp", "21000\n")
    machine = Machine(Clock(), sys=tmp_path)
    assert machine.temperature_c() is None
    write(thermal / "thermal_zone1" / "type", "cpu-thermal\n")
    write(thermal / "thermal_zone1" / "temp", "48312\n")
    assert machine.temperature_c() == 48.312


def test_reads_what_the_firmware_says_of_throttling(tmp_path: Path) -> None:
    write(tmp_path / "devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    assert Machine(Clock(), sys=tmp_path).throttled() == 0x50005


@pytest.mark.parametrize(("alarm", "expected"), [("0\n", 0), ("1\n", 1)])
def test_falls_back_on_the_voltage_alarm(tmp_path: Path, alarm: str, expected: int) -> None:
    sensor = tmp_path / "class" / "hwmon" / "hwmon1"
    write(sensor / "name", "rpi_volt\n")
    write(sensor / "in0_lcrit_alarm", alarm)
    assert Machine(Clock(), sys=tmp_path).throttled() == expected


def test_a_machine_without_sensors_says_so(tmp_path: Path) -> None:
    machine = Machine(Clock(), proc=tmp_path, sys=tmp_path)
    assert machine.temperature_c() is None
    assert machine.throttled() is None
    assert machine.cpu_percent([1]) == 0.0


def test_collects_one_message_that_can_be_read_back() -> None:
    clock = SetClock()
    machine = Machine(clock)
    clock.now_s += 60.0
    figures = collect(
        machine,
        processes=[os.getpid()],
        frame_age_s={"hall": 0.12345, "garage": None},
        fps={"hall": 4.9999},
        inference_ms=None,
        outbox=OutboxCounts(queued=3, held=1, dropped=2, refused=4),
        publisher=PublisherCounters(reconnects=5, refused=9, refused_topics=2),
    )
    assert decode(encode(figures), Diagnostics, "diagnostics") == figures
    assert figures.uptime_s == 60.0
    assert figures.frame_age_s == {"hall": 0.123, "garage": None}
    assert figures.fps == {"hall": 5.0}
    assert (figures.queued_events, figures.dropped_events) == (3, 2)
    assert (figures.refused_events, figures.refused_topics, figures.reconnects) == (4, 2, 5)
