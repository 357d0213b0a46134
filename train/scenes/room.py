"""What stays the same in all pictures of one door: the room, the wall, its openings and things."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from train.scenes import furniture, leaf, texture
from train.scenes.backdrop import Backdrop, draw_backdrop
from train.scenes.item import Item
from train.scenes.opening import Opening
from train.scenes.texture import PX_PER_M, Colour, Random

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Curtain:
    """Cloth at a window.

    Attributes:
        image: (h, w, 4) uint8 BGRA of one half.
        left: share of the window's width that the left half covers.
        right: the same of the right half.
        blind: share of the height that a roller blind covers from the top, 0 without one.
        blind_colour: BGR.
    """

    image: Array
    left: float
    right: float
    blind: float
    blind_colour: Colour


@dataclass(frozen=True)
class Room:
    """The place of one group of pictures.

    Attributes:
        is_outside: whether the camera stands outdoors before a house.
        left: x in metres of the left side wall (or the end of the painted wall, outdoors).
        right: x of the right one.
        height: of the ceiling (or of the outer wall) in metres.
        reach: how far the floor is painted towards the camera, metres.
        wall: (h, w, 3) uint8 image of the whole wall.
        floor: (h, w, 3) uint8 image of the whole floor.
        side: BGR of the side walls.
        ceiling: BGR.
        skirting: height of the skirting board in metres, 0 without one.
        skirting_colour: BGR.
        openings: the main door or window first.
        backdrops: what is behind each.
        curtains: at each opening, or None.
        items: things at the wall.
        loose: things in the room.
        bare: a piece of bare wall: x0, y0, x1, y1 in metres, or None.
        distortion: of the camera's lens.
    """

    is_outside: bool
    left: float
    right: float
    height: float
    reach: float
    wall: Array
    floor: Array
    side: Colour
    ceiling: Colour
    skirting: float
    skirting_colour: Colour
    openings: tuple[Opening, ...]
    backdrops: tuple[Backdrop, ...]
    curtains: tuple[Curtain | None, ...]
    items: tuple[Item, ...]
    loose: tuple[Item, ...]
    bare: tuple[float, float, float, float] | None
    distortion: float


def draw_room(random: Random, kinds: tuple[str, ...] | None = None) -> Room:
    """Draw a room or house wall.

    Args:
        random: the group's generator.
        kinds: `door` or `window`, from left to right, of a plain room; drawn where it is None.
    """
    is_outside = kinds is None and random.random() < 0.3
    openings = _draw_openings(random, is_outside, kinds)
    height = random.uniform(3.0, 6.0) if is_outside else random.uniform(2.4, 3.0)
    edge = 9.0 if is_outside else float(random.uniform(0.5, 3.5))
    left = min(o.frame[0, 0] for o in openings) - edge
    right = max(o.frame[1, 0] for o in openings) + (
        edge if is_outside else random.uniform(0.5, 3.5)
    )
    reach = 9.0
    walls = texture.OUTSIDE_WALLS if is_outside else texture.INSIDE_WALLS
    floors = texture.OUTSIDE_FLOORS if is_outside else texture.INSIDE_FLOORS
    tone = texture.paint_colour(random)
    density = 70 if is_outside else PX_PER_M
    wall = walls[int(random.integers(len(walls)))](
        random, round(height * density), round((right - left) * density), tone
    )
    if not is_outside and random.random() < 0.15:
        _wainscot(random, wall)
    floor_tone = texture.wood_colour(random)
    floor = floors[int(random.integers(len(floors)))](random, 700, 560, floor_tone)
    items = _furnish(random, openings, left, right, is_outside)
    return Room(
        is_outside=is_outside,
        left=left,
        right=right,
        height=height,
        reach=reach,
        wall=wall,
        floor=floor,
        side=tone if random.random() < 0.8 else texture.paint_colour(random),
        ceiling=texture.colour(random, (20, 60), (0.0, 0.06), (0.85, 0.98)),
        skirting=0.0 if random.random() < 0.25 else random.uniform(0.05, 0.16),
        skirting_colour=texture.lacquer_colour(random),
        openings=openings,
        backdrops=tuple(_backdrop(random, o, is_outside) for o in openings),
        curtains=tuple(_curtain(random, o) for o in openings),
        items=items,
        loose=() if kinds is not None or random.random() < 0.5 else _loose(random),
        bare=_bare(random, openings, items, left, right),
        distortion=float(random.choice([-0.12, -0.06, -0.03, 0.0, 0.0, 0.03])),
    )


def _wainscot(random: Random, wall: Array) -> None:
    """Give the lower part of a wall another surface."""
    high = int(random.uniform(0.35, 0.5) * wall.shape[0])
    lower = texture.INSIDE_WALLS[int(random.integers(len(texture.INSIDE_WALLS)))]
    wall[-high:] = lower(random, high, wall.shape[1], texture.lacquer_colour(random))
    wall[-high - 6 : -high] = (wall[-high - 6 : -high] * 0.7).astype(np.uint8)


def _backdrop(random: Random, opening: Opening, is_outside: bool) -> Backdrop:
    if is_outside:
        return draw_backdrop(random, opening, False)
    outdoors = (
        0.95 if opening.kind == "window" or opening.mechanism in ("patio", "roller") else 0.25
    )
    return draw_backdrop(random, opening, bool(random.random() < outdoors))


def _draw_openings(
    random: Random, is_outside: bool, kinds: tuple[str, ...] | None
) -> tuple[Opening, ...]:
    is_plain = kinds is not None
    if kinds is None:
        kinds = ("door",) if random.random() < 0.55 else ("window",)
        if random.random() < 0.4:
            kinds = (*kinds, "door" if random.random() < 0.35 else "window")
        is_mirrored = random.random() < 0.5
    else:
        is_mirrored = False
    style = _frame_style(random)
    drawn: list[Opening] = []
    for kind in kinds:
        opening = _draw_opening(random, kind, is_outside, is_plain, style)
        if drawn:
            # A leaf that swings wide must not hide the neighbour.
            gap = random.uniform(0.35, 1.4) + 0.5 * max(opening.width, drawn[0].width)
            gap += opening.casing + drawn[0].casing
            x0 = drawn[0].x0 - gap - opening.width if is_mirrored else drawn[0].x1 + gap
            opening = replace(opening, x0=float(x0))
        drawn.append(opening)
    return tuple(drawn)


def _frame_style(random: Random) -> tuple[Colour, float]:
    return texture.lacquer_colour(random), random.uniform(0.04, 0.12)


_DOORS = ("hinged",) * 11 + ("double",) * 2 + ("patio", "patio", "barn", "pocket")
_WINDOWS = (
    ("casement",) * 5
    + ("french",) * 3
    + ("tilt_turn",) * 4
    + ("awning", "sash", "sash", "slider", "slider")
)


_PLAIN = {"door": ("hinged", "hinged", "double"), "window": ("casement", "french", "tilt_turn")}


def _draw_opening(
    random: Random, kind: str, is_outside: bool, is_plain: bool, style: tuple[Colour, float]
) -> Opening:
    names: tuple[str, ...] = _DOORS if kind == "door" else _WINDOWS
    if kind == "door" and is_outside:
        names = (*_DOORS, "roller", "roller")
    if is_plain:
        names = _PLAIN[kind]
    mechanism = str(random.choice(names))
    width, height, low = _extent(random, kind, mechanism)
    base = style[0] if random.random() < 0.4 or kind == "window" else leaf.leaf_colour(random)
    is_towards = bool(random.random() < (0.3 if is_outside and kind == "door" else 0.6))
    if mechanism == "tilt_turn":
        is_towards = not is_outside
    if mechanism == "awning":
        is_towards = is_outside
    thickness = random.uniform(0.036, 0.055)
    return Opening(
        kind=kind,
        mechanism=mechanism,
        x0=0.0,
        y0=low,
        width=width,
        height=height,
        depth=random.uniform(0.1, 0.3),
        hinge=str(random.choice(["left", "right"])),
        is_towards=is_towards,
        casing=style[1] if random.random() < 0.9 else 0.02,
        casing_colour=style[0],
        leaves=_leaves(random, kind, mechanism, width, height, base),
        thickness=thickness,
        metal=texture.colour(random, (20, 50), (0.0, 0.5), (0.15, 0.9)),
        handle=str(random.choice(["lever", "lever", "lever", "knob", "bar"])),
        has_hinges=bool(random.random() < 0.7),
    )


def _extent(random: Random, kind: str, mechanism: str) -> tuple[float, float, float]:
    """Draw width, height and the height of the lower edge, in metres."""
    if kind == "window":
        width, height = random.uniform(0.6, 1.1), random.uniform(0.8, 1.4)
        if mechanism in ("french", "slider"):
            width *= 1.5
        if mechanism == "awning":
            height = min(height, 0.9)
        return width, height, random.uniform(0.75, 1.1)
    if mechanism == "roller":
        return random.uniform(2.2, 3.0), random.uniform(2.0, 2.3), 0.0
    if mechanism in ("double", "patio"):
        return random.uniform(1.3, 1.9), random.uniform(2.0, 2.2), 0.0
    return random.uniform(0.7, 1.0), random.uniform(1.95, 2.15), 0.0


def _leaves(
    random: Random, kind: str, mechanism: str, width: float, height: float, base: Colour
) -> tuple[leaf.Leaf, ...]:
    if mechanism == "roller":
        return (leaf.roller_leaf(random, width, height, base),)
    count = 2 if mechanism in ("double", "french", "patio", "sash", "slider") else 1
    if mechanism == "sash":
        height /= 2
    else:
        width /= count
    if mechanism == "patio":
        make, style = leaf.window_leaf, "pane"
    elif kind == "window":
        make, style = leaf.window_leaf, str(random.choice(leaf.WINDOW_STYLES))
    else:
        make, style = leaf.door_leaf, str(random.choice(leaf.DOOR_STYLES))
    first = make(random, width, height, style=style, base=base)
    return (first,) * count


def _curtain(random: Random, opening: Opening) -> Curtain | None:
    if opening.kind == "door" or random.random() < 0.5:
        return None
    tone = texture.colour(random, (0, 360), (0.0, 0.7), (0.4, 0.95))
    cloth = texture.folds(random, 300, 120, tone)
    opacity = 255 if random.random() < 0.6 else int(random.integers(110, 200))
    image = np.dstack([cloth, np.full(cloth.shape[:2], opacity, np.uint8)])
    left, right = random.uniform(0.0, 0.2, 2)
    blind = random.uniform(0.05, 0.35) if random.random() < 0.35 else 0.0
    return Curtain(
        image,
        float(left),
        float(right),
        float(blind),
        texture.colour(random, (0, 360), (0.0, 0.3), (0.5, 0.95)),
    )


def _taken(openings: tuple[Opening, ...], is_deep: bool) -> list[tuple[float, float]]:
    spans = []
    for o in openings:
        left, right = o.frame[0, 0] - 0.08, o.frame[1, 0] + 0.08
        leaf_width = o.width / len(o.leaves)
        if o.is_in_front and is_deep:
            # A leaf that has turned past a right angle needs the wall beside it.
            left, right = left - 0.6 * leaf_width, right + 0.6 * leaf_width
        if o.mechanism == "barn":
            left, right = left - leaf_width, right + leaf_width
        spans.append((float(left), float(right)))
    return spans


def _is_free(x0: float, x1: float, spans: list[tuple[float, float]]) -> bool:
    return all(x1 < a or x0 > b for a, b in spans)


def _furnish(
    random: Random, openings: tuple[Opening, ...], left: float, right: float, is_outside: bool
) -> tuple[Item, ...]:
    """Place things along the wall where there is room."""
    placed: list[Item] = []
    deep, flat = _taken(openings, True), _taken(openings, False)
    low, high = (
        (min(a for a, _ in flat) - 3.0, max(b for _, b in flat) + 3.0)
        if is_outside
        else (left, right)
    )
    for _ in range(int(random.integers(2, 14))):
        is_flat = not is_outside and random.random() < 0.45
        if is_outside and random.random() < 0.4:
            continue
        choices = (
            furniture.FLAT if is_flat else furniture.OUTSIDE if is_outside else furniture.INSIDE
        )
        x = float(random.uniform(low + 0.05, high - 0.2))
        item = choices[int(random.integers(len(choices)))](random, x)
        others = [(i.low[0], i.high[0]) for i in placed]
        if item.high[0] < high and _is_free(
            item.low[0], item.high[0], [*(flat if is_flat else deep), *others]
        ):
            placed.append(item)
    return tuple(placed)


def _loose(random: Random) -> tuple[Item, ...]:
    return tuple(
        item for _ in range(int(random.integers(1, 3))) for item in furniture.free_standing(random)
    )


def _bare(
    random: Random,
    openings: tuple[Opening, ...],
    items: tuple[Item, ...],
    left: float,
    right: float,
) -> tuple[float, float, float, float] | None:
    """Find a piece of bare wall as tall or as wide as a door or window."""
    spans = _taken(openings, True) + [(i.low[0], i.high[0]) for i in items]
    for _ in range(8):
        wide, high, low = (
            random.uniform(0.5, 1.2),
            random.uniform(0.7, 2.0),
            random.uniform(0.15, 0.9),
        )
        x = random.uniform(max(left, -4.0), min(right, 4.0))
        if x + wide < right and _is_free(x, x + wide, spans):
            return float(x), float(low), float(x + wide), float(min(low + high, 2.3))
    return None
