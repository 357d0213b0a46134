"""Whether a zone is worth a look by the network: the cheap gate before it.

What wakes the network is not always news. Behind a window trees sway, a camera on a pole shakes:
there the zone moves all day, and that it moves says nothing of who passes. So the gate also learns
how much a zone moves when nothing happens in it, and tells `usual` motion from `unusual`.
"""

import statistics
from collections import deque
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from transom.crop import Image

GATE_PX = 32
"""Side of the picture of a zone that the gate looks at."""
LOOK_EVERY_S = 10.0
"""A zone is looked at this often whatever the gate sees, which bounds the harm of a miss."""
HOLD_S = 5.0
"""How long a zone stays due after motion: the decision needs more than one picture."""

_NOISE_FACTOR = 5.0
_LEAST_DIFFERENCE = 5.0
"""Grey levels of the thumbnail below which nothing counts: steps of video compression."""
_LEAST_PIXELS = 5
_LIGHT_STEP = 10.0
"""Levels by which the whole zone may change from one picture to the next without being motion."""
_BLACK = 8.0  # levels that are there without light
_LIGHT_SLACK = 0.2
"""Part of a change of light by which it may be less smooth than a curved surface."""
_FIT_ROUNDS = 5
_FIT_TOLERANCE = 0.02  # of the light
_MOST_NOISE = 6.0
_APART = 4
_LEARN_QUIET = 0.1
_LEARN_MOVING = 0.02


UNUSUAL_FACTOR = 3.0
"""How many times as much as usual a zone must move for something to be happening in it."""
USUAL_S = 120.0
"""The time in more than half of which a motion must go on to be usual."""
_LEARNT_S = 5.0
"""A zone that was watched for less has no usual motion yet."""

Thumb = npt.NDArray[np.float32]
"""A zone in grey, 32 x 32, 0 to 255."""

Motion = Literal["none", "usual", "unusual"]
"""Whether a zone moved since the look before, and whether more than it mostly does."""


class UsualMotion:
    """Learns how much a zone moves when nothing happens in it.

    That is the median over the seconds of the last `USUAL_S`: what goes on for more than half of
    that time is the zone's, be it wind, rain or a camera that shakes. Where it is at rest for more
    than half of it, every motion is unusual.

    Attributes:
        usual: How much that is, in the unit of the amounts.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=round(USUAL_S))
        self._second: list[float] = []
        self._began_s: float | None = None
        self.usual = 0.0

    def judge(self, amount: float, now_s: float) -> Motion:
        """Return what an amount of motion means in this zone, and learn from it.

        Args:
            amount: Of the newest picture, 0 = none; of any unit that stays the same.
            now_s: When it was taken, monotonic seconds.
        """
        if self._began_s is None:
            self._began_s = now_s
        elif now_s - self._began_s >= 1.0:
            self._seconds.append(statistics.fmean(self._second))
            self._second.clear()
            self._began_s = now_s
            if len(self._seconds) >= _LEARNT_S:
                self.usual = statistics.median(self._seconds)
        self._second.append(amount)
        if amount == 0.0:
            return "none"
        return "unusual" if amount > UNUSUAL_FACTOR * self.usual else "usual"


class MotionGate:
    """Decides, for one zone, which pictures the network shall see.

    A picture is compared with the last one that was let through, not with the last one seen: a
    door that opens slowly adds up until it passes. Light that changes smoothly over the zone is
    taken out of the comparison: daylight and clouds.

    Args:
        look_every_s: Longest time between two looks, seconds.
        hold_s: How long to look on after motion, seconds.
    """

    def __init__(self, look_every_s: float = LOOK_EVERY_S, hold_s: float = HOLD_S) -> None:
        self._look_every_s = look_every_s
        self._hold_s = hold_s
        self._reference: Thumb | None = None
        self._before: Thumb | None = None
        self._noise = 1.0
        self._looked_s = 0.0
        self._moved_s: float | None = None
        self._usual = UsualMotion()
        self._amount = 0.0
        self._motion: Motion = "none"

    @property
    def motion(self) -> Motion:
        """How the newest picture differed from the last one that was let through before it."""
        return self._motion

    @property
    def amount(self) -> float:
        """By how much it did, beyond noise and light: grey levels, on average over the zone."""
        return self._amount

    def is_due(self, grey: Image, now_s: float) -> bool:
        """Return whether the network should see this picture of the zone.

        Args:
            grey: (S, S) uint8, S is `GATE_PX`, of `grey_zone`: sharpened noise is no motion.
            now_s: When it was taken, monotonic seconds.
        """
        thumb = grey.astype(np.float32)
        if self._reference is None:
            self._look(thumb, now_s)
            self._before = thumb
            self._moved_s = now_s  # the state that a camera starts with needs evidence too
            return True
        self._amount = self._moved(thumb, self._reference)
        self._motion = self._usual.judge(self._amount, now_s)
        self._before = thumb
        if self._amount > 0.0:
            self._moved_s = now_s
        is_held = self._moved_s is not None and now_s - self._moved_s <= self._hold_s
        if is_held or now_s - self._looked_s >= self._look_every_s:
            self._look(thumb, now_s)
            return True
        return False

    def _look(self, thumb: Thumb, now_s: float) -> None:
        self._reference, self._looked_s = thumb, now_s

    def _moved(self, thumb: Thumb, reference: Thumb) -> float:
        """Return the amount of motion; 0 = none."""
        limit: Thumb | float = max(_NOISE_FACTOR * self._noise, _LEAST_DIFFERENCE)
        difference = thumb - reference
        left = np.abs(difference - _median(difference))
        if int((left > limit).sum()) >= _LEAST_PIXELS:
            lit = _relit(reference, thumb)
            left = np.abs(thumb - lit)
            limit = limit + _LIGHT_SLACK * np.abs(lit - reference)
        # Of a normal distribution, from its median; between places whose light is nearly the same,
        # and whose noise, after a video's compression, is not.
        apart = np.abs(difference[:, _APART:] - difference[:, :-_APART])
        noise = 1.4826 / 2**0.5 * _median(apart)
        # A leaf that fills the zone comes from one picture to the next, a cloud does not.
        step = 0.0 if self._before is None else _median(thumb - self._before)
        has_moved = int((left > limit).sum()) >= _LEAST_PIXELS or abs(step) >= _LIGHT_STEP
        # Learnt while moving as well, but slowly: noise that rises at dusk must not look like
        # motion all night, and a moving door must not pass for noise.
        rate = _LEARN_MOVING if has_moved else _LEARN_QUIET
        self._noise += rate * (min(noise, _MOST_NOISE) - self._noise)
        if not has_moved:
            return 0.0
        return float(np.maximum(left - limit, 0.0).mean()) + abs(step)


def _relit(reference: Thumb, thumb: Thumb) -> Thumb:
    """Return a picture under the light of another: a smooth factor over most of it, levels.

    The factor is the exponential of a curved surface, fitted by its least absolute error: what has
    moved pulls at it little (iteratively reweighted least squares).
    """
    ratio = np.log((thumb + _BLACK) / (reference + _BLACK)).ravel()
    surfaces = _surfaces(thumb.shape[0])
    weights = np.ones(ratio.shape)
    for _ in range(_FIT_ROUNDS):
        weighted = surfaces.T * weights
        surface = surfaces @ np.linalg.solve(weighted @ surfaces, weighted @ ratio)
        weights = 1.0 / np.maximum(np.abs(ratio - surface), _FIT_TOLERANCE)
    lit = np.exp(surface.reshape(thumb.shape)) * (reference + _BLACK) - _BLACK
    return np.asarray(np.clip(lit, 0.0, 255.0), np.float32)


@cache
def _surfaces(side: int) -> npt.NDArray[np.float64]:
    """Return what curved surfaces over a thumbnail are made of, (side * side, 6)."""
    rows, columns = np.mgrid[-1.0 : 1.0 : side * 1j, -1.0 : 1.0 : side * 1j].reshape(2, -1)
    flat = np.ones(side * side)
    return np.stack([flat, rows, columns, rows * rows, rows * columns, columns * columns], axis=1)


def _median(values: Thumb) -> float:
    """Return the upper median, without what numpy's own does besides: it runs at every frame."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])
