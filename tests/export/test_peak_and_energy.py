"""What a board says of itself, read from files as boards have them."""

from pathlib import Path

import pytest

from export.energy import find_meter
from export.peak import find_peak

PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""
XEON = """processor\t: 0
cpu MHz\t\t: 2100.000
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni
"""
RAILS = """     EXT5V_A current(7)=0.50000000A
     VDD_CORE_A current(8)=2.00000000A
        VDD_CORE_V volt(15)=0.75000000V
           EXT5V_V volt(24)=5.00000000V
          BATT_V volt(25)=0.00488405V
"""


def proc_of(folder: Path, cpuinfo: str) -> Path:
    (folder / "cpuinfo").write_text(cpuinfo)
    return folder


def clock_of(folder: Path, khz: int) -> Path:
    file = folder / "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    file.parent.mkdir(parents=True)
    file.write_text(f"{khz}\n")
    return folder


def test_a_pi_5_makes_32_products_a_cycle(tmp_path: Path) -> None:
    sys = clock_of(tmp_path / "sys", 2_400_000)
    peak = find_peak(machine="aarch64", proc=proc_of(tmp_path, PI_5), sys=sys)
    assert peak is not None
    assert (peak.core, peak.macs_per_cycle, peak.ghz) == ("Cortex-A76", 32, 2.4)
    assert peak.least_ms(76_800_000) == pytest.approx(1.0)
    assert peak.least_ms(76_800_000, threads=4) == pytest.approx(0.25)


def test_a_processor_with_vnni_is_told_by_its_flags(tmp_path: Path) -> None:
    peak = find_peak(machine="x86_64", proc=proc_of(tmp_path, XEON), sys=tmp_path)
    assert peak is not None
    assert (peak.core, peak.macs_per_cycle, peak.ghz) == ("x86 with avx512_vnni", 128, 2.1)


@pytest.mark.parametrize("cpuinfo", ["", "CPU part\t: 0xfff\n", "CPU part\t: 0xd0b\n"])
def test_no_limit_is_stated_where_core_or_clock_are_not_known(tmp_path: Path, cpuinfo: str) -> None:
    assert find_peak(machine="aarch64", proc=proc_of(tmp_path, cpuinfo), sys=tmp_path) is None


def test_a_board_that_does_not_tell_has_no_meter(tmp_path: Path) -> None:
    assert find_meter(sys=tmp_path, vcgencmd=str(tmp_path / "none")) is None


def test_a_pi_5_tells_volts_and_amperes_of_its_rails(tmp_path: Path) -> None:
    tool = tmp_path / "vcgencmd"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{RAILS}END\n")
    tool.chmod(0o755)
    meter = find_meter(sys=tmp_path, vcgencmd=str(tool))
    assert meter is not None
    watts, done = meter.mean_watts(lambda: None, 0.2)
    assert watts == pytest.approx(0.5 * 5.0 + 2.0 * 0.75)
    assert done > 0


def test_a_counter_gives_the_energy_between_two_looks(tmp_path: Path) -> None:
    counter = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    counter.write_text("5000000\n")
    meter = find_meter(sys=tmp_path, vcgencmd=str(tmp_path / "none"))
    assert meter is not None
    assert meter.source.endswith("energy_uj")
    watts, _ = meter.mean_watts(lambda: counter.write_text("5600000\n"), 0.2)
    assert 0.0 < watts <= 3.0  # 0.6 J in 0.2 s, or a little longer


def test_a_power_sensor_is_sampled_while_it_works(tmp_path: Path) -> None:
    sensor = tmp_path / "class/hwmon/hwmon0/power1_input"
    sensor.parent.mkdir(parents=True)
    sensor.write_text("3500000\n")
    meter = find_meter(sys=tmp_path, vcgencmd=str(tmp_path / "none"))
    assert meter is not None
    watts, _ = meter.mean_watts(lambda: None, 0.2)
    assert watts == pytest.approx(3.5)
