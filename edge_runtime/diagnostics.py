"""Figures about the daemon and the machine under it, for the diagnostics topic and the doctor."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge_runtime.clock import Clock
from edge_runtime.mqtt import PublisherCounters
from edge_runtime.outbox import OutboxCounts
from edge_runtime.precision import Chosen
from edge_runtime.samples import SampleCounts
from transom.messages import Diagnostics

_MIB = 1024.0 * 1024.0
_THROTTLED = "devices/platform/soc/soc:firmware/get_throttled"

UNDERVOLTAGE = 1 << 0
_HOLDS_BACK = {
    UNDERVOLTAGE: "undervoltage",
    1 << 1: "frequency capped",
    1 << 2: "throttled",
    1 << 3: "soft temperature limit",
}
SINCE_BOOT = 16
"""The same bits, this far up, say that it has happened since the boot."""


class Machine:
    """The machine's own figures, from /proc and /sys.

    Args:
        clock: For the share of time that the daemon computes.
        proc: Where the kernel shows processes.
        sys: Where it shows devices.
    """

    def __init__(
        self, clock: Clock, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")
    ) -> None:
        self._clock = clock
        self._proc = proc
        self._sys = sys
        self._started_s = clock.monotonic_s()
        self._seen_s = self._started_s
        self._busy_s: dict[int, float] = {}

    @property
    def uptime_s(self) -> float:
        """Seconds since this object was made, with the daemon."""
        return self._clock.monotonic_s() - self._started_s

    def cpu_percent(self, processes: Iterable[int]) -> float:
        """Return the share of one core that `processes` used since the last call; 0 to 100 a core.

        A process that was not there at the last call counts from its start.
        """
        busy_s = {process: self._process_s(process) for process in processes}
        used_s = sum(max(s - self._busy_s.get(p, 0.0), 0.0) for p, s in busy_s.items())
        now_s = self._clock.monotonic_s()
        passed_s = now_s - self._seen_s
        self._busy_s, self._seen_s = busy_s, now_s
        return round(100.0 * used_s / passed_s, 1) if passed_s > 0 else 0.0

    def _process_s(self, process: int) -> float:
        try:
            line = (self._proc / str(process) / "stat").read_text("ascii", "replace")
            fields = line.rpartition(")")[2].split()  # the name before it may hold anything
            ticks = int(fields[11]) + int(fields[12])
        except (OSError, ValueError, IndexError):
            return 0.0
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Return the resident memory of this process, MiB."""
        try:
            pages = int((self._proc / "self" / "statm").read_text("ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return 0.0
        return round(pages * os.sysconf("SC_PAGE_SIZE") / _MIB, 1)

    def temperature_c(self) -> float | None:
        """Return the processor's temperature; None where the machine does not say."""
        for zone in sorted((self._sys / "class" / "thermal").glob("thermal_zone*")):
            try:
                kind = (zone / "type").read_text("ascii").strip()
                millidegrees = int((zone / "temp").read_text("ascii"))
            except (OSError, ValueError):
                continue
            if "cpu" in kind or "soc" in kind or kind == "x86_pkg_temp":
                return millidegrees / 1000.0
        return None

    def throttled(self) -> int | None:
        """Return the firmware's bits (`in_words` names them); None on other boards.

        Falls back on the under-voltage alarm that every kernel for a Raspberry Pi shows.
        """
        try:
            return int((self._sys / _THROTTLED).read_text("ascii"), 16)
        except (OSError, ValueError):
            pass
        for sensor in sorted((self._sys / "class" / "hwmon").glob("hwmon*")):
            try:
                if (sensor / "name").read_text("ascii").strip() == "rpi_volt":
                    alarm = int((sensor / "in0_lcrit_alarm").read_text("ascii"))
                    return UNDERVOLTAGE if alarm else 0
            except (OSError, ValueError):
                continue
        return None


def in_words(bits: int) -> str:
    """Name the firmware's bits: what holds the board back now, and what has since the boot.

    References:
        https://www.raspberrypi.com/documentation/computers/os.html#get_throttled

    Examples:
        >>> in_words(0x50005)
        'undervoltage, throttled now; undervoltage, throttled since the boot'
        >>> in_words(0)
        'nothing'
    """
    said = {"now": bits, "since the boot": bits >> SINCE_BOOT}
    found = {
        when: ", ".join(name for bit, name in _HOLDS_BACK.items() if set_bits & bit)
        for when, set_bits in said.items()
    }
    return "; ".join(f"{names} {when}" for when, names in found.items() if names) or "nothing"


def collect(
    machine: Machine,
    *,
    processes: Iterable[int],
    frame_age_s: Mapping[str, float | None],
    fps: Mapping[str, float],
    inference_ms: float | None,
    outbox: OutboxCounts,
    publisher: PublisherCounters,
    samples: SampleCounts | None = None,
    chosen: Chosen | None = None,
) -> Diagnostics:
    """Return one diagnostics message.

    Args:
        machine: Kept between calls: the CPU's share is that since the last call.
        processes: Ids of the daemon's processes, its cameras' included.
        frame_age_s: Seconds since the newest frame, by camera; None = none yet.
        fps: Frames judged per second, by camera.
        inference_ms: Median of the network for one batch.
        outbox: What waits and what was lost.
        publisher: What became of the connection.
        samples: Pictures kept to be labelled; None = none are.
        chosen: In which precision the network runs.
    """
    return Diagnostics(
        uptime_s=round(machine.uptime_s, 1),
        frame_age_s={k: None if v is None else round(v, 3) for k, v in frame_age_s.items()},
        fps={name: round(value, 2) for name, value in fps.items()},
        inference_ms=None if inference_ms is None else round(inference_ms, 2),
        cpu_percent=machine.cpu_percent(processes),
        rss_mb=machine.rss_mb(),
        temperature_c=machine.temperature_c(),
        throttled=machine.throttled(),
        queued_events=outbox.queued,
        dropped_events=outbox.dropped,
        refused_events=outbox.refused,
        refused_topics=publisher.refused_topics,
        reconnects=publisher.reconnects,
        samples=None if samples is None else samples.samples,
        sample_bytes=None if samples is None else samples.stored_bytes,
        labelled_samples=None if samples is None else samples.labelled,
        precision=None if chosen is None else chosen.precision,
        precision_why="" if chosen is None else chosen.why,
    )
