"""Doors and windows as things that move: which leaf is where at which angle or travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.camera import outline
from train.scenes.leaf import Leaf
from train.scenes.paint import rectangle
from train.scenes.texture import Colour, Random

Array = npt.NDArray[Any]

STATES = ("closed", "ajar", "open")
SLIDING = ("patio", "barn", "pocket", "roller", "sash", "slider")


@dataclass(frozen=True)
class Opening:
    """A door or window in the wall, whatever its leaf does at the moment.

    Attributes:
        kind: `door` or `window`.
        mechanism: `hinged`, `double`, `patio`, `barn`, `pocket`, `roller` (doors); `casement`,
            `french`, `tilt_turn`, `awning`, `sash`, `slider` (windows).
        x0: left edge of the clear opening in metres.
        y0: its lower edge in metres above the floor.
        width: clear width in metres.
        height: clear height in metres.
        depth: thickness of the wall in metres.
        hinge: `left` or `right`; of sliding leaves, the side they go to.
        is_towards: whether leaves swing towards the camera.
        casing: width of the frame around the opening in metres.
        casing_colour: BGR.
        leaves: one look a leaf.
        thickness: of a leaf, in metres.
        metal: BGR of handles and hinges.
        handle: `lever`, `knob` or `bar`.
        has_hinges: whether hinges show on the side to which the leaf opens.
    """

    kind: str
    mechanism: str
    x0: float
    y0: float
    width: float
    height: float
    depth: float
    hinge: str
    is_towards: bool
    casing: float
    casing_colour: Colour
    leaves: tuple[Leaf, ...]
    thickness: float
    metal: Colour
    handle: str
    has_hinges: bool

    @property
    def x1(self) -> float:
        """Right edge of the clear opening in metres."""
        return self.x0 + self.width

    @property
    def y1(self) -> float:
        """Upper edge of the clear opening in metres."""
        return self.y0 + self.height

    @property
    def hole(self) -> Array:
        """Corners (4, 3) of the clear opening in the wall's face."""
        return rectangle(self.x0, self.y0, self.x1, self.y1, 0.0)

    @property
    def frame(self) -> Array:
        """Corners (4, 3) of the outer edge of the frame, clockwise from the top left."""
        low = self.y0 if self.kind == "door" else self.y0 - self.casing
        return rectangle(
            self.x0 - self.casing, low, self.x1 + self.casing, self.y1 + self.casing, 0.0
        )

    @property
    def leaf_z(self) -> float:
        """Depth of the leaf's front face when shut, in metres."""
        if self.mechanism == "barn":
            return 0.07
        if self.mechanism in SLIDING:
            return -0.4 * self.depth
        return -0.01 if self.is_towards else -self.depth + self.thickness

    @property
    def is_in_front(self) -> bool:
        """Whether the leaf moves on the camera's side of the wall."""
        if self.mechanism in SLIDING:
            return self.mechanism == "barn"
        return self.is_towards


@dataclass(frozen=True)
class Position:
    """How far an opening is open.

    Attributes:
        state: one of `STATES`.
        amount: degrees of the main leaf, or the share (0 to 1) of a sliding leaf's travel.
        second: the same of the second leaf, where there is one.
        is_tilted: whether a tilt-and-turn window is tilted at the top instead of turned.
    """

    state: str
    amount: float
    second: float = 0.0
    is_tilted: bool = False


@dataclass(frozen=True)
class Panel:
    """A leaf in its place: a box in the world.

    Attributes:
        origin: (3,) metres, the top left corner of the face that is in front when shut.
        right: (3,) metres, along its top edge.
        down: (3,) metres, along its left edge.
        back: (3,) metres, through its thickness.
        leaf: its look.
        grip: where the handle is: `left`, `right`, `top`, `bottom` or empty.
        is_moving: whether it is the leaf that opens.
    """

    origin: Array
    right: Array
    down: Array
    back: Array
    leaf: Leaf
    grip: str
    is_moving: bool = True

    def corners(self) -> Array:
        """Return the (8, 3) corners in metres."""
        face = np.stack([np.zeros(3), self.right, self.right + self.down, self.down])
        return np.concatenate([self.origin + face, self.origin + face + self.back])


def draw_position(random: Random, opening: Opening, state: str) -> Position:
    """Draw how far an opening in `state` is open; what lies between the states is left out."""
    is_tilted = opening.mechanism == "tilt_turn" and state == "ajar" and random.random() < 0.7
    amount = _amount(random, opening, state, is_tilted)
    if opening.mechanism not in ("double", "french"):
        return Position(state, amount, is_tilted=is_tilted)
    second = 0.0
    if state == "open" and random.random() < 0.5:
        second = _amount(random, opening, state, False)
    return Position(state, amount, second)


def _amount(random: Random, opening: Opening, state: str, is_tilted: bool) -> float:
    if opening.mechanism in SLIDING:
        if state == "closed":
            return 0.0
        if state == "open":
            return random.uniform(0.6, 1.0)
        # Half of the opening is all the way that these have, and glass hides a narrow gap.
        is_half = opening.mechanism in ("patio", "sash", "slider")
        return random.uniform(0.12, 0.25) if is_half else random.uniform(0.06, 0.22)
    if state == "closed":
        return random.uniform(0.0, 0.4)
    if is_tilted:
        return random.uniform(8.0, 15.0)
    if state == "ajar":
        return random.uniform(9.0, 28.0)
    if opening.mechanism == "awning":
        return random.uniform(48.0, 80.0)
    widest = 150.0 if opening.is_towards else 105.0
    return random.uniform(52.0, widest)


def panels(opening: Opening, position: Position) -> list[Panel]:
    """Return the leaves in their places, far ones first."""
    mechanism = opening.mechanism
    if mechanism in ("hinged", "casement") or (mechanism == "tilt_turn" and not position.is_tilted):
        return [_swung(opening, opening.x0, opening.x1, opening.hinge, position.amount, 0)]
    if mechanism == "tilt_turn" or mechanism == "awning":
        return [_tilted(opening, position.amount, is_top_hung=mechanism == "awning")]
    if mechanism in ("double", "french"):
        return _pair(opening, position)
    if mechanism in ("barn", "pocket"):
        return [_shifted(opening, position.amount)]
    if mechanism == "roller":
        return [_rolled(opening, position.amount)]
    return _halves(opening, position.amount)


def _swung(opening: Opening, x0: float, x1: float, hinge: str, degrees: float, index: int) -> Panel:
    """Turn a leaf that fills x0 to x1 about its upright hinge."""
    angle = np.radians(degrees)
    sign = 1.0 if hinge == "left" else -1.0
    turn = 1.0 if opening.is_towards else -1.0
    out = np.array([sign * np.cos(angle), 0.0, turn * np.sin(angle)])
    inward = np.array([turn * sign * np.sin(angle), 0.0, -np.cos(angle)])
    pivot = np.array([x0 if hinge == "left" else x1, opening.y1, opening.leaf_z])
    if not opening.is_towards:
        # Flush with the far side of the wall: the back edge stays where it is.
        pivot = pivot - np.array([0.0, 0.0, opening.thickness]) - inward * opening.thickness
    width = x1 - x0
    origin = pivot if hinge == "left" else pivot + width * out
    return Panel(
        origin, sign * width * out, np.array([0.0, -opening.height, 0.0]),
        inward * opening.thickness, opening.leaves[index], "right" if hinge == "left" else "left",
    )  # fmt: skip


def _tilted(opening: Opening, degrees: float, *, is_top_hung: bool) -> Panel:
    """Turn a sash about its lower edge (towards the room) or, top-hung, about its upper edge."""
    angle = np.radians(degrees)
    turn = 1.0 if opening.is_towards else -1.0
    up = 1.0 if is_top_hung else -1.0
    # The direction from the hinge to the free edge, and through the thickness.
    out = np.array([0.0, -up * np.cos(angle), turn * np.sin(angle)])
    back = np.array([0.0, -up * turn * np.sin(angle), -np.cos(angle)])
    hinge_y = opening.y1 if is_top_hung else opening.y0
    pivot = np.array([opening.x0, hinge_y, opening.leaf_z])
    if not opening.is_towards:
        pivot = pivot - np.array([0.0, 0.0, opening.thickness]) - back * opening.thickness
    down = out * opening.height if is_top_hung else -out * opening.height
    origin = pivot if is_top_hung else pivot + out * opening.height
    grip = "bottom" if is_top_hung else ("right" if opening.hinge == "left" else "left")
    return Panel(
        origin, np.array([opening.width, 0.0, 0.0]), down, back * opening.thickness,
        opening.leaves[0], grip,
    )  # fmt: skip


def _pair(opening: Opening, position: Position) -> list[Panel]:
    middle = opening.x0 + opening.width / 2
    main, other = ("left", "right") if opening.hinge == "left" else ("right", "left")
    spans = {"left": (opening.x0, middle), "right": (middle, opening.x1)}
    first = _swung(opening, *spans[main], main, position.amount, 0)
    second = _swung(opening, *spans[other], other, position.second, 1)
    return [second, first]


def _flat(
    opening: Opening, x: float, top: float, z: float, size: tuple[float, float], index: int,
    grip: str, is_moving: bool = True,
) -> Panel:  # fmt: skip
    return Panel(
        np.array([x, top, z]), np.array([size[0], 0.0, 0.0]), np.array([0.0, -size[1], 0.0]),
        np.array([0.0, 0.0, -opening.thickness]), opening.leaves[index], grip, is_moving,
    )  # fmt: skip


def _shifted(opening: Opening, travel: float) -> Panel:
    """Slide a leaf sideways, in front of the wall or into it."""
    overlap = 0.05 if opening.mechanism == "barn" else 0.02
    sign = -1.0 if opening.hinge == "left" else 1.0
    x = opening.x0 - overlap + sign * travel * (opening.width * 0.97)
    grip = "right" if opening.hinge == "left" else "left"
    size = (opening.width + 2 * overlap, opening.height + (0.04 if overlap > 0.03 else 0.0))
    return _flat(opening, x, opening.y0 + size[1], opening.leaf_z, size, 0, grip)


def _rolled(opening: Opening, travel: float) -> Panel:
    """Lift a roller door; what is above the opening is on the drum."""
    shown = opening.height * (1.0 - 0.95 * travel)
    return _flat(
        opening, opening.x0, opening.y1, opening.leaf_z, (opening.width, shown), 0, "bottom"
    )


def _halves(opening: Opening, travel: float) -> list[Panel]:
    """Slide one half past the other, fixed one: sash, sliding window, patio door."""
    z_far, z_near = opening.leaf_z - opening.thickness - 0.012, opening.leaf_z
    lap = 0.03
    if opening.mechanism == "sash":
        size = (opening.width, opening.height / 2 + lap)
        top = opening.y0 + size[1] + travel * (opening.height / 2 - 0.05)
        moving = _flat(opening, opening.x0, top, z_near, size, 0, "bottom")
        fixed = _flat(opening, opening.x0, opening.y1, z_far, size, 1, "", False)
        return [fixed, moving]
    size = (opening.width / 2 + lap, opening.height)
    way = travel * (opening.width / 2 - 0.06)
    is_left = opening.hinge == "left"
    moving_x = opening.x1 - size[0] - way if is_left else opening.x0 + way
    fixed_x = opening.x0 if is_left else opening.x1 - size[0]
    is_near = opening.is_towards
    moving = _flat(opening, moving_x, opening.y1, z_near if is_near else z_far, size, 0,
                   "right" if is_left else "left")  # fmt: skip
    fixed = _flat(opening, fixed_x, opening.y1, z_far if is_near else z_near, size, 1, "", False)
    return [fixed, moving] if is_near else [moving, fixed]


def shown_change(opening: Opening, position: Position, matrix: Array) -> float:
    """Return how much the picture of the moving leaf differs from the shut one.

    The area that only one of the two silhouettes covers, as a share of the opening's area in the
    picture: about the gap's share when seen from the front. What is not shown cannot be labelled.

    Args:
        opening: the door or window.
        position: how far it is open.
        matrix: (3, 4) projection.
    """
    hole = outline(matrix, opening.hole)
    if hole is None:
        return 0.0
    low, high = hole.min(axis=0), hole.max(axis=0)
    scale = 120.0 / max(float((high - low).max()), 1.0)
    shut = Position("closed", 0.0)
    masks = [_silhouette(opening, p, matrix, low, scale) for p in (shut, position)]
    area = cv2.contourArea((hole * scale).astype(np.float32))
    return float((masks[0] != masks[1]).sum()) / max(area, 1.0)


def _silhouette(
    opening: Opening, position: Position, matrix: Array, low: Array, scale: float
) -> Array:
    mask = np.zeros((280, 280), np.uint8)
    for panel in panels(opening, position):
        seen = outline(matrix, panel.corners())
        if panel.is_moving and seen is not None and len(seen) == 8:
            points = np.round((seen - low) * scale + 80).astype(np.int32)
            cv2.fillConvexPoly(mask, cv2.convexHull(points), 1.0)
    return mask
