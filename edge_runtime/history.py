"""What one zone looked like over the last hour: probabilities and what the filter made of them."""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.decision import Decision

HOUR_NS = 3600 * 10**9

_EVERY_NS = 5 * 10**9
_NEWS = 0.15
"""Change of a probability that is kept at once."""

_MOST = 2000

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


class ZoneHistory:
    """The last hour of one zone: a moment every five seconds, and each that brought news.

    It is written by the daemon's loop and read by others.
    """

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=_MOST)
        self._newest: Moment | None = None
        self._lock = threading.Lock()

    def note(self, moment: Moment) -> None:
        """Take a moment in."""
        self._newest = moment
        last = self._moments[-1] if self._moments else None
        if last is not None and not _is_news(last, moment):
            return
        with self._lock:
            self._moments.append(moment)
            while moment.taken_ns - self._moments[0].taken_ns > HOUR_NS:
                self._moments.popleft()

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


def _is_news(last: Moment, now: Moment) -> bool:
    if now.taken_ns - last.taken_ns >= _EVERY_NS:
        return True
    if now.decision.changed or (last.judged is None) != (now.judged is None):
        return True
    if last.judged is None or now.judged is None:
        return now.decision.reason != last.decision.reason
    return bool(np.abs(now.judged - last.judged).max() > _NEWS)
