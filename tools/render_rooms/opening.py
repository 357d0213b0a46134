"""Doors and windows in the wall: frame, leaves, and how the leaves move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.render_rooms import surfaces
from tools.render_rooms.leaves import Look, draw_look, leaf_parts
from tools.render_rooms.parts import Part, box, rotation
from tools.render_rooms.surfaces import Surface

Array = npt.NDArray[Any]
Random = np.random.Generator

AJAR_DEGREES = (8.0, 60.0)
"""On photographs `ajar` is every leaf whose face is still seen across the opening."""
OPEN_DEGREES = (76.0, 168.0)
"""And `open` a leaf at its side or out of sight; between the two and below 8° people disagree."""
AJAR_SHARE = (0.06, 0.35)
OPEN_SHARE = (0.55, 1.0)
"""The same for what slides, as shares of its way."""

DOORS = ("hinged", "double", "slider", "shutter")
WINDOWS = ("casement", "french", "tilt", "sash", "slider")


@dataclass(frozen=True)
class Moving:
    """A leaf and its motion.

    Attributes:
        parts: in the leaf's own coordinates, with the hinge at the origin.
        pivot: (3,) metres, where the hinge is.
        motion: `turn` about the upright hinge, `tilt` about the lower edge, `slide` along `way`.
        sign: direction of a turn or tilt about its axis.
        way: (3,) metres, the whole way of what slides.
        size: (3,) metres of the leaf, from the hinge: x may be negative.
    """

    parts: tuple[Part, ...]
    pivot: tuple[float, float, float]
    motion: str
    sign: float
    way: tuple[float, float, float]
    size: tuple[float, float, float]

    def matrix(self, amount: float) -> Array:
        """Return the (4, 4) place of the leaf at `amount`: degrees, or the share of its way."""
        matrix = np.eye(4)
        if self.motion == "turn":
            matrix[:3, :3] = rotation(self.sign * amount)
        elif self.motion == "tilt":
            matrix[:3, :3] = rotation(0.0, self.sign * amount)
        share = amount if self.motion == "slide" else 0.0
        matrix[:3, 3] = np.array(self.pivot) + share * np.array(self.way)
        return matrix

    def corners(self, amount: float) -> Array:
        """Return the (8, 3) corners of the leaf's box in metres."""
        unit = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        matrix = self.matrix(amount)
        low = np.array([0.0, min(p.centre[1] for p in self.parts if p.shape == "box"), 0.0])
        return np.asarray((unit * self.size + low) @ matrix[:3, :3].T + matrix[:3, 3])


@dataclass(frozen=True)
class Opening:
    """A door or window.

    Attributes:
        kind: `door` or `window`.
        mechanism: one of `DOORS` or `WINDOWS`.
        width: of the hole in the wall, metres; its middle is at x = 0.
        bottom: lower edge of the hole above the floor, metres.
        height: of the hole, metres.
        depth: thickness of the wall, metres; its face is at y = 0.
        casing: width of the frame around the hole, metres.
        is_towards: whether leaves come towards the camera.
        hinge: -1 = left, 1 = right: where the main leaf's hinge is, or where it slides to.
        fixed: what does not move: frame, stops, threshold, sill.
        leaves: the main one first.
        widest: degrees that the main leaf can open.
    """

    kind: str
    mechanism: str
    width: float
    bottom: float
    height: float
    depth: float
    casing: float
    is_towards: bool
    hinge: int
    fixed: tuple[Part, ...]
    leaves: tuple[Moving, ...]
    widest: float

    @property
    def frame(self) -> Array:
        """Corners (4, 3) of the frame's outer edge on the wall, clockwise from the top left."""
        half, top = self.width / 2 + self.casing, self.bottom + self.height + self.casing
        low = self.bottom - (self.casing if self.kind == "window" else 0.0)
        return np.array([[-half, 0, top], [half, 0, top], [half, 0, low], [-half, 0, low]])


@dataclass(frozen=True)
class Position:
    """How far each leaf is open, in degrees or as a share of its way, and the class of that."""

    state: str
    amounts: tuple[float, ...]


def draw_opening(
    random: Random, *, is_window: bool, wall: Surface, sides: tuple[float, float]
) -> Opening:
    """Draw a door or window.

    Args:
        random: the scene's.
        is_window: whether it is a window.
        wall: surface of the wall that it is in.
        sides: x of the walls to the left and right, which a leaf must not go through.
    """
    if is_window:
        mechanism = str(random.choice(WINDOWS, p=[0.42, 0.14, 0.12, 0.16, 0.16]))
        width = random.uniform(0.55, 1.1) * (1.5 if mechanism in ("french", "slider") else 1.0)
        height, bottom = random.uniform(0.7, 1.5), random.uniform(0.75, 1.15)
    else:
        mechanism = str(random.choice(DOORS, p=[0.82, 0.09, 0.07, 0.02]))
        width = random.uniform(0.66, 0.98) * {"double": 1.6, "shutter": 2.6}.get(mechanism, 1.0)
        height, bottom = random.uniform(1.92, 2.25), 0.0
    plan = _Plan(random, mechanism, width, bottom, height, is_window, wall)
    return Opening(
        "window" if is_window else "door", mechanism, width, bottom, height, plan.depth,
        plan.casing, plan.is_towards, plan.hinge, tuple(plan.fixed()), tuple(plan.leaves()),
        plan.widest(random, sides),
    )  # fmt: skip


class _Plan:
    """The measures that frame and leaves share while an opening is drawn."""

    def __init__(
        self, random: Random, mechanism: str, width: float, bottom: float, height: float,
        is_window: bool, wall: Surface,
    ) -> None:  # fmt: skip
        self.mechanism, self.width, self.bottom, self.height = mechanism, width, bottom, height
        self.is_window = is_window
        self.depth = random.uniform(0.2, 0.4) if is_window else random.uniform(0.09, 0.3)
        self.casing = 0.02 if random.random() < 0.15 else random.uniform(0.04, 0.13)
        if is_window:
            self.casing = max(0.6 * self.casing, 0.02)
        self.proud = random.uniform(0.008, 0.025)
        self.is_towards = bool(random.random() < (0.7 if is_window else 0.5))
        self.hinge = -1 if random.random() < 0.5 else 1
        self.look: Look = draw_look(random, is_window=is_window)
        same = random.random() < 0.72
        self.frame_surface = self.look.surface if same else surfaces.joinery(random, wall)
        self.lining = 0.02  # as far as it is let into the wall
        # Most leaves fit; one in eight hangs with light around it.
        self.gap = (
            random.uniform(0.007, 0.016) if random.random() < 0.12 else random.uniform(0.002, 0.004)
        )
        self.foot = 0.003 if is_window else random.uniform(0.004, 0.02)
        self.has_stop = bool(random.random() < 0.85)
        self.has_threshold = bool(random.random() < 0.35)
        t = self.look.thickness
        inset = random.uniform(-0.004, 0.012) if self.is_towards else self.depth - t
        if is_window:
            inset = random.uniform(0.02, 0.1) if self.is_towards else self.depth - t - 0.02
        self.front = float(inset)  # y of the leaf's front face when shut

    def widest(self, random: Random, sides: tuple[float, float]) -> float:
        """Degrees that the main leaf can open, as far as the room lets it."""
        if not self.is_towards:
            return float(random.uniform(80, 120))
        space = abs(sides[0] if self.hinge < 0 else sides[1]) - self.width / 2
        room = 90.0 + np.degrees(np.arcsin(np.clip(space / self.width, 0.0, 1.0)))
        return float(min(random.uniform(78, 170), room))

    def fixed(self) -> list[Part]:
        """Casing, lining, stops, hinges, threshold and sill."""
        half, low, top = self.width / 2, self.bottom, self.bottom + self.height
        s, c, lining = self.frame_surface, self.casing, self.lining
        behind, before = (0.0, self.depth + 0.01), (-self.proud, 0.0)
        parts = [
            box((side * half, side * (half + lining)), behind, (low, top + lining), s)
            for side in (-1, 1)
        ]
        parts.append(box((-half, half), behind, (top, top + lining), s))
        foot = low - c if self.is_window else low
        parts += [
            box((side * half, side * (half + c)), before, (foot, top + c), s) for side in (-1, 1)
        ]
        parts.append(box((-half, half), before, (top, top + c), s))
        if self.has_stop and self.mechanism not in ("slider", "shutter", "sash"):
            parts += self._stops(half, low, top)
        if self.is_window:
            parts.append(box((-half, half), behind, (low - lining, low), s))
            parts.append(box((-half, half), before, (low - c, low), s))
            sill = (-0.03 - 0.4 * self.depth, -self.proud - 0.001)
            parts.append(box((-half - 0.08, half + 0.08), sill, (low - 0.04, low - 0.01), s))
        elif self.has_threshold:
            parts.append(box((-half, half), (0.0, self.depth), (0.0, 0.012), s))
        return [*parts, *self._hinges(half)]

    def _stops(self, half: float, low: float, top: float) -> list[Part]:
        t, s = self.look.thickness, self.frame_surface
        y = (self.front + t + 0.002, self.front + t + 0.016)
        if not self.is_towards:
            y = (self.front - 0.016, self.front - 0.002)
        parts = [box((side * half, side * (half - 0.013)), y, (low, top), s) for side in (-1, 1)]
        parts.append(box((-half, half), y, (top - 0.013, top), s))
        if self.is_window:
            parts.append(box((-half, half), y, (low, low + 0.013), s))
        return parts

    def _hinges(self, half: float) -> list[Part]:
        if not self.is_towards or self.mechanism not in ("hinged", "double", "casement", "french"):
            return []
        sides = (-1, 1) if self.mechanism in ("double", "french") else (self.hinge,)
        return [
            Part("cylinder", (side * half, self.front - 0.008, self.bottom + share * self.height),
                 (0.016, 0.016, 0.1), self.look.metal)
            for side in sides
            for share in (0.12, 0.5, 0.88)
        ]  # fmt: skip

    def leaves(self) -> list[Moving]:
        """The leaves, the main one first."""
        half = self.width / 2
        if self.mechanism in ("double", "french"):
            return [self._hung(side, self.width / 2) for side in (self.hinge, -self.hinge)]
        if self.mechanism in ("hinged", "casement"):
            return [self._hung(self.hinge, self.width)]
        if self.mechanism == "tilt":
            return [self._tilted()]
        if self.mechanism == "shutter":
            way = (0.0, 0.0, 0.96 * self.height)
            return [self._sliding(-half, self.width, self.height, self.front, way)]
        if self.mechanism == "sash":
            size = self.height / 2 + 0.02
            way = (0.0, 0.0, self.height / 2 - 0.04)
            upper = self._sliding(
                -half, self.width, size, self.front + 0.05, (0, 0, 0), size - 0.04
            )
            return [self._sliding(-half, self.width, size, self.front, way), upper]
        return self._sliding_pair(half)

    def _sliding_pair(self, half: float) -> list[Moving]:
        if not self.is_window and self.width < 1.2:  # a barn door in front of the wall
            way = (self.hinge * self.width, 0.0, 0.0)
            return [self._sliding(-half - 0.04, self.width + 0.08, self.height + 0.03, -0.08, way)]
        size = half + 0.03
        way = (self.hinge * (half - 0.05), 0.0, 0.0)
        moves = self._sliding(
            -half if self.hinge > 0 else half - size, size, self.height, self.front, way
        )
        stands_x = half - size if self.hinge > 0 else -half
        return [moves, self._sliding(stands_x, size, self.height, self.front + 0.05, (0, 0, 0))]

    def _hung(self, side: int, width: float) -> Moving:
        size = (width - 2 * self.gap, self.height - self.foot - self.gap)
        offset = 0.0 if self.is_towards else -self.look.thickness
        parts = [p.moved(0.0, offset, 0.0) for p in leaf_parts(self.look, *size)]
        if side > 0:
            parts = [p.mirrored() for p in parts]
        pivot = (side * (self.width / 2 - self.gap), self.front - offset, self.bottom + self.foot)
        # The latch edge must go towards the camera (-y), or away from it.
        sign = float(side) * (1.0 if self.is_towards else -1.0)
        return Moving(
            tuple(parts),
            pivot,
            "turn",
            sign,
            (0, 0, 0),
            (-side * size[0], self.look.thickness, size[1]),
        )

    def _tilted(self) -> Moving:
        size = (self.width - 2 * self.gap, self.height - self.foot - self.gap)
        offset = 0.0 if self.is_towards else -self.look.thickness
        parts = tuple(p.moved(0.0, offset, 0.0) for p in leaf_parts(self.look, *size))
        pivot = (-self.width / 2 + self.gap, self.front - offset, self.bottom + self.foot)
        return Moving(
            parts, pivot, "tilt", 1.0 if self.is_towards else -1.0, (0, 0, 0),
            (size[0], self.look.thickness, size[1]),
        )  # fmt: skip

    def _sliding(
        self, x: float, width: float, height: float, y: float,
        way: tuple[float, float, float], above: float = 0.0,
    ) -> Moving:  # fmt: skip
        parts = tuple(leaf_parts(self.look, width, height - self.foot))
        pivot = (x, y, self.bottom + self.foot + above)
        return Moving(
            parts, pivot, "slide", 1.0, way, (width, self.look.thickness, height - self.foot)
        )


def draw_positions(random: Random, opening: Opening) -> list[Position]:
    """Draw the positions of one scene: closed, ajar a little and wider, open."""
    if opening.leaves[0].motion == "slide":
        closed, little, wide, full = (
            0.0, random.uniform(AJAR_SHARE[0], 0.18), random.uniform(0.18, AJAR_SHARE[1]),
            random.uniform(*OPEN_SHARE),
        )  # fmt: skip
    elif opening.mechanism == "tilt":
        closed, little, wide, full = 0.0, random.uniform(5, 9), random.uniform(9, 16), None
    else:
        closed = 0.0
        little = random.uniform(AJAR_DEGREES[0], 26.0)
        wide = random.uniform(26.0, AJAR_DEGREES[1])
        full = random.uniform(OPEN_DEGREES[0], max(opening.widest, OPEN_DEGREES[0] + 1))
    amounts = [("closed", closed), ("ajar", little), ("ajar", wide), ("open", full)]
    return [
        Position(state, (amount, *_others(random, opening, state, amount)))
        for state, amount in amounts
        if amount is not None
    ]


def _others(random: Random, opening: Opening, state: str, amount: float) -> list[float]:
    """Amounts of the leaves beside the main one: a second leaf mostly stays shut."""
    if len(opening.leaves) == 1:
        return []
    if opening.leaves[1].motion == "slide" or state == "closed" or random.random() < 0.6:
        return [0.0]
    return [amount * random.uniform(0.7, 1.0)]
