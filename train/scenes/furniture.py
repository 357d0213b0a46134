"""Furniture and other things that stand or hang at a wall, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.item import Item
from train.scenes.texture import (
    Colour,
    Random,
    cloud,
    colour,
    folds,
    lacquer_colour,
    plaster,
    wood,
    wood_colour,
)

Array = npt.NDArray[Any]

PX_PER_M = 130


def _sheet(random: Random, width: float, height: float, base: Colour) -> Array:
    surface = wood if random.random() < 0.5 else plaster
    return surface(random, max(8, round(height * PX_PER_M)), max(8, round(width * PX_PER_M)), base)


def _box(image: Array, rect: tuple[float, float, float, float], shade: Colour) -> None:
    h, w = image.shape[:2]
    x0, y0, x1, y1 = rect
    cv2.rectangle(image, (round(x0 * w), round(y0 * h)), (round(x1 * w), round(y1 * h)), shade, -1)


def _seams(image: Array, columns: int, rows: int, metal: Colour) -> None:
    """Draw the doors or drawers of a cupboard: dark seams, and a knob each."""
    h, w = image.shape[:2]
    dark = tuple(float(c) * 0.5 for c in image.reshape(-1, image.shape[2]).mean(axis=0))
    for c in range(columns):
        for r in range(rows):
            x0, x1, y0, y1 = (
                w * c // columns,
                w * (c + 1) // columns,
                h * r // rows,
                h * (r + 1) // rows,
            )
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), dark, 1)
            knob = x1 - 9 if c % 2 == 0 else x0 + 9
            if columns == 1 and rows > 1:
                knob = (x0 + x1) // 2
            cv2.circle(image, (knob, (y0 + y1) // 2), 3, metal, -1)


def cupboard(random: Random, x: float) -> Item:
    """A wardrobe or kitchen cupboard with doors."""
    width, height = random.uniform(0.6, 1.5), random.uniform(1.6, 2.15)
    base = wood_colour(random) if random.random() < 0.6 else lacquer_colour(random)
    image = _sheet(random, width, height, base)
    _seams(image, int(random.integers(1, 4)), int(random.choice([1, 1, 2])), (60, 70, 80))
    return Item(
        "cupboard", (x, 0.0, 0.0), (x + width, height, random.uniform(0.3, 0.6)), base, image, True
    )


def chest(random: Random, x: float) -> Item:
    """A chest of drawers or sideboard."""
    width, height = random.uniform(0.6, 1.4), random.uniform(0.5, 1.0)
    base = wood_colour(random) if random.random() < 0.6 else lacquer_colour(random)
    image = _sheet(random, width, height, base)
    _seams(image, int(random.integers(1, 3)), int(random.integers(2, 5)), (190, 190, 190))
    return Item(
        "chest", (x, 0.0, 0.0), (x + width, height, random.uniform(0.3, 0.5)), base, image, True
    )


def fridge(random: Random, x: float) -> Item:
    """A refrigerator with one or two doors."""
    height = random.uniform(1.2, 1.95)
    base = colour(random, (0, 360), (0.0, 0.06), (0.55, 0.97))
    image = _sheet(random, 0.6, height, base)
    h, w = image.shape[:2]
    split = int(h * random.choice([0.3, 0.6, 0.99]))
    image[split : split + 3] = 60
    for top, low in ((0.1, 0.25), (0.66, 0.85)):
        _box(image, (0.06, top, 0.1, low), (150, 150, 150))
    for _ in range(int(random.integers(0, 7))):
        px, py = random.uniform(0.2, 0.8), random.uniform(0.05, 0.5)
        _box(
            image, (px, py, px + 0.1, py + 0.05), colour(random, (0, 360), (0.2, 0.9), (0.4, 0.95))
        )
    del w
    return Item("fridge", (x, 0.0, 0.0), (x + 0.6, height, 0.6), base, image, True)


def shelf(random: Random, x: float) -> Item:
    """Open shelves with books and boxes."""
    width, height = random.uniform(0.6, 1.2), random.uniform(1.2, 2.1)
    base = wood_colour(random)
    image = _sheet(random, width, height, base)
    h, w = image.shape[:2]
    rows = int(random.integers(3, 7))
    for r in range(rows):
        top, low = h * r // rows + 4, h * (r + 1) // rows - 1
        image[top:low, 4 : w - 4] = (image[top:low, 4 : w - 4] * 0.35).astype(np.uint8)
        at = 6
        while at < w - 12:
            wide = int(random.integers(3, 18))
            tall = int((low - top) * random.uniform(0.5, 0.9))
            if random.random() < 0.8:
                shade = colour(random, (0, 360), (0.1, 0.8), (0.2, 0.9))
                cv2.rectangle(image, (at, low - tall), (min(at + wide, w - 6), low), shade, -1)
            at += wide + 1
    return Item("shelf", (x, 0.0, 0.0), (x + width, height, 0.28), base, image, True)


def radiator(random: Random, x: float) -> Item:
    """A ribbed heater on the wall."""
    width, height = random.uniform(0.5, 1.4), random.uniform(0.4, 0.75)
    base = colour(random, (30, 50), (0.0, 0.08), (0.8, 0.97))
    image = _sheet(random, width, height, base)
    step = int(random.integers(6, 12))
    for c in range(0, image.shape[1] - 3, step):
        image[:, c : c + 2] = (image[:, c : c + 2] * 0.68).astype(np.uint8)
    return Item("radiator", (x, 0.12, 0.03), (x + width, 0.12 + height, 0.12), base, image, True)


def painting(random: Random, x: float) -> Item:
    """A picture, poster or mirror in a frame."""
    width, height = random.uniform(0.25, 0.9), random.uniform(0.3, 1.0)
    y = random.uniform(1.2, 1.6) - height * 0.3
    image = np.clip(
        np.stack([128 + 60 * cloud(random, 90, 90, (4, 4)) for _ in range(3)], axis=2)
        + np.array(colour(random, (0, 360), (0.1, 0.8), (0.2, 0.9)))
        - 128,
        0,
        255,
    ).astype(np.uint8)
    for _ in range(int(random.integers(0, 6))):
        centre = (int(random.integers(90)), int(random.integers(90)))
        cv2.circle(
            image,
            centre,
            int(random.integers(4, 28)),
            colour(random, (0, 360), (0.2, 0.9), (0.2, 0.95)),
            -1,
        )
    rim = colour(random, (20, 40), (0.0, 0.6), (0.1, 0.95))
    cv2.rectangle(image, (0, 0), (89, 89), rim, int(random.integers(3, 14)))
    return Item("painting", (x, y, 0.0), (x + width, y + height, 0.025), rim, image, True)


def whiteboard(random: Random, x: float) -> Item:
    """A whiteboard or pin board."""
    width, height = random.uniform(0.8, 1.8), random.uniform(0.7, 1.2)
    image = _sheet(random, width, height, colour(random, (0, 360), (0.0, 0.1), (0.85, 0.98)))
    for _ in range(int(random.integers(2, 9))):
        y, x0 = (
            int(random.integers(8, image.shape[0] - 8)),
            int(random.integers(5, image.shape[1] // 2)),
        )
        end = x0 + int(random.integers(15, image.shape[1] // 2))
        cv2.line(image, (x0, y), (end, y), colour(random, (0, 360), (0.5, 0.9), (0.2, 0.7)), 2)
    cv2.rectangle(image, (0, 0), (image.shape[1] - 1, image.shape[0] - 1), (140, 140, 140), 3)
    return Item(
        "whiteboard", (x, 1.0, 0.0), (x + width, 1.0 + height, 0.02), (150, 150, 150), image, True
    )


def switch(random: Random, x: float) -> Item:
    """A light switch, thermostat or bell."""
    y = random.choice([0.3, 1.1, 1.4])
    tone = colour(random, (30, 50), (0.0, 0.1), (0.8, 0.97))
    return Item(
        "switch", (x, y, 0.0), (x + 0.085, y + 0.085 * random.choice([1, 1, 2]), 0.015), tone
    )


def coats(random: Random, x: float) -> Item:
    """Coats on hooks, as flat cut-outs."""
    image = np.zeros((120, 90, 4), np.uint8)
    for c in range(int(random.integers(2, 4))):
        shade = colour(random, (0, 360), (0.05, 0.5), (0.1, 0.6))
        left, low = 2 + c * 26, int(random.integers(75, 118))
        outline = np.array([[16, 6], [30, 22], [34, low], [0, low], [3, 22]]) + np.array([left, 0])
        shape = np.zeros(image.shape[:2], np.uint8)
        cv2.fillConvexPoly(shape, outline, 255.0)
        cloth = folds(random, 120, 90, shade)
        image[shape > 0] = np.dstack([cloth, shape])[shape > 0]
    return Item("coats", (x, 0.7, 0.0), (x + 0.7, 1.75, 0.1), (60, 60, 60), image)


def plant(random: Random, x: float, z: float = 0.3) -> Item:
    """A plant in a pot, as a flat cut-out."""
    width, height = random.uniform(0.35, 0.8), random.uniform(0.5, 1.5)
    image = np.zeros((160, 100, 4), np.uint8)
    pot = colour(random, (0, 40), (0.1, 0.7), (0.2, 0.9))
    cv2.fillConvexPoly(image, np.array([[30, 125], [70, 125], [64, 159], [36, 159]]), (*pot, 255.0))
    for _ in range(int(random.integers(60, 140))):
        green = colour(random, (70, 120), (0.3, 0.7), (0.12, 0.5))
        tip = (50 + random.normal(0, 20), random.uniform(4, 110))
        axes = (int(random.integers(2, 6)), int(random.integers(7, 22)))
        cv2.ellipse(
            image,
            (int(tip[0]), int(tip[1])),
            axes,
            float(random.uniform(-60, 60)),
            0,
            360,
            (*green, 255.0),
            -1,
        )
    return Item("plant", (x, 0.0, z), (x + width, height, z + 0.003), pot, image)


def cabinet(random: Random, x: float) -> Item:
    """A meter cabinet, bin or letter box before a house."""
    width, height = random.uniform(0.4, 0.8), random.uniform(0.5, 1.2)
    base = colour(random, (0, 360), (0.0, 0.5), (0.2, 0.8))
    image = _sheet(random, width, height, base)
    _seams(image, int(random.integers(1, 3)), 1, (40, 40, 40))
    y = random.choice([0.0, 0.0, 0.6])
    return Item(
        "cabinet",
        (x, y, 0.0),
        (x + width, y + height, random.uniform(0.15, 0.5)),
        base,
        image,
        True,
    )


def bush(random: Random, x: float) -> Item:
    """A bush at the wall."""
    low = plant(random, x, 0.35)
    return Item(
        "bush", (x - 0.3, -0.15, 0.35), (x + 1.0, low.high[1], 0.353), low.colour, low.front
    )


def pipe(random: Random, x: float) -> Item:
    """A drainpipe."""
    tone = colour(random, (0, 360), (0.0, 0.3), (0.3, 0.9))
    return Item("pipe", (x, 0.0, 0.02), (x + 0.1, 6.0, 0.12), tone)


def free_standing(random: Random) -> list[Item]:
    """Draw a table, chair, stool, crate or sofa somewhere in the room, far items first."""
    x, z = random.uniform(-2.2, 2.2), random.uniform(0.7, 2.2)
    tone = wood_colour(random) if random.random() < 0.6 else lacquer_colour(random)
    shape = random.choice(["table", "chair", "crate", "sofa"])
    if shape == "crate":
        side = random.uniform(0.25, 0.5)
        return [Item("crate", (x, 0.0, z), (x + side, side, z + side), tone)]
    if shape == "sofa":
        wide = random.uniform(0.8, 1.8)
        return [
            Item("sofa", (x, 0.0, z), (x + wide, 0.42, z + 0.8), tone),
            Item("sofa", (x, 0.3, z + 0.7), (x + wide, 0.8, z + 0.85), tone),
        ]
    wide, top = (random.uniform(0.7, 1.5), 0.74) if shape == "table" else (0.42, 0.46)
    deep = 0.7 if shape == "table" else 0.42
    legs = [
        Item("leg", (x + a, 0.0, z + b), (x + a + 0.05, top, z + b + 0.05), tone)
        for b in (0.0, deep - 0.05)
        for a in (0.0, wide - 0.05)
    ]
    slab = Item(str(shape), (x, top, z), (x + wide, top + 0.04, z + deep), tone)
    if shape == "table":
        return [*legs, slab]
    return [*legs, slab, Item("chair", (x, top, z + deep - 0.04), (x + wide, 0.95, z + deep), tone)]


INSIDE: tuple[Callable[[Random, float], Item], ...] = (
    cupboard,
    chest,
    fridge,
    shelf,
    radiator,
    plant,
    cupboard,
    chest,
)
FLAT: tuple[Callable[[Random, float], Item], ...] = (painting, painting, whiteboard, switch, coats)
OUTSIDE: tuple[Callable[[Random, float], Item], ...] = (cabinet, bush, pipe, plant, cabinet)
