"""Electric power, where the board tells: what a crop costs in joules.

Three boards tell: a Pi 5 by `vcgencmd pmic_read_adc` (volts and amperes of every rail), anything
with a power sensor under hwmon, and PCs by RAPL's energy counter. A Pi 4 and a Pi Zero 2 do not.
"""

import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PAUSE_S = 0.05

_RAIL = re.compile(r"^\s*(\w+)_(A|V) (?:current|volt)\(\d+\)=([0-9.]+)[AV]", re.MULTILINE)


@dataclass(frozen=True)
class PowerMeter:
    """Where power is read.

    Attributes:
        source: What tells it, in words.
        joules: Energy so far, from a counter; None where there is none.
        watts: Power now; used where there is no counter.
    """

    source: str
    joules: Callable[[], float] | None = None
    watts: Callable[[], float] | None = None

    def mean_watts(self, work: Callable[[], object], seconds: float) -> tuple[float, int]:
        """Return the mean power while `work` is done again and again, and how often it was done."""
        began = time.perf_counter()
        first = self.joules() if self.joules else 0.0
        seen: list[float] = []
        done, looked = 0, began - _PAUSE_S
        while (now := time.perf_counter()) - began < seconds:
            work()
            done += 1
            if self.watts and now - looked >= _PAUSE_S:
                seen.append(self.watts())
                looked = now
        if self.joules:
            return (self.joules() - first) / (time.perf_counter() - began), done
        return statistics.fmean(seen or [0.0]), done


def find_meter(*, sys: Path = Path("/sys"), vcgencmd: str | None = None) -> PowerMeter | None:
    """Return where this board tells its power, or None.

    Args:
        sys: Where the kernel shows devices.
        vcgencmd: The Raspberry Pi's tool; None = where PATH has it.
    """
    tool = vcgencmd or shutil.which("vcgencmd")
    if tool and _rails_w(tool) is not None:
        return PowerMeter("vcgencmd pmic_read_adc", watts=lambda: _rails_w(tool) or 0.0)
    counters = [*sys.glob("class/powercap/*:0/energy_uj"), *sys.glob("class/hwmon/*/energy*_input")]
    for path in sorted(counters):
        if _microunits(path) is not None:
            return PowerMeter(str(path), joules=_reader(path))
    for path in sorted(sys.glob("class/hwmon/*/power*_input")):
        if _microunits(path) is not None:
            return PowerMeter(str(path), watts=_reader(path))
    return None


def _reader(path: Path) -> Callable[[], float]:
    return lambda: _microunits(path) or 0.0


def _microunits(path: Path) -> float | None:
    """Read millionths; None where they cannot be read, as RAPL's by other users than root."""
    try:
        return int(path.read_text("ascii")) / 1e6
    except (OSError, ValueError):
        return None


def _rails_w(tool: str) -> float | None:
    """Add up volts times amperes of every rail; None where the board has no such sensors."""
    try:
        said = subprocess.run(  # noqa: S603 - the board's own tool, by its own path
            [tool, "pmic_read_adc"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    rails: dict[str, dict[str, float]] = {}
    for rail, unit, value in _RAIL.findall(said.stdout):
        rails.setdefault(rail, {})[unit] = float(value)
    powers = [rail["A"] * rail["V"] for rail in rails.values() if len(rail) == 2]
    return sum(powers) if powers else None
