"""One zone's pictures on their way into the store: which are kept, and what is written of them."""

from dataclasses import dataclass
from datetime import datetime
from random import Random

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.clock import iso
from edge_runtime.picking import Picker
from edge_runtime.samples import Sample, SampleStore, Why
from transom.config import SamplesConfig
from transom.crop import Image, cut_around
from transom.geometry import Zone

Floats = npt.NDArray[np.float32]

MARGIN = 0.25
"""Context that is kept around a zone, at least: another bundle may want more than this one."""

_LONGEST_PX = 512
_QUALITY = 92


@dataclass(frozen=True)
class Seen:
    """A zone in a frame, and what the bundle alone makes of it.

    Attributes:
        frame: (H, W, 3) uint8 BGR.
        shape: The zone in it.
        taken_ns: Monotonic time of the frame.
        taken_at: Its wall time.
        embedding: (D,) float32.
        probabilities: (C,) float32, of the classes that the zone tells.
        is_unlike: Whether the picture is unlike training.
        is_believed: Whether the most probable class is believed.
    """

    frame: Image
    shape: Zone
    taken_ns: int
    taken_at: datetime
    embedding: Floats
    probabilities: Floats
    is_unlike: bool
    is_believed: bool


@dataclass(frozen=True)
class SampledZone:
    """What the samples of one zone have in common; see `Sample`.

    Attributes:
        name: The zone's.
        task: Whose class is the zone's state.
        classes: What the zone tells.
        model: Digest of the bundle that serves.
        margin: Context that its network wants, as a share of the zone.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    model: str
    margin: float


class ZoneSamples:
    """Keeps what is worth a label of one zone.

    Args:
        zone: The zone.
        store: Where pictures are kept.
        config: The pace.
        random: Where chance comes from.
    """

    def __init__(
        self, zone: SampledZone, store: SampleStore, config: SamplesConfig, random: Random
    ) -> None:
        self._zone = zone
        self._store = store
        self._picker = Picker(config, random)

    def look(self, seen: Seen, *, has_changed: bool) -> None:
        """Keep a look where it is worth it.

        Args:
            seen: The look.
            has_changed: Whether it changed the zone's state.
        """
        why = self._picker.why_keep(
            seen.taken_ns / 1e9,
            is_unlike=seen.is_unlike,
            is_believed=seen.is_believed,
            has_changed=has_changed,
        )
        if why is not None:
            self._store.add(make_sample(self._zone, seen, why))


def make_sample(zone: SampledZone, seen: Seen, why: Why) -> Sample:
    """Return a look as it is kept: the part of the frame around the zone, as JPEG."""
    part, shape = cut_around(seen.frame, seen.shape, max(zone.margin, MARGIN))
    longest = max(part.shape[:2])
    if longest > _LONGEST_PX:
        size = [
            max(round(side * _LONGEST_PX / longest), 1) for side in (part.shape[1], part.shape[0])
        ]
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Sample(
        zone=zone.name,
        task=zone.task,
        why=why,
        taken_at=iso(seen.taken_at),
        shape=shape,
        picture=jpeg.tobytes(),
        model=zone.model,
        embedding=seen.embedding,
        classes=zone.classes,
        probabilities=seen.probabilities,
        drawn=int(why == "random"),
    )
