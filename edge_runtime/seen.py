"""A look at a zone, and what is written of it where it is kept."""

from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.clock import iso
from edge_runtime.sample import Sample, Why
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
        thresholds: Of the classes: the least probability at which each is believed.
        model: Digest of the bundle that serves.
        margin: Context that its network wants, as a share of the zone.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    model: str
    margin: float

    def believes(self, probabilities: Floats) -> bool:
        """Return whether the most probable class of (C,) probabilities is believed."""
        top = int(probabilities.argmax())
        return bool(probabilities[top] >= self.thresholds[top])


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
