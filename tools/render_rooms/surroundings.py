"""What is around an opening: its wall, the room or the place before it, what stands there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.render_rooms import surfaces
from tools.render_rooms.beyond import draw_beyond
from tools.render_rooms.furniture import coats, furniture, low_thing, person
from tools.render_rooms.opening import Opening
from tools.render_rooms.parts import Part, box
from tools.render_rooms.surfaces import Surface, linear

Random = np.random.Generator


@dataclass(frozen=True)
class Room:
    """The space on the camera's side.

    Attributes:
        left: x of the left wall, metres; negative.
        right: x of the right wall.
        length: from the opening's wall to the one behind the camera.
        height: of the ceiling.
        is_outdoors: whether there are no walls and no ceiling, but sky.
        wall: surface of the opening's wall.
    """

    left: float
    right: float
    length: float
    height: float
    is_outdoors: bool
    wall: Surface


def draw_room(random: Random) -> Room:
    """Draw a room or, one time in six, a place before a house."""
    is_outdoors = bool(random.random() < 0.16)
    near = random.uniform(0.62, 1.5) if random.random() < 0.6 else random.uniform(1.5, 3.0)
    far = random.uniform(0.8, 4.0)
    left, right = (-near, far) if random.random() < 0.5 else (-far, near)
    wall = surfaces.facade(random) if is_outdoors else surfaces.wall(random)
    return Room(left, right, random.uniform(2.2, 6.5), random.uniform(2.4, 3.3), is_outdoors, wall)


def draw_parts(random: Random, room: Room, opening: Opening, beyond: str) -> list[Part]:
    """Draw everything that stands still, but the opening's own frame."""
    parts = _wall(room, opening) + _shell(random, room, opening.depth)
    parts += _trim(random, room, opening)
    if not room.is_outdoors:
        parts += _on_the_wall(random, opening)
    parts += _clutter(random, room, opening)
    if opening.kind == "window":
        parts += _covers(random, room, opening)
    return parts + draw_beyond(random, opening, beyond)


def _wall(room: Room, opening: Opening) -> list[Part]:
    """The wall around the hole."""
    # The frame's lining is let into the wall: 2 cm.
    half, top = opening.width / 2 + 0.02, opening.bottom + opening.height + 0.02
    y = (0.0, opening.depth)
    reach = 6.0 if room.is_outdoors else 0.0
    height = 5.0 if room.is_outdoors else room.height
    left, right = min(room.left, -half - 0.05) - reach, max(room.right, half + 0.05) + reach
    parts = [
        box((left, -half), y, (0, height), room.wall),
        box((half, right), y, (0, height), room.wall),
        box((-half, half), y, (top, height), room.wall),
    ]
    if opening.bottom > 0:
        parts.append(box((-half, half), y, (0, opening.bottom - 0.02), room.wall))
    return parts


def _shell(random: Random, room: Room, depth: float) -> list[Part]:
    """Floor, side walls, ceiling."""
    if room.is_outdoors:
        return [box((-30, 30), (-30, depth), (-0.1, 0), surfaces.ground(random))]
    side = room.wall if random.random() < 0.7 else surfaces.wall(random)
    ceiling = Surface(
        "paint",
        linear(0.12, random.uniform(0, 0.08), random.uniform(0.75, 0.97)),
        (0.7, 0.7, 0.7),
        0.9,
    )
    y = (-room.length, 0.0)
    half = 0.6
    left, right = min(room.left, -half), max(room.right, half)
    return [
        box((left, right), (y[0], depth), (-0.1, 0), surfaces.floor(random)),
        box((left - 0.1, left), y, (0, room.height), side),
        box((right, right + 0.1), y, (0, room.height), side),
        box((left, right), y, (room.height, room.height + 0.1), ceiling),
    ]


def _beside(
    room: Room, opening: Opening, z: tuple[float, float], depth: float, surface: Surface
) -> list[Part]:
    """A band along the wall, left and right of the frame."""
    edge = opening.width / 2 + max(opening.casing, 0.02)
    reach = 6.0 if room.is_outdoors else 0.0
    y = (-depth, 0.0)
    bands = [(min(room.left, -edge) - reach, -edge), (edge, max(room.right, edge) + reach)]
    return [box(x, y, z, surface) for x in bands if x[1] - x[0] > 0.02]


def _trim(random: Random, room: Room, opening: Opening) -> list[Part]:
    """Skirting board, dado, ledges."""
    parts: list[Part] = []
    if random.random() < 0.6:
        trim = surfaces.joinery(random, room.wall)
        parts += _beside(room, opening, (0, random.uniform(0.06, 0.16)), 0.012, trim)
    if random.random() < 0.14 and opening.kind == "door":
        one, other = surfaces.thing(random).colour, surfaces.thing(random).colour
        dado = Surface("tiles", one, other, roughness=0.2, scale=random.uniform(0.08, 0.2))
        parts += _beside(room, opening, (0, random.uniform(0.9, 1.5)), 0.008, dado)
    return parts


def _free_side(random: Random, opening: Opening) -> int:
    """The side where things on the floor are not in a leaf's way."""
    return -opening.hinge if opening.is_towards else int(random.choice([-1, 1]))


def _on_the_wall(random: Random, opening: Opening) -> list[Part]:
    """Switch, pictures, hooks with coats, shelf, fan heater above the door."""
    parts = []
    edge = opening.width / 2 + opening.casing
    if random.random() < 0.5:
        side = -opening.hinge
        x = side * (edge + random.uniform(0.08, 0.25))
        white = Surface("paint", (0.8, 0.8, 0.75), (0.7, 0.7, 0.7), 0.4)
        parts.append(box((x - 0.04, x + 0.04), (-0.012, 0.0), (1.05, 1.13), white))
    for _ in range(int(random.choice([0, 1, 2, 3], p=[0.35, 0.3, 0.2, 0.15]))):
        side = int(random.choice([-1, 1]))
        w, h = random.uniform(0.15, 0.6), random.uniform(0.15, 0.7)
        x, z = side * (edge + 0.1 + w / 2 + random.uniform(0, 0.7)), random.uniform(1.2, 1.9)
        frame = surfaces.joinery(random)
        parts.append(box((x - w / 2, x + w / 2), (-0.02, 0.0), (z - h / 2, z + h / 2), frame))
        m = 0.03
        parts.append(
            box(
                (x - w / 2 + m, x + w / 2 - m),
                (-0.022, -0.01),
                (z - h / 2 + m, z + h / 2 - m),
                surfaces.picture(random),
            )
        )
    if random.random() < 0.14:
        parts += coats(random, _free_side(random, opening) * (edge + random.uniform(0.2, 0.5)))
    if random.random() < 0.06:
        z = opening.bottom + opening.height + opening.casing + 0.1
        parts.append(box((-0.4, 0.4), (-0.2, 0.0), (z, z + 0.26), surfaces.thing(random)))
    return parts


def _covers(random: Random, room: Room, opening: Opening) -> list[Part]:
    """Curtains beside a window, and a shutter outside that is partly down."""
    parts = []
    half, top = opening.width / 2, opening.bottom + opening.height
    if not room.is_outdoors and random.random() < 0.45:
        cloth = surfaces.fabric(random)
        rail = top + opening.casing + random.uniform(0.05, 0.2)
        foot = 0.05 if random.random() < 0.5 else opening.bottom - random.uniform(0.1, 0.3)
        # Those of a leaf that comes towards the room hang beside it.
        covered = 0.0 if opening.is_towards else random.uniform(0.0, 0.3) * opening.width
        inner = half + opening.casing - covered
        width = random.uniform(0.25, 0.5)
        for side in (-1, 1):
            centre = (side * (inner + width / 2), -0.17, (rail + foot) / 2)
            parts.append(Part("curtain", centre, (width, 0.09, rail - foot), cloth))
        parts.append(
            box(
                (-inner - width, inner + width),
                (-0.19, -0.165),
                (rail, rail + 0.025),
                surfaces.metal(random),
            )
        )
    if random.random() < 0.22:
        y = (-0.05, -0.035) if room.is_outdoors and not opening.is_towards else (
            opening.depth + 0.02, opening.depth + 0.035)  # fmt: skip
        slats = surfaces.Surface("tiles", *_two_tones(random), scale=0.05)
        parts.append(
            box((-half, half), y, (top - random.uniform(0.1, 0.6) * opening.height, top), slats)
        )
    return parts


def _two_tones(random: Random) -> tuple[surfaces.Colour, surfaces.Colour]:
    colour = surfaces.joinery(random).colour
    return colour, (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7)


def _clutter(random: Random, room: Room, opening: Opening) -> list[Part]:
    """Furniture beside the opening, and now and then before it."""
    parts: list[Part] = []
    edge = opening.width / 2 + opening.casing
    for side in (-1, 1):
        if random.random() < 0.55:
            in_the_way = opening.is_towards and side == opening.hinge
            inner = edge + (0.75 if in_the_way else 0.02) + random.exponential(0.25)
            piece = furniture(random, 0.0, -random.uniform(0.25, 0.5), outdoors=room.is_outdoors)
            parts += _pushed(piece, side, inner)
    if random.random() < 0.16:
        reach = opening.width + 0.3 if opening.is_towards else 0.4
        x = random.uniform(-0.5, 0.5)
        parts += low_thing(random, x, -reach - random.uniform(0.1, 0.8))
    if random.random() < 0.03:
        side = -opening.hinge
        parts += person(random, side * random.uniform(0.35, 0.9), -random.uniform(1.1, 1.6))
    return parts


def _pushed(piece: list[Part], side: int, inner: float) -> list[Part]:
    """Move a piece sideways until it is wholly beyond `inner` metres on its side."""
    nearest = min(float((part.mesh()[0][:, 0] * side).min()) for part in piece)
    return [part.moved(side * (inner - nearest), 0.0, 0.0) for part in piece]
