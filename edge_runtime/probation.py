"""Whether a bundle that has just begun to serve is kept: judged by how the device does with it."""

from dataclasses import dataclass

_LATE_FACTOR = 5.0
"""So many times `updates.healthy_s` may pass before a device that is not well goes back."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of the bundle.

    Attributes:
        sick: Why the device is not well with it; None = the bundle is kept.
    """

    sick: str | None


class Probation:
    """Watches how a device does, and gives one verdict.

    A device that is well for long enough without a break keeps its bundle, and one that is not well
    for far longer goes back to the one before.

    Args:
        healthy_s: How long it must be well.
        now_s: Monotonic.
    """

    def __init__(self, healthy_s: float, now_s: float) -> None:
        self._healthy_s = healthy_s
        self.begin_anew(now_s)

    def begin_anew(self, now_s: float) -> None:
        """Forget what was seen: the verdict could not be carried out."""
        self._began_s = now_s
        self._well_since_s: float | None = None
        self._has_judged = False

    def look(self, now_s: float, *, is_well: bool) -> Verdict | None:
        """Take in how the device does now; return the verdict once it is due, and once only."""
        if self._has_judged:
            return None
        if not is_well:
            self._well_since_s = None
        elif self._well_since_s is None:
            self._well_since_s = now_s
        verdict = self._verdict(now_s)
        self._has_judged = verdict is not None
        return verdict

    def take_back(self) -> None:
        """Give the verdict again at the next look: nobody has taken it in."""
        self._has_judged = False

    def _verdict(self, now_s: float) -> Verdict | None:
        if self._well_since_s is not None:
            is_kept = now_s - self._well_since_s >= self._healthy_s
            return Verdict(None) if is_kept else None
        late_s = now_s - self._began_s
        is_late = late_s > _LATE_FACTOR * self._healthy_s
        return Verdict(f"device was not well within {late_s:.0f} s") if is_late else None
