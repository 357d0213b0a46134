"""What things are made of: colours and textures by name, drawn from what houses show."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

Random = np.random.Generator
Colour = tuple[float, float, float]

KINDS = (
    "paint", "plaster", "wood", "brick", "tiles", "planks", "pattern", "stone", "fabric", "foliage",
    "metal", "glass", "frosted", "net", "glow", "backdrop",
)  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """A material.

    Attributes:
        kind: one of `KINDS`. `glow` shines by itself, `backdrop` is a view that shines, from
            `other` at the ground to `colour` at the sky.
        colour: linear red, green, blue, 0 to 1.
        other: the second colour of a texture.
        roughness: 0 = mirror, 1 = chalk.
        scale: size of the texture's unit in metres.
        strength: of a `glow` or `backdrop`.
        offset: where in its endless texture, so that no two are alike.
    """

    kind: str
    colour: Colour
    other: Colour = (0.0, 0.0, 0.0)
    roughness: float = 0.6
    scale: float = 0.1
    strength: float = 1.0
    offset: float = 0.0


def linear(hue: float, saturation: float, value: float) -> Colour:
    """Turn a colour as people name it (hue, saturation, value; 0 to 1) into linear light."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return red**2.2, green**2.2, blue**2.2


def wall(random: Random) -> Surface:
    """Draw an indoor wall: mostly pale paint, sometimes colour, paper, tiles, stone."""
    kind = str(random.choice(["paint", "plaster", "pattern", "tiles", "brick", "stone", "planks"],
                             p=[0.55, 0.23, 0.05, 0.06, 0.04, 0.03, 0.04]))  # fmt: skip
    if kind in ("brick", "stone"):
        return masonry(random)
    if kind == "planks":
        return wood(random, kind="planks", scale=random.uniform(0.08, 0.2))
    colour = _pale(random)
    other = _near(random, colour) if kind != "pattern" else _any(random)
    scale = {"tiles": random.uniform(0.1, 0.35), "pattern": random.uniform(0.04, 0.3)}.get(
        kind, 0.2
    )
    rough = random.uniform(0.1, 0.4) if kind == "tiles" else random.uniform(0.5, 0.95)
    return Surface(kind, colour, other, rough, scale, offset=random.uniform(0, 50))


def masonry(random: Random) -> Surface:
    """Draw brick or stone."""
    if random.random() < 0.5:
        brick = linear(
            random.uniform(0.0, 0.08), random.uniform(0.1, 0.6), random.uniform(0.35, 0.85)
        )
        mortar = linear(0.1, random.uniform(0, 0.15), random.uniform(0.4, 0.85))
        return Surface(
            "brick", brick, mortar, 0.9, random.uniform(0.18, 0.28), offset=random.uniform(0, 50)
        )
    stone = linear(random.uniform(0.05, 0.13), random.uniform(0.02, 0.35), random.uniform(0.3, 0.8))
    return Surface(
        "stone",
        stone,
        _near(random, stone),
        0.9,
        random.uniform(0.15, 0.5),
        offset=random.uniform(0, 50),
    )


def facade(random: Random) -> Surface:
    """Draw an outdoor wall."""
    if random.random() < 0.45:
        return masonry(random)
    kind = "planks" if random.random() < 0.2 else "plaster"
    colour = _pale(random)
    return Surface(
        kind,
        colour,
        _near(random, colour),
        0.9,
        random.uniform(0.1, 0.25),
        offset=random.uniform(0, 50),
    )


def floor(random: Random) -> Surface:
    """Draw an indoor floor: parquet, tiles, carpet, concrete."""
    kind = str(
        random.choice(
            ["planks", "tiles", "fabric", "stone", "plaster"], p=[0.42, 0.28, 0.12, 0.06, 0.12]
        )
    )
    if kind == "planks":
        return wood(random, kind="planks", scale=random.uniform(0.07, 0.2))
    colour = linear(random.uniform(0, 1), random.uniform(0, 0.3), random.uniform(0.15, 0.85))
    if kind == "tiles" and random.random() < 0.25:
        colour = linear(
            random.uniform(0.0, 0.06), random.uniform(0.4, 0.7), random.uniform(0.3, 0.6)
        )
    rough = random.uniform(0.12, 0.5) if kind in ("tiles", "stone") else random.uniform(0.5, 0.95)
    return Surface(
        kind,
        colour,
        _near(random, colour),
        rough,
        random.uniform(0.15, 0.6),
        offset=random.uniform(0, 50),
    )


def ground(random: Random) -> Surface:
    """Draw what lies outdoors: paving, asphalt, grass, gravel."""
    if random.random() < 0.3:
        grass = linear(
            random.uniform(0.2, 0.32), random.uniform(0.3, 0.7), random.uniform(0.25, 0.5)
        )
        return Surface(
            "foliage", grass, _near(random, grass), 1.0, 0.08, offset=random.uniform(0, 50)
        )
    grey = linear(random.uniform(0.05, 0.15), random.uniform(0, 0.2), random.uniform(0.2, 0.75))
    kind = str(random.choice(["tiles", "stone", "plaster"]))
    return Surface(
        kind, grey, _near(random, grey), 0.9, random.uniform(0.1, 0.5), offset=random.uniform(0, 50)
    )


def wood(random: Random, *, kind: str = "wood", scale: float = 0.12) -> Surface:
    """Draw wood from birch to nearly black."""
    hue = random.uniform(0.015, 0.105)
    value = float(
        random.choice(
            [random.uniform(0.12, 0.35), random.uniform(0.35, 0.6), random.uniform(0.6, 0.88)]
        )
    )
    saturation = random.uniform(0.35, 0.8) * (1.15 - 0.5 * value)
    dark = linear(hue, saturation * 1.1, value * random.uniform(0.55, 0.9))
    return Surface(
        kind,
        linear(hue, saturation, value),
        dark,
        random.uniform(0.2, 0.6),
        scale,
        offset=random.uniform(0, 50),
    )


def joinery(random: Random, wall_surface: Surface | None = None) -> Surface:
    """Draw what doors, windows and their frames are made of."""
    draw = random.random()
    if draw < 0.38:
        return wood(random)
    if draw < 0.77:
        colour = linear(
            random.uniform(0.08, 0.16), random.uniform(0, 0.12), random.uniform(0.72, 0.97)
        )
    elif draw < 0.86:
        colour = linear(random.uniform(0, 1), random.uniform(0, 0.15), random.uniform(0.12, 0.65))
    elif draw < 0.92 and wall_surface is not None:
        colour = wall_surface.colour
    else:
        colour = _any(random)
    return Surface(
        "paint",
        colour,
        _near(random, colour),
        random.uniform(0.15, 0.7),
        0.3,
        offset=random.uniform(0, 50),
    )


def metal(random: Random) -> Surface:
    """Draw steel, brass or blackened iron."""
    draw = random.random()
    if draw < 0.55:
        colour = linear(0.1, random.uniform(0, 0.05), random.uniform(0.6, 0.9))
    elif draw < 0.8:
        colour = linear(
            random.uniform(0.09, 0.13), random.uniform(0.4, 0.65), random.uniform(0.6, 0.9)
        )
    else:
        colour = linear(0.1, 0.1, random.uniform(0.05, 0.2))
    return Surface("metal", colour, roughness=random.uniform(0.15, 0.5))


def glass(random: Random, *, may_be_frosted: bool = True) -> Surface:
    """Draw clear or, where it may be, frosted glass."""
    tint = linear(random.uniform(0.2, 0.6), random.uniform(0, 0.15), random.uniform(0.85, 1.0))
    if may_be_frosted and random.random() < 0.4:
        return Surface(
            "frosted",
            tint,
            roughness=0.4,
            scale=random.uniform(0.01, 0.05),
            offset=random.uniform(0, 50),
        )
    return Surface("glass", tint, roughness=0.02)


def fabric(random: Random) -> Surface:
    """Draw cloth: of curtains, clothes, beds."""
    colour = _any(random) if random.random() < 0.6 else _pale(random)
    kind = "pattern" if random.random() < 0.25 else "fabric"
    return Surface(
        kind, colour, _any(random), 0.95, random.uniform(0.03, 0.15), offset=random.uniform(0, 50)
    )


def thing(random: Random) -> Surface:
    """Draw the surface of a thing that stands about."""
    if random.random() < 0.35:
        return wood(random)
    colour = _any(random) if random.random() < 0.6 else _pale(random)
    return Surface(
        "paint",
        colour,
        _near(random, colour),
        random.uniform(0.2, 0.9),
        0.2,
        offset=random.uniform(0, 50),
    )


def picture(random: Random) -> Surface:
    """Draw a poster or a painting."""
    return Surface(
        "pattern",
        _any(random),
        _any(random),
        random.uniform(0.2, 0.9),
        random.uniform(0.05, 0.4),
        offset=random.uniform(0, 50),
    )


def foliage(random: Random) -> Surface:
    """Draw leaves."""
    green = linear(random.uniform(0.2, 0.36), random.uniform(0.3, 0.8), random.uniform(0.15, 0.5))
    return Surface(
        "foliage",
        green,
        _near(random, green),
        0.8,
        random.uniform(0.03, 0.12),
        offset=random.uniform(0, 50),
    )


def _pale(random: Random) -> Colour:
    draw = random.random()
    if draw < 0.74:
        return linear(
            random.uniform(0.05, 0.2), random.uniform(0, 0.12), random.uniform(0.75, 0.97)
        )
    if draw < 0.9:
        return linear(random.uniform(0, 1), random.uniform(0.05, 0.25), random.uniform(0.6, 0.95))
    return linear(random.uniform(0, 1), random.uniform(0.1, 0.6), random.uniform(0.3, 0.8))


def _any(random: Random) -> Colour:
    return linear(random.uniform(0, 1), random.uniform(0.1, 0.85), random.uniform(0.12, 0.85))


def _near(random: Random, colour: Colour) -> Colour:
    factor = random.uniform(0.6, 0.95)
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
