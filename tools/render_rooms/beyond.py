"""What is seen through an opening: another room, a corridor, a garden."""

from __future__ import annotations

import numpy as np

from tools.render_rooms import surfaces
from tools.render_rooms.furniture import furniture, person
from tools.render_rooms.opening import Opening
from tools.render_rooms.parts import Part, box
from tools.render_rooms.surfaces import Surface, linear

Random = np.random.Generator

BEYONDS = ("lit", "dim", "dark", "corridor", "outdoors")


def draw_beyond(random: Random, opening: Opening, beyond: str) -> list[Part]:
    """Draw what is behind the opening's wall; `beyond` is one of `BEYONDS`."""
    return _garden(random, opening) if beyond == "outdoors" else _room(random, opening, beyond)


def _room(random: Random, opening: Opening, beyond: str) -> list[Part]:
    """Another room: floor, three walls, ceiling, things, perhaps its own window."""
    start = opening.depth
    length = random.uniform(4, 9) if beyond == "corridor" else random.uniform(1.6, 5.0)
    half = opening.width / 2
    spread = (0.15, 0.5) if beyond == "corridor" else (0.15, 3.0)
    left, right = -half - random.uniform(*spread), half + random.uniform(*spread)
    height = random.uniform(2.4, 3.0)
    y = (start, start + length)
    wall = surfaces.wall(random)
    ceiling = Surface("paint", (0.75, 0.74, 0.7), (0.7, 0.7, 0.7), 0.9)
    parts = [
        box((left, right), (start, y[1]), (-0.1, 0), surfaces.floor(random)),
        box((left - 0.1, left), y, (0, height), wall),
        box((right, right + 0.1), y, (0, height), wall),
        box((left, right), (y[1], y[1] + 0.1), (0, height), wall),
        box((left, right), y, (height, height + 0.1), ceiling),
    ]
    if beyond in ("lit", "corridor") and random.random() < 0.6:
        parts += _bright_window(random, random.uniform(left * 0.7, right * 0.7), y[1])
    clear = opening.width + 0.2 if not opening.is_towards else 0.4
    for _ in range(int(random.integers(3, 11))):
        place = random.uniform(start + clear + 0.25, max(y[1] - 0.3, start + clear + 0.3))
        parts += furniture(random, random.uniform(left + 0.3, right - 0.3), place)
    for _ in range(int(random.integers(0, 6))):
        x, z, w = random.uniform(left, right), random.uniform(1.2, 1.8), random.uniform(0.3, 0.8)
        parts.append(
            box(
                (x - w / 2, x + w / 2),
                (y[1] - 0.02, y[1]),
                (z - 0.25, z + 0.25),
                surfaces.picture(random),
            )
        )
    if random.random() < 0.03:
        parts += person(random, random.uniform(-0.3, 0.3), start + clear + 0.4)
    return parts


def _bright_window(random: Random, x: float, y: float) -> list[Part]:
    w, h, z = random.uniform(0.7, 1.4), random.uniform(0.8, 1.3), random.uniform(0.8, 1.1)
    sky = linear(random.uniform(0.5, 0.62), random.uniform(0, 0.4), 0.95)
    glow = Surface("glow", sky, strength=random.uniform(4, 30))
    frame = surfaces.joinery(random)
    parts = [box((x - w / 2, x + w / 2), (y - 0.01, y), (z, z + h), glow)]
    for at in (-w / 2, 0.0, w / 2):
        parts.append(box((x + at - 0.03, x + at + 0.03), (y - 0.05, y - 0.01), (z, z + h), frame))
    for up in (0.0, h):
        parts.append(
            box((x - w / 2, x + w / 2), (y - 0.05, y - 0.01), (z + up - 0.03, z + up + 0.03), frame)
        )
    if random.random() < 0.5:
        cloth = surfaces.fabric(random)
        for side in (-1, 1):
            parts.append(
                Part("curtain", (x + side * w / 2, y - 0.1, z + h / 2), (0.4, 0.08, h + 0.5), cloth)
            )
    return parts


def _garden(random: Random, opening: Opening) -> list[Part]:
    """Ground, a shining view far away, and something between."""
    start = opening.depth
    drop = (
        random.uniform(0, 6)
        if opening.kind == "window" and random.random() < 0.6
        else random.uniform(0, 0.15)
    )
    far = random.uniform(6, 16) + start
    sky = linear(random.uniform(0.54, 0.62), random.uniform(0.0, 0.5), 0.97)
    low = linear(random.uniform(0.1, 0.35), random.uniform(0.1, 0.6), random.uniform(0.2, 0.6))
    view = Surface(
        "backdrop",
        sky,
        low,
        scale=random.uniform(0.4, 2.5),
        strength=float(np.exp(random.uniform(0.7, 2.8))),
        offset=random.uniform(0, 50),
    )
    parts = [
        box((-25, 25), (start + 0.001, far), (-drop - 0.1, -drop), surfaces.ground(random)),
        box((-30, 30), (far, far + 0.1), (-drop, 14), view),
    ]
    for _ in range(int(random.integers(0, 5))):
        x, y = random.uniform(-4, 4), random.uniform(start + 2.2, far - 0.5)
        if random.random() < 0.5:
            size = random.uniform(0.8, 3.0)
            parts.append(
                Part(
                    "ellipsoid",
                    (x, y, size / 2 - drop),
                    (size, size, size * random.uniform(0.8, 1.6)),
                    surfaces.foliage(random),
                )
            )
        else:
            w = random.uniform(1.0, 4.0)
            parts.append(
                box(
                    (x - w / 2, x + w / 2),
                    (y, y + 1.0),
                    (-drop, random.uniform(0.8, 4.0) - drop),
                    surfaces.facade(random),
                )
            )
    return parts
