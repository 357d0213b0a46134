"""People as simple jointed figures that face across the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.camera import project
from train.scenes.light import Light, dimmed, lit
from train.scenes.paint import Canvas
from train.scenes.texture import Colour, Random, colour

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Person:
    """Someone in the room.

    Attributes:
        x: metres along the wall.
        z: metres from the wall.
        height: metres.
        phase: of the step, radians.
        facing: -1 to the left, 1 to the right, 0 to the camera.
        skin: BGR, like the colours below.
        hair: BGR.
        top: BGR.
        legs: BGR.
        girth: factor of the body's width, about 1.
    """

    x: float
    z: float
    height: float
    phase: float
    facing: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    girth: float


def draw_person(random: Random, x: float, z: float) -> Person:
    """Draw how someone at x, z (metres) looks."""
    return Person(
        x=x,
        z=z,
        height=random.uniform(1.5, 1.9),
        phase=random.uniform(0, 6.3),
        facing=float(random.choice([-1.0, 0.0, 1.0])),
        skin=colour(random, (12, 30), (0.25, 0.6), (0.25, 0.95)),
        hair=colour(random, (10, 45), (0.1, 0.7), (0.05, 0.6)),
        top=colour(random, (0, 360), (0.0, 0.8), (0.1, 0.9)),
        legs=colour(random, (200, 260), (0.0, 0.6), (0.1, 0.6)),
        girth=random.uniform(0.85, 1.25),
    )


def bounds(person: Person) -> Array:
    """Return the (4, 3) corners in metres of the upright rectangle that a person fills."""
    half = 0.27 * person.girth
    x, z, h = person.x, person.z, person.height
    return np.array([[x - half, h, z], [x + half, h, z], [x + half, 0, z], [x - half, 0, z]])


def paint_person(canvas: Canvas, light: Light, person: Person) -> None:
    """Paint a person: limbs and body as thick rods, head and hair as ellipses."""
    bright = light.at(np.array([person.x, 1.2, person.z]), np.array([0.0, 0.0, 1.0]))
    swing = 0.32 * np.sin(person.phase) * (1.0 if person.facing else 0.2)
    width = (0.2 if person.facing else 0.25) * person.girth
    shaded = dimmed(bright, 0.75)
    side = 0.0 if person.facing else 0.85
    for sign, tone in ((-1.0, shaded), (1.0, bright)):
        hip = (sign * 0.09 * side, 0.5)
        foot = (hip[0] + sign * swing, 0.02)
        _rod(canvas, person, hip, foot, 0.085, lit(person.legs, tone))
        _rod(
            canvas,
            person,
            foot,
            (foot[0] + 0.06 * person.facing, 0.015),
            0.05,
            lit((30, 30, 35), tone),
        )
    _rod(
        canvas,
        person,
        (-0.16 * side - swing * 0.6, 0.5),
        (-0.13 * side, 0.79),
        0.055,
        lit(person.top, shaded),
    )
    _body(canvas, person, width, lit(person.top, bright), lit(person.top, shaded))
    hand = (0.16 * side + swing * 0.6, 0.48)
    _rod(
        canvas,
        person,
        (0.13 * side, 0.79),
        hand,
        0.055,
        lit(person.top, tuple_mean(bright, shaded)),
    )
    _disc(canvas, person, hand, 0.025, lit(person.skin, bright))
    _rod(canvas, person, (0.0, 0.82), (0.0, 0.88), 0.06, lit(person.skin, shaded))
    _disc(canvas, person, (0.0, 0.935), 0.066, lit(person.hair, bright))
    _disc(canvas, person, (0.018 * person.facing, 0.918), 0.052, lit(person.skin, bright))


def tuple_mean(a: Colour, b: Colour) -> Colour:
    """Return the colour half way between two."""
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2


def _spot(canvas: Canvas, person: Person, at: tuple[float, float]) -> Array:
    point = np.array([[person.x + at[0] * person.height * 0.6, at[1] * person.height, person.z]])
    result: Array = project(canvas.matrix, point)[0]
    return result


def _pixels(canvas: Canvas, person: Person, share: float) -> float:
    centre = np.array([person.x, 0.5 * person.height, person.z])
    return canvas.pixels_per_metre(centre) * share * person.height


def _rod(
    canvas: Canvas,
    person: Person,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
    tone: Colour,
) -> None:
    a, b = _spot(canvas, person, start), _spot(canvas, person, end)
    thick = max(1, min(255, round(_pixels(canvas, person, width))))
    cv2.line(canvas.pixels, _integers(a), _integers(b), tone, thick, cv2.LINE_8)


def _disc(
    canvas: Canvas, person: Person, at: tuple[float, float], radius: float, tone: Colour
) -> None:
    size = _pixels(canvas, person, radius)
    centre = _integers(_spot(canvas, person, at))
    cv2.ellipse(
        canvas.pixels,
        centre,
        (max(1, round(size * 0.85)), max(1, round(size))),
        0,
        0,
        360,
        tone,
        -1,
    )


def _body(canvas: Canvas, person: Person, width: float, tone: Colour, shaded: Colour) -> None:
    half = width * 0.5
    corners = [
        (-half * 0.9, 0.82),
        (half * 0.9, 0.82),
        (half * 1.1, 0.76),
        (half * 0.9, 0.47),
        (-half * 0.9, 0.47),
        (-half * 1.1, 0.76),
    ]
    seen = np.stack([_spot(canvas, person, c) for c in corners])
    canvas.fill_flat(seen, tone)
    canvas.fill_flat(
        np.stack([seen[0], (seen[0] + seen[1]) / 2, (seen[3] + seen[4]) / 2, seen[4], seen[5]]),
        shaded,
        0.5,
    )


def _integers(point: Array) -> tuple[int, int]:
    clipped = np.clip(point, -20000, 20000)
    return int(clipped[0]), int(clipped[1])
