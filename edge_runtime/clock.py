"""Time as the daemon sees it: monotonic for every timer, wall time only as a label on events.

A Raspberry Pi has no battery-backed clock. After a boot without network its wall time is plausible
and wrong, and it jumps when the network comes; nothing here is measured with it.
"""

import ctypes
import time
from datetime import UTC, datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR = 5
_NTP_VALUES_BYTES = 512
"""Room for the kernel's `struct timex` (208 bytes on 64-bit); only its first field is set."""


class Clock:
    """The machine's clocks. Tests and `transom replay` pass one of their own."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds since some fixed moment of this boot; never jumps."""
        return time.monotonic_ns()

    def monotonic_s(self) -> float:
        """Return seconds since the same moment as `monotonic_ns`."""
        return self.monotonic_ns() / 1e9

    def wall(self) -> datetime:
        """Return the wall time, UTC."""
        return datetime.now(UTC)

    def is_synchronised(self) -> bool:
        """Return whether the wall time was set from the network since the boot."""
        return _TIMESYNCD.exists() or _kernel_says_synchronised()

    def boot_id(self) -> str:
        """Return the kernel's name for this boot; monotonic times compare only within one."""
        try:
            return _BOOT_ID.read_text("ascii").strip()
        except OSError:
            return ""


def _kernel_says_synchronised() -> bool:
    """Ask adjtimex(2), which every NTP client keeps; a sandbox may refuse, which counts as no."""
    libc = ctypes.CDLL(None, use_errno=True)
    values = ctypes.create_string_buffer(_NTP_VALUES_BYTES)  # modes = 0: read only
    state = libc.adjtimex(values)
    return state not in (-1, _TIME_ERROR)


def iso(moment: datetime) -> str:
    """Return a UTC moment as the payloads write it: ISO 8601 with milliseconds and `Z`.

    Examples:
        >>> iso(datetime(2026, 11, 23, 12, 0, 0, 5000, tzinfo=UTC))
        '2026-11-23T12:00:00.005Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
