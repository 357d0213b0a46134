"""Alerts against the truth of the clip: what was announced, missed, or never happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

EARLY_S = 2.0
"""A movement is announced from its first centimetres on; the truth gives its end."""

LATE_S = 8.0


@dataclass(frozen=True)
class Alert:
    """An event as the subscriber received it; `t_s` in seconds of the clip."""

    t_s: float
    at: str
    zone: str
    event_type: str
    state: str
    previous: str
    confidence: float
    latency_ms: float


@dataclass(frozen=True)
class Change:
    """A change of state that the clip shows; `t_s` = when the movement ends."""

    t_s: float
    zone: str
    event_type: str
    state: str


@dataclass(frozen=True)
class Verdict:
    """How the alerts compare with the truth; `false` are alerts that nothing explains."""

    found: Sequence[tuple[Change, Alert]]
    missed: Sequence[Change]
    false: Sequence[Alert]

    @property
    def median_latency_ms(self) -> float | None:
        """Median of frame to message over the alerts that were right, milliseconds."""
        return median([alert.latency_ms for _, alert in self.found]) if self.found else None


def true_changes(
    states: Mapping[str, Sequence[tuple[int, str]]], fps: float, closed: str = "closed"
) -> list[Change]:
    """Return the changes of a clip, by time, from (first frame, state) pairs of each zone."""
    changes = [
        Change(frame / fps, zone, "closed" if state == closed else "opened", state)
        for zone, steps in states.items()
        for (frame, state), (_, before) in zip(steps[1:], steps[:-1], strict=True)
        if state != before
    ]
    return sorted(changes, key=lambda change: change.t_s)


def judge(changes: Sequence[Change], alerts: Sequence[Alert]) -> Verdict:
    """Match every change with the first unused alert of its zone and kind in its time.

    An alert between two states of the same kind of event (ajar, then open, in one movement)
    belongs to that movement and is not false.
    """
    free = list(alerts)
    found: list[tuple[Change, Alert]] = []
    missed: list[Change] = []
    for change in changes:
        window = [alert for alert in free if _explains(change, alert)]
        if window:
            found.append((change, window[-1]))
            free = [alert for alert in free if alert not in window]
        else:
            missed.append(change)
    return Verdict(found, missed, free)


def _explains(change: Change, alert: Alert) -> bool:
    in_time = change.t_s - EARLY_S <= alert.t_s <= change.t_s + LATE_S
    return in_time and (alert.zone, alert.event_type) == (change.zone, change.event_type)
