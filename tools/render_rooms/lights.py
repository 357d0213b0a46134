"""Lamps, windows out of sight, the sun, and the lamp of an infra-red camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.render_rooms.opening import Opening
from tools.render_rooms.surroundings import Room

Random = np.random.Generator
Colour = tuple[float, float, float]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """One light.

    Attributes:
        kind: `area`, `sun` or `spot`.
        place: (3,) metres; of the sun, only the direction to `target` counts.
        target: (3,) metres, where it points.
        power: watts; of the sun, watts a square metre.
        size: side in metres; of the sun and a spot, its angle in degrees.
        colour: linear red, green, blue.
        spread: of an area light in degrees: 180 = to all sides, small = like the sun.
    """

    kind: str
    place: Vector
    target: Vector
    power: float
    size: float
    colour: Colour
    spread: float = 180.0


@dataclass(frozen=True)
class Ambient:
    """Light from everywhere."""

    colour: Colour
    strength: float


def draw_lights(
    random: Random, room: Room, opening: Opening, beyond: str, eye: Vector, is_infrared: bool
) -> tuple[list[Light], Ambient]:
    """Draw what lights the room and what is beyond the opening."""
    if is_infrared:
        lamp = Light(
            "spot",
            (eye[0], eye[1], eye[2] + 0.05),
            (0.0, 0.0, 1.2),
            random.uniform(60, 300),
            random.uniform(80, 160),
            (1.0, 1.0, 1.0),
        )
        return [lamp], Ambient((1.0, 1.0, 1.0), random.uniform(0.0, 0.004))
    lights = _beyond(random, opening, beyond)
    if room.is_outdoors:
        sky = (random.uniform(0.6, 1.0), random.uniform(0.75, 1.0), 1.0)
        if random.random() < 0.6:
            lights.append(_sun(random, towards=1.0, power=random.uniform(1.5, 6)))
        return lights, Ambient(sky, random.uniform(0.6, 1.6))
    lights += _room(random, room)
    return lights, Ambient(_white(random), random.uniform(0.02, 0.45))


def _white(random: Random) -> Colour:
    """A white from candle to shade."""
    warmth = random.uniform(-0.5, 1.0)
    if warmth > 0:
        return 1.0, 1.0 - 0.32 * warmth, 1.0 - 0.62 * warmth
    return 1.0 + 0.5 * warmth, 1.0 + 0.2 * warmth, 1.0


def _sun(random: Random, *, towards: float, power: float) -> Light:
    direction = (random.uniform(-1.2, 1.2), towards, -random.uniform(0.5, 1.8))
    return Light(
        "sun",
        (0.0, 0.0, 0.0),
        direction,
        power,
        random.choice([0.5, 0.5, 12.0]),
        (1.0, random.uniform(0.8, 0.96), random.uniform(0.6, 0.9)),
    )


def _room(random: Random, room: Room) -> list[Light]:
    lights = []
    x, y = random.uniform(room.left, room.right) * 0.7, -random.uniform(0.6, room.length)
    if random.random() < 0.75:
        z = room.height - 0.06
        lights.append(
            Light(
                "area",
                (x, y, z),
                (x, y, 0.0),
                random.uniform(15, 140),
                random.uniform(0.15, 1.2),
                _white(random),
            )
        )
    if random.random() < 0.55:  # a window in a side wall
        side = room.left + 0.1 if random.random() < 0.5 else room.right - 0.1
        y = -random.uniform(0.8, 3.5)
        lights.append(
            Light(
                "area",
                (side, y, 1.5),
                (0.0, y + random.uniform(-0.5, 1.0), 1.0),
                random.uniform(20, 220),
                1.2,
                _white(random),
                150.0,
            )
        )
    if random.random() < 0.22:  # a patch of sun on the wall or the leaf
        place = (random.uniform(-2.5, 2.5), -random.uniform(3.0, 5.0), random.uniform(2.0, 3.2))
        target = (random.uniform(-0.8, 0.8), 0.0, random.uniform(0.2, 1.8))
        lights.append(
            Light(
                "area",
                place,
                target,
                random.uniform(5, 40),
                random.uniform(0.3, 1.0),
                (1.0, 0.85, 0.65),
                4.0,
            )
        )
    if not lights:
        lights.append(
            Light("area", (x, y, 2.2), (0.0, 0.0, 1.0), random.uniform(3, 20), 0.8, _white(random))
        )
    return lights


def _beyond(random: Random, opening: Opening, beyond: str) -> list[Light]:
    if beyond == "outdoors":
        if random.random() < 0.65:
            towards = float(random.choice([-1.0, -0.5, 0.5]))
            return [_sun(random, towards=towards, power=random.uniform(3, 14))]
        return [
            Light(
                "area",
                (0.0, opening.depth + 4.0, 6.0),
                (0.0, opening.depth + 2.0, 0.0),
                random.uniform(600, 2500),
                6.0,
                (0.85, 0.92, 1.0),
            )
        ]
    watts = {"lit": (40, 500), "corridor": (8, 160), "dim": (0.5, 6.0), "dark": (0.0, 0.3)}[beyond]
    x, y = random.uniform(-0.8, 0.8), opening.depth + random.uniform(0.7, 1.6)
    return [
        Light(
            "area",
            (x, y, 2.3),
            (x, y + 0.2, 0.0),
            random.uniform(*watts),
            random.uniform(0.2, 1.0),
            _white(random),
        )
    ]
