"""A picture worth a label: what was said of it, what is true, and which others it is like."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from transom.geometry import Zone

Why = Literal["unsure", "unlike", "transition", "random", "taught"]
"""Why a picture was kept; `taught` = because somebody, or a sensor, said what it shows."""

SEPARATOR = "|"
"""In a label, between classes of which it is known only that one of them is true."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A picture of a zone.

    Attributes:
        zone: The zone's name.
        task: The task whose class is the zone's state.
        why: Why it is kept.
        taken_at: UTC, ISO 8601.
        shape: The zone in the picture, in fractions of it.
        picture: JPEG of the part of the frame around the zone.
        model: Digest of the bundle that answered.
        embedding: (D,) float32, of that bundle's network.
        classes: What the zone tells, C of them.
        probabilities: (C,) float32, what the bundle alone said.
        label: The true class; several that may be true, joined by `|`; None = nobody said.
        labelled_by: `mqtt`, `contact` or another word for who said so.
        labelled_at: UTC, ISO 8601.
        copies: Pictures that it stands for.
        drawn: Those of them that were drawn at random: what an honest figure may count.
        id: In the store; 0 before it is there.
    """

    zone: str
    task: str
    why: Why
    taken_at: str
    shape: Zone
    picture: bytes
    model: str
    embedding: Floats
    classes: tuple[str, ...]
    probabilities: Floats
    label: str | None = None
    labelled_by: str | None = None
    labelled_at: str | None = None
    copies: int = 1
    drawn: int = 0
    id: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that the label names; none where there is no label."""
        return () if self.label is None else tuple(self.label.split(SEPARATOR))


def likeness(first: Floats, second: Floats) -> Floats:
    """Return how alike embeddings are, (N, M) float32: 1 = the same.

    It is the cosine less what their lengths differ by: 1 - |a - b|^2 / (2 |a| |b|).

    Args:
        first: (N, D) float32.
        second: (M, D) float32.

    Examples:
        >>> a, b = np.eye(2, dtype=np.float32), np.array([[1, 1], [2, 0]], np.float32)
        >>> likeness(a, b).astype(float).round(2).tolist()
        [[0.65, 0.75], [0.65, -0.25]]
    """
    products = first @ second.T
    squares = (first**2).sum(axis=1)[:, None], (second**2).sum(axis=1)[None]
    lengths = np.sqrt(squares[0] * squares[1])
    apart = np.maximum(squares[0] + squares[1] - 2.0 * products, 0.0)
    return np.asarray(1.0 - apart / np.maximum(2.0 * lengths, 1e-30), np.float32)
