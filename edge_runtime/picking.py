"""Which looks at a zone are worth a label: doubts, changes, and a random share."""

import math
from random import Random

from edge_runtime.sample import Why
from transom.config import SamplesConfig

TRANSITION_S = 3.0
"""Looks this long after a change show what the network makes of what has just moved."""

_DAY_S = 86400.0


class Picker:
    """Decides, for one zone, which looks are kept.

    Each reason has a pace of its own, and within it each class, so that a day of doubt does not
    hide the one change in it, nor an opening the closing after it; no zone writes more often than
    that. The random share comes at moments that depend on nothing (a Poisson process), so that what
    it shows is what the camera shows.

    Args:
        config: The pace.
        random: Where chance comes from.
    """

    def __init__(self, config: SamplesConfig, random: Random) -> None:
        self._config = config
        self._random = random
        self._changed_s = -math.inf
        self._kept_s: dict[tuple[Why, int], float] = {}
        self._draw_s: float | None = None

    def why_keep(
        self, now_s: float, top: int, *, is_unlike: bool, is_believed: bool, has_changed: bool
    ) -> Why | None:
        """Return why this look is worth keeping; None = it is not.

        Args:
            now_s: Monotonic seconds of the frame.
            top: Index of the most probable class.
            is_unlike: Whether the picture is unlike training.
            is_believed: Whether the network's class is believed.
            has_changed: Whether this look changed the zone's state.
        """
        if has_changed:
            self._changed_s = now_s
        if self._is_drawn(now_s):
            return "random"
        reasons: dict[Why, bool] = {
            "transition": now_s - self._changed_s <= TRANSITION_S,
            "unlike": is_unlike,
            "unsure": not is_believed,
        }
        for why, holds in reasons.items():
            last_s = self._kept_s.get((why, top), -math.inf)
            if holds and now_s - last_s >= self._config.every_s:
                self._kept_s[why, top] = now_s
                return why
        return None

    def _is_drawn(self, now_s: float) -> bool:
        if self._config.random_per_day == 0.0:
            return False
        if self._draw_s is not None and now_s < self._draw_s:
            return False
        is_drawn = self._draw_s is not None
        self._draw_s = now_s + self._random.expovariate(self._config.random_per_day / _DAY_S)
        return is_drawn
