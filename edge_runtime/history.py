"""What one zone looked like over the last hour, and which states it had over the last day."""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.decision import Decision

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS

_EVERY_NS = 5 * 10**9
_NEWS = 0.15
"""Change of a probability that is kept at once."""

_MOST = 2000
_MOST_STRETCHES = 1000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a zone.

    Attributes:
        taken_ns: Monotonic time of the frame.
        said: (C,) float32, what the bundle alone said at the newest look; None = no picture.
        judged: (C,) float32, the same with what the zone was taught.
        posterior: C numbers, the filter's probabilities of the states.
        decision: What was told.
    """

    taken_ns: int
    said: Floats | None
    judged: Floats | None
    posterior: tuple[float, ...]
    decision: Decision


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which a zone had one state.

    Attributes:
        since_ns: Monotonic time of the frame that it began with.
        state: A class, or `unknown`.
    """

    since_ns: int
    state: str


class ZoneHistory:
    """The last hour of one zone: a moment every five seconds, and each that brought news.

    Of the last day it keeps when which state began.

    It is written by the daemon's loop and read by others.
    """

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=_MOST)
        self._stretches: deque[Stretch] = deque(maxlen=_MOST_STRETCHES)
        self._newest: Moment | None = None
        self._lock = threading.Lock()

    def note(self, moment: Moment) -> None:
        """Take a moment in."""
        self._newest = moment
        self._note_state(moment)
        last = self._moments[-1] if self._moments else None
        if last is not None and not _is_news(last, moment):
            return
        with self._lock:
            self._moments.append(moment)
            while moment.taken_ns - self._moments[0].taken_ns > HOUR_NS:
                self._moments.popleft()

    def _note_state(self, moment: Moment) -> None:
        is_new = not self._stretches or self._stretches[-1].state != moment.decision.state
        if not is_new:
            return
        with self._lock:
            self._stretches.append(Stretch(moment.taken_ns, moment.decision.state))
            # The one in which the day began is still a part of it.
            while len(self._stretches) > 1 and _is_over(self._stretches[1], moment):
                self._stretches.popleft()

    def day(self) -> list[Stretch]:
        """Return the states of the last day, the oldest first; of less, after a start."""
        with self._lock:
            return list(self._stretches)

    @property
    def newest(self) -> Moment | None:
        """The newest moment, whether or not it is kept; None before the first."""
        return self._newest

    def moments(self) -> list[Moment]:
        """Return what is kept, the oldest first, and the newest moment."""
        with self._lock:
            kept = list(self._moments)
        newest = self._newest
        if newest is None or (kept and kept[-1] is newest):
            return kept
        return [*kept, newest]


def _is_over(next_one: Stretch, now: Moment) -> bool:
    return now.taken_ns - next_one.since_ns > DAY_NS


def _is_news(last: Moment, now: Moment) -> bool:
    if now.taken_ns - last.taken_ns >= _EVERY_NS:
        return True
    if now.decision.changed or (last.judged is None) != (now.judged is None):
        return True
    if last.judged is None or now.judged is None:
        return now.decision.reason != last.decision.reason
    return bool(np.abs(now.judged - last.judged).max() > _NEWS)
