"""Whether a fixed camera still looks where it was set up to look, and where its zones are now.

The first usable picture after set-up is the reference. A small drift is followed, and the zones
with it; a camera that looks elsewhere, or sees nothing of what it saw, is a problem until the view
is back. Cameras turn to infra-red at night, where everything looks otherwise: pictures without
colour have a reference of their own, taken when exposure has settled in them for the first time.
"""

from collections import deque

import numpy as np

from edge_runtime.view import (
    MOST_SHIFT,
    Found,
    Look,
    Reference,
    Shift,
    chained,
    corner_shift,
    inverse,
    no_shift,
    shifted_zone,
)
from edge_runtime.view_store import StoredView, ViewStore
from transom.config import CameraConfig
from transom.crop import Image
from transom.geometry import Zone
from transom.messages import Reason

CHECK_S = 1.0
TAKEN_AFTER_S = 6.0
"""How long pictures must be usable before a reference is taken: exposure settles."""
MOVED_S = 15.0
"""How long the view must be lost: somebody may stand close to the camera."""
COVERED_S = 8.0
RENEWED_S = 3600.0
"""A place that was not found for so long, while most were, is taken anew: a room changes."""
RETAKEN_S = 600.0
"""How often a reference with too few places to judge by is tried to be taken anew."""
UNSEEN_S = 6.0
"""A longer gap between two usable pictures begins the times above anew, but for a camera that gives
no more of them."""

_MISSED_LOOKS = 3
_MEDIAN_OF = 5
_FOLLOWED_STEP = 0.0015  # of the frame's width; less is not worth other crops
_RENEWING_SHARE = 0.5
_COLOUR = 6.0  # mean difference between colour channels; infra-red has none

Size = tuple[int, int]


class ViewWatch:
    """Watches where one camera looks.

    Args:
        config: The camera and its zones.
        store: Where references outlive the daemon; None = nowhere.
    """

    def __init__(self, config: CameraConfig, store: ViewStore | None = None) -> None:
        self._zones = [zone.zone for zone in config.zones]
        self._store = store
        self._config = config
        self._unseen_s = max(UNSEEN_S, _MISSED_LOOKS / config.fps)
        self._references: dict[bool, Reference] = {}  # by: has the picture colour
        if store is not None and config.fixed:
            self._references = store.read(config).references
        self._found_s: dict[bool, list[float]] = {}
        self._compared_s: dict[bool, float] = {}
        self._retaken: dict[bool, Reference] = {}
        self._retaken_s: dict[bool, float] = {}
        self._shift = no_shift()
        self._recent: deque[Shift] = deque(maxlen=_MEDIAN_OF)
        self._size: Size = (1, 1)
        self._checked_s: float | None = None
        self._usable_s: dict[bool, float] = {}
        self._lost_s: float | None = None
        self._reason: Reason | None = None

    def judge(self, image: Image, now_s: float) -> Reason | None:
        """Return `moved` or `covered` while the camera does not show what it was set up to show.

        Args:
            image: (H, W, 3) uint8 BGR that is usable by itself.
            now_s: When it was taken, monotonic seconds.
        """
        if not self._config.fixed:
            return None
        if self._checked_s is not None and now_s - self._checked_s < CHECK_S:
            return self._reason
        if self._checked_s is None or now_s - self._checked_s > self._unseen_s:
            self._usable_s.clear()
            self._lost_s = None if self._reason is None else self._lost_s
        self._checked_s = now_s
        has_colour = _has_colour(image)
        # Exposure settles anew whenever the light turns to infra-red or back.
        self._usable_s.pop(not has_colour, None)
        reference = self._references.get(has_colour)
        if reference is not None and reference.can_judge:
            self._compare(reference, Look.at(image), has_colour, now_s)
            return self._reason
        if self._lost_s is not None:
            self._find_in_other_light(Look.at(image), has_colour)
        if reference is None:
            self._take_reference(image, has_colour, now_s)
        elif self._reason is None:
            self._lost_s = None  # no later picture in this light could find it again
            self._retake_reference(image, has_colour, now_s)
        return self._reason

    @property
    def is_lost(self) -> bool:
        """Whether the view was not found in the newest picture looked at."""
        return self._lost_s is not None

    def zone_now(self, zone: Zone) -> Zone | None:
        """Return where a zone is now that was at `zone` when the camera was set up.

        None where it has drifted out of the frame by more than half.
        """
        return shifted_zone(zone, self._shift, self._size)

    @property
    def has_drifted(self) -> bool:
        """Whether zones are elsewhere than at set-up."""
        return not np.array_equal(self._shift, no_shift())

    @property
    def shift(self) -> Shift:
        """How the picture has drifted since set-up; another object when it has drifted further."""
        return self._shift

    def _take_reference(self, image: Image, has_colour: bool, now_s: float) -> None:
        if self._reason is not None:
            return  # what a camera shows that looks elsewhere is no reference
        if now_s - self._usable_s.setdefault(has_colour, now_s) < TAKEN_AFTER_S:
            return
        reference = Reference.of(Look.at(image), self._zones, self._shift)
        self._references[has_colour] = reference
        self._save()

    def _retake_reference(self, image: Image, has_colour: bool, now_s: float) -> None:
        """Take a reference anew that was taken when there was too little to see, as by night.

        It must be there at the next try as well: somebody may have stood in the first.
        """
        if now_s - self._retaken_s.setdefault(has_colour, now_s) < RETAKEN_S:
            return
        self._retaken_s[has_colour] = now_s
        look = Look.at(image)
        before = self._retaken.pop(has_colour, None)
        found = None if before is None else before.find(look, self._shift)
        if before is not None and found is not None:
            self._references[has_colour] = before
            self._save()
            return
        reference = Reference.of(look, self._zones, self._shift)
        if reference.can_judge:
            self._retaken[has_colour] = reference

    def _find_in_other_light(self, look: Look, has_colour: bool) -> None:
        """End a loss that the last minutes of daylight or of infra-red made, not a push.

        Before a camera turns to infra-red its picture may be so dim that nothing is found in it.
        """
        reference = self._references.get(not has_colour)
        if reference is None or not reference.can_judge:
            return
        found = reference.find(look, self._shift)
        if found is not None and corner_shift(found.shift, reference.size) <= MOST_SHIFT:
            self._lost_s = self._reason = None

    def _compare(self, reference: Reference, look: Look, has_colour: bool, now_s: float) -> None:
        found = reference.find(look, self._recent[-1] if self._recent else self._shift)
        if found is not None and corner_shift(found.shift, reference.size) <= MOST_SHIFT:
            self._lost_s = self._reason = None
            self._follow(found.shift, reference.size)
            self._renew(reference, look, found, has_colour, now_s)
            return
        is_covered = found is None and reference.is_covered(look, self._shift)
        lost: Reason = "covered" if is_covered else "moved"
        if self._lost_s is None:
            self._lost_s = now_s
        if now_s - self._lost_s >= (COVERED_S if is_covered else MOVED_S):
            self._reason = lost

    def _follow(self, shift: Shift, size: Size) -> None:
        self._size = size
        self._recent.append(shift)
        steady = np.median(np.stack(self._recent), axis=0)
        if corner_shift(chained(inverse(self._shift), steady), size) >= _FOLLOWED_STEP:
            self._shift = steady

    def _renew(
        self, reference: Reference, look: Look, found: Found, has_colour: bool, now_s: float
    ) -> None:
        seen_s = self._found_s.setdefault(has_colour, [now_s] * len(reference.points))
        gap_s = now_s - self._compared_s.get(has_colour, now_s)
        if gap_s > self._unseen_s:  # a night of the other light, say: nobody looked for them
            seen_s[:] = [moment_s + gap_s for moment_s in seen_s]
        self._compared_s[has_colour] = now_s
        for index in np.flatnonzero(found.agreeing):
            seen_s[index] = now_s
        old = np.array([now_s - moment_s > RENEWED_S for moment_s in seen_s])
        if not old.any() or found.agreeing.mean() < _RENEWING_SHARE:
            return
        self._references[has_colour] = reference.renewed(look, found.shift, old)
        self._found_s[has_colour] = [now_s] * len(seen_s)
        self._save()

    def _save(self) -> None:
        if self._store is not None:
            self._store.write(self._config, StoredView(self._references))


def _has_colour(image: Image) -> bool:
    sample = image[::16, ::16].astype(np.int16)
    spread = sample.max(axis=2) - sample.min(axis=2)
    return float(spread.mean()) >= _COLOUR
