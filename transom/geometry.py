"""Zones: the quadrilateral of a frame that holds one door or window."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]

MIN_AREA = 1e-4
"""Smallest useful area, as a share of the frame: 6 x 6 pixels of a 640 x 480 frame."""

_LEAST_TURN = 1e-12
"""Less is a corner on a line, which rounding takes for one that turns this way or that."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A convex quadrilateral in fractions of the frame, clockwise from the top left.

    Attributes:
        points: Four (x, y), x in [0, 1] of the frame's width, y in [0, 1] of its height.

    Raises:
        ValueError: The points are not four, lie outside the frame, enclose less than
            `MIN_AREA`, or are not convex and clockwise.

    Examples:
        >>> Zone.rectangle(0.25, 0.0, 0.75, 1.0).area
        0.5
    """

    points: tuple[Point, Point, Point, Point]

    def __post_init__(self) -> None:
        if len(self.points) != 4 or any(len(p) != 2 for p in self.points):
            raise ValueError(f"a zone must have 4 points (x, y), got {self.points}")
        for x, y in self.points:
            if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
                raise ValueError(
                    f"zone point ({x:g}, {y:g}) is outside the frame; "
                    "x and y are fractions of its width and height, 0 to 1"
                )
        if abs(self.area) < MIN_AREA:
            raise ValueError(
                f"zone covers {abs(self.area):.2g} of the frame, {MIN_AREA:g} is the least"
            )
        if any(turn <= _LEAST_TURN for turn in self._turns()):
            raise ValueError(
                "zone must be convex with its points clockwise from the top left, "
                f"got {self.to_text()}"
            )

    def _turns(self) -> list[float]:
        p = self.points
        corners = [(p[i], p[(i + 1) % 4], p[(i + 2) % 4]) for i in range(4)]
        return [
            (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]) for a, b, c in corners
        ]

    @property
    def area(self) -> float:
        """Share of the frame that the zone covers, 0 to 1 (shoelace formula)."""
        p = self.points
        return 0.5 * sum(
            p[i][0] * p[(i + 1) % 4][1] - p[(i + 1) % 4][0] * p[i][1] for i in range(4)
        )

    @classmethod
    def whole(cls) -> "Zone":
        """Return the zone that is the whole frame."""
        return cls.rectangle(0.0, 0.0, 1.0, 1.0)

    @classmethod
    def rectangle(cls, left: float, top: float, right: float, bottom: float) -> "Zone":
        """Return an upright rectangle, from fractions of the frame."""
        return cls(((left, top), (right, top), (right, bottom), (left, bottom)))

    @classmethod
    def from_text(cls, text: str) -> "Zone":
        """Read `x1 y1 x2 y2 x3 y3 x4 y4`; empty text is the whole frame.

        Raises:
            ValueError: The text is not eight numbers, or they do not make a zone.
        """
        if not text.strip():
            return cls.whole()
        try:
            numbers = [float(word) for word in text.split()]
        except ValueError:
            numbers = []
        if len(numbers) != 8 or not all(np.isfinite(numbers)):
            raise ValueError(f"a zone must be 8 numbers x1 y1 … x4 y4 or empty, got {text!r}")
        x, y = numbers[0::2], numbers[1::2]
        return cls(((x[0], y[0]), (x[1], y[1]), (x[2], y[2]), (x[3], y[3])))

    def to_text(self) -> str:
        """Return the form that `from_text` reads back to an equal zone.

        Four decimals where they say it all, every digit otherwise: rounding could make a small
        zone too small or a narrow one crooked, and would change labels at each rewriting.
        """
        return " ".join(_decimal(value) for point in self.points for value in point)

    def pixels(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Return the corners in pixels, float32 (4, 2) as x, y; (0, 0) is the frame's corner."""
        scaled = np.asarray(self.points, np.float64) * (width, height)
        return scaled.astype(np.float32)

    def centre(self) -> Point:
        """Return the mean of the corners, in fractions of the frame."""
        return sum(p[0] for p in self.points) / 4, sum(p[1] for p in self.points) / 4


def _decimal(value: float) -> str:
    short = f"{value:.4f}"
    return short if float(short) == value else repr(float(value))
