"""A leaf of a photograph turned about its hinge, as a camera would see it."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tools.opened.beyond import draw_beyond
from tools.opened.leaves import Corners, Leaf, Picture, box_corners

Points = Sequence[tuple[float, float, float]]
"""x to the right and y down in the leaf's plane, its width being 1; z away from the camera."""
End = tuple[float, float]
"""x and z."""
Colour = npt.NDArray[np.float64]

_FINER = 2
"""Everything is drawn so many times as large, and made smaller at the end: smooth edges."""
_FRAME_PX = 9
"""Side of the square by which a leaf is widened to find its frame's colour, picture pixels."""
_LEAST_AWAY = 1.3
"""Of the camera, in widths of the leaf: beyond its swing."""


class Wall:
    """The plane of a shut leaf, and a camera before it.

    Args:
        corners: (4, 2) of the leaf, pixels.
        centre: Of the picture, pixels.
        random: Decides how far the camera is.
    """

    def __init__(
        self, corners: Corners, centre: tuple[float, float], random: np.random.Generator
    ) -> None:
        wide = np.linalg.norm(corners[1] - corners[0])
        self.height = float(np.linalg.norm(corners[3] - corners[0]) / max(wide, 1.0))
        self._to_picture = cv2.getPerspectiveTransform(
            box_corners(0.0, 0.0, 1.0, self.height), corners
        )
        middle = np.linalg.inv(self._to_picture) @ (*centre, 1.0)
        self._x = float(np.clip(middle[0] / middle[2] + random.normal(0, 0.3), -2.5, 3.5))
        self._y = self.height * random.uniform(0.2, 0.6)
        self._away = max(self.height, _LEAST_AWAY) * random.uniform(0.9, 2.2)

    def project(self, points: Points) -> Corners:
        """Return where the camera sees points, (N, 2) float32 pixels.

        What is nearer to it than 0.15 of its distance from the wall is put there.
        """
        x, y, z = np.asarray(points, np.float64).T
        scale = self._away / np.maximum(self._away + z, 0.15 * self._away)
        plane = np.stack(
            [self._x + (x - self._x) * scale, self._y + (y - self._y) * scale, np.ones_like(x)]
        )
        seen = self._to_picture @ plane
        return np.asarray((seen[:2] / seen[2]).T, np.float32)


def turn_leaf(
    leaf: Leaf,
    degrees: float,
    beyond: Sequence[Picture],
    random: np.random.Generator,
    *,
    other: Leaf | None = None,
    hinge: str = "",
    is_day: bool = False,
) -> Picture:
    """Return the leaf's picture with the leaf turned, or with another's leaf in its place.

    At 0 degrees the shut leaf is painted anew, so that traces of the painting do not say that it
    is open.

    Args:
        leaf: What is turned.
        degrees: 0 to 115, towards the camera or away from it.
        beyond: What may be seen behind it.
        random: Decides all else.
        other: Whose face is put there instead.
        hinge: `left` or `right`; drawn if empty.
        is_day: Daylight is behind the leaf.

    Returns:
        (H, W, 3) uint8, BGR, as large as the leaf's picture.
    """
    height, width = leaf.picture.shape[:2]
    size = (width * _FINER, height * _FINER)
    picture = cv2.resize(leaf.picture, size, interpolation=cv2.INTER_CUBIC)
    corners = leaf.corners * _FINER
    wall = Wall(corners, (size[0] / 2, size[1] / 2), random)
    hole = _mask(size, corners)
    layer = _behind(
        picture, corners, wall, beyond, random, has_floor=leaf.kind == "door", is_day=is_day
    )
    _draw_reveal(layer, wall, _colour_around(picture, hole), random)
    soft = _soft(hole, 0.5)
    opened = _seen_through(picture, layer, soft)
    drawn = _with_leaf(opened, soft, leaf, other or leaf, wall, degrees, hinge, random)
    smaller = cv2.resize(
        np.clip(drawn, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(smaller, np.uint8)


def _behind(
    picture: Picture,
    corners: Corners,
    wall: Wall,
    beyond: Sequence[Picture],
    random: np.random.Generator,
    *,
    has_floor: bool,
    is_day: bool,
) -> Picture:
    """Return the picture with what is behind the leaf in its place; of a door, floor too."""
    layer = picture.copy()
    left, top = np.floor(corners.min(0)).astype(int)
    right, bottom = np.ceil(corners.max(0)).astype(int)
    size = (max(8, right - left), max(8, bottom - top))
    seen = draw_beyond(beyond, size, random, is_day=is_day)
    y, x = max(top, 0), max(left, 0)
    part = layer[y:bottom, x:right]
    part[:] = np.clip(seen, 0, 255)[y - top :, x - left :][: part.shape[0], : part.shape[1]]
    sill = min(int(corners[2:, 1].mean()) + 3, len(picture) - 1)
    before = picture[sill : sill + int(0.08 * (bottom - top)) + 2, x:right]
    if has_floor and before.size and random.random() < 0.5:
        colour = before.reshape(-1, 3).mean(0) * random.uniform(0.5, 1.1)
        far, high = wall.height * random.uniform(0.6, 3.0), wall.height
        floor = layer.copy()
        ground = [(-0.5, high, 0.0), (1.5, high, 0.0), (2.5, high, far), (-1.5, high, far)]
        _fill(floor, wall.project(ground), colour)
        share = random.uniform(0.3, 0.9)
        layer = np.asarray(cv2.addWeighted(floor, share, layer, 1 - share, 0), np.uint8)
    return layer


def _draw_reveal(layer: Picture, wall: Wall, colour: Colour, random: np.random.Generator) -> None:
    """Draw what is seen of the wall's thickness: both sides and the top."""
    deep, high = wall.height * random.uniform(0.01, 0.07), wall.height
    for x in (0.0, 1.0):
        side = [(x, 0.0, 0.0), (x, 0.0, deep), (x, high, deep), (x, high, 0.0)]
        _fill(layer, wall.project(side), colour * random.uniform(0.4, 0.9))
    top = [(0.0, 0.0, 0.0), (0.0, 0.0, deep), (1.0, 0.0, deep), (1.0, 0.0, 0.0)]
    _fill(layer, wall.project(top), colour * random.uniform(0.4, 0.8))


def _with_leaf(
    opened: Picture,
    soft: npt.NDArray[np.float32],
    leaf: Leaf,
    shown: Leaf,
    wall: Wall,
    degrees: float,
    hinge: str,
    random: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return `opened` with the face of `shown` where the turned leaf is, as large, 0 to 255."""
    is_left = hinge == "left" if hinge else random.random() < 0.5
    turn = np.radians(degrees) * (1 if random.random() < 0.6 else -1)
    ends = _ends(turn, is_left, 0.0 if degrees else random.uniform(0.0, 0.006))
    light = 2 ** (random.uniform(-0.8, 0.35) if degrees else random.uniform(-0.3, 0.25))
    usual = _usual(shown)
    if degrees:
        edge = _edge(ends, turn, is_left, wall.height * random.uniform(0.015, 0.025))
        colour = usual * light * random.uniform(0.4, 1.4)
        edged = opened.copy()
        _fill(edged, wall.project(_upright(*edge, wall.height)), colour)
        opened = _seen_through(opened, edged, soft) if turn > 0 else edged
    source, corners = shown.picture, shown.corners
    if shown is not leaf:  # lit as this place is
        lit = (_usual(leaf).mean() + 1) / (usual.mean() + 1)
        light *= float(np.clip(lit**0.5, 0.4, 2.5))
        if random.random() < 0.5:
            source, corners = _mirrored(source, corners)
    face = wall.project(_upright(*ends, wall.height))
    size = (opened.shape[1], opened.shape[0])
    warped = cv2.warpPerspective(
        source,
        cv2.getPerspectiveTransform(corners, face),
        size,
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    shade = np.linspace(*random.uniform(0.75, 1.1, 2), size[0])[None, :, None] if degrees else 1.0
    where = _soft(_mask(size, face), 0.4)
    if turn > 0:  # behind the wall
        where = where * soft
    drawn = opened.astype(np.float32)
    if degrees and random.random() < 0.7:
        shadow = cv2.GaussianBlur(where, (0, 0), _FINER * random.uniform(2.0, 6.0))[..., None]
        drawn *= 1 - random.uniform(0.1, 0.5) * shadow * soft
    return np.asarray(drawn * (1 - where) + warped * (light * shade) * where, np.float64)


def _seen_through(picture: Picture, behind: Picture, hole: npt.NDArray[np.float32]) -> Picture:
    """Return a picture with what is behind the wall in its hole."""
    return np.asarray(picture * (1 - hole) + behind * hole, np.uint8)


def _usual(leaf: Leaf) -> Colour:
    """Return the median colour of a leaf."""
    left, top, right, bottom = leaf.box
    part = leaf.picture[max(top, 0) : bottom, max(left, 0) : right]
    return np.asarray(np.median(part, axis=(0, 1)))


def _edge(ends: tuple[End, End], turn: float, is_left: bool, thick: float) -> tuple[End, End]:
    """Return the front and the back of the leaf's free edge."""
    x, z = ends[1] if is_left else ends[0]
    aside = thick * np.sin(turn) * (-1 if is_left else 1)
    return (x, z), (x + aside, z + thick * np.cos(turn))


def _ends(turn: float, is_left: bool, gap: float) -> tuple[End, End]:
    """Return the leaf's left and right end."""
    hung, free = ((at * np.cos(turn), at * np.sin(turn)) for at in (gap, 1.0 - gap))
    if is_left:
        return hung, free
    return (1.0 - free[0], free[1]), (1.0 - hung[0], hung[1])


def _upright(left: End, right: End, high: float) -> Points:
    """Return the corners of an upright rectangle between two ends."""
    (x0, z0), (x1, z1) = left, right
    return [(x0, 0.0, z0), (x1, 0.0, z1), (x1, high, z1), (x0, high, z0)]


def _mirrored(picture: Picture, corners: Corners) -> tuple[Picture, Corners]:
    order = [1, 0, 3, 2]
    turned = np.stack([picture.shape[1] - corners[order, 0], corners[order, 1]], 1)
    return np.ascontiguousarray(picture[:, ::-1]), turned.astype(np.float32)


def _colour_around(picture: Picture, hole: npt.NDArray[np.uint8]) -> Colour:
    """Return the mean colour of the frame."""
    ring = cv2.dilate(hole, np.ones((_FRAME_PX * _FINER,) * 2, np.uint8)) - hole
    return np.asarray(picture[ring > 128].mean(0) if (ring > 128).any() else np.full(3, 128.0))


def _fill(picture: Picture, points: Corners, colour: Colour) -> None:
    """Fill a polygon, its points to an eighth of a pixel."""
    shape = np.round(np.clip(points, -9999, 9999) * 8).astype(np.int32)
    cv2.fillPoly(picture, [shape], np.clip(colour, 0, 255).tolist(), cv2.LINE_AA, 3)


def _mask(size: tuple[int, int], points: Corners) -> npt.NDArray[np.uint8]:
    mask = np.zeros(size[::-1], np.uint8)
    _fill(mask, points, np.full(1, 255.0))
    return mask


def _soft(mask: npt.NDArray[np.uint8], blur: float) -> npt.NDArray[np.float32]:
    """Return (H, W, 1) 0 to 1, its edge as soft as a photograph's."""
    blurred = cv2.GaussianBlur(mask, (0, 0), _FINER * blur)
    return np.asarray(blurred[..., None].astype(np.float32) / 255)
