"""What a zone still knows after a restart: its last state, and for how long it has been open."""

from datetime import datetime

import msgspec

from edge_runtime.clock import Clock


class ZoneMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A zone at the moment of its newest event.

    Attributes:
        state: The last state that was not `unknown`.
        at: UTC wall time, ISO 8601, of that moment.
        time_synced: Whether the wall clock could be trusted then.
        boot_id: The machine's boot.
        monotonic_ns: The moment in that boot.
        open_s: Seconds that the zone had been open; None = closed.
        is_told: Whether `left_open` was published of this opening.
        told_s: Seconds that the zone had been open when it was, last; None = it was not, or by a
            version that did not note it.
    """

    state: str
    at: str
    time_synced: bool
    boot_id: str
    monotonic_ns: int
    open_s: float | None = None
    is_told: bool = False
    told_s: float | None = None

    def age_s(self, clock: Clock) -> float | None:
        """Return the seconds since then; None where no clock knows.

        Within one boot the monotonic clock knows; beyond it the wall clock, if it was right then
        and is right now.
        """
        if self.boot_id == clock.boot_id():
            return max((clock.monotonic_ns() - self.monotonic_ns) / 1e9, 0.0)
        if self.time_synced and clock.is_synchronised():
            return max((clock.wall() - datetime.fromisoformat(self.at)).total_seconds(), 0.0)
        return None


def encode_memory(memory: ZoneMemory) -> bytes:
    """Return a memory as the bytes that are kept."""
    return msgspec.json.encode(memory)


def decode_memory(data: bytes | None) -> ZoneMemory | None:
    """Read what was kept; None where nothing was, or by a version that kept something else."""
    try:
        memory = None if data is None else msgspec.json.decode(data, type=ZoneMemory)
        if memory is not None:
            datetime.fromisoformat(memory.at)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None
    return memory


class OpenTimer:
    """When a zone's `left_open` is due.

    Attributes:
        told_s: Seconds that the zone had been open when it was last said of this opening; None = it
            was not.

    Args:
        after_s: Seconds open before the first; None = never.
        repeat_s: Seconds between two.
    """

    def __init__(self, after_s: float | None, repeat_s: float) -> None:
        self._after_s = after_s
        self._repeat_s = repeat_s
        self._since_ns: int | None = None
        self._due_s = 0.0
        self.told_s: float | None = None

    def open_s(self, now_ns: int) -> float | None:
        """Return the seconds that the zone has been open; None = closed."""
        return None if self._since_ns is None else max((now_ns - self._since_ns) / 1e9, 0.0)

    def opened(self, now_ns: int) -> None:
        """Start, unless it runs."""
        if self._since_ns is None:
            self._since_ns, self._due_s, self.told_s = now_ns, self._after_s or 0.0, None

    def closed(self) -> None:
        """Stop."""
        self._since_ns, self.told_s = None, None

    def resume(self, now_ns: int, memory: ZoneMemory, age_s: float) -> None:
        """Go on where an earlier run stopped: the time counts on."""
        if memory.open_s is None:
            return
        self._since_ns = now_ns - int((memory.open_s + age_s) * 1e9)
        self.told_s = memory.told_s
        if self.told_s is None and memory.is_told:
            self.told_s = memory.open_s
        self._due_s = self._after_s or 0.0 if self.told_s is None else self.told_s + self._repeat_s

    def is_due(self, now_ns: int) -> bool:
        """Return whether it is time to say so; the next one is then due after `repeat_s`."""
        open_s = self.open_s(now_ns)
        if self._after_s is None or open_s is None or open_s < self._due_s:
            return False
        self._due_s, self.told_s = open_s + self._repeat_s, open_s
        return True
