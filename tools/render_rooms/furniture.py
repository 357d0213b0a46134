"""Furniture, plants, coats and people, of simple solids."""

from __future__ import annotations

import numpy as np

from tools.render_rooms import surfaces
from tools.render_rooms.parts import Part, box
from tools.render_rooms.surfaces import Surface, linear

Random = np.random.Generator


def furniture(random: Random, x: float, y: float, *, outdoors: bool = False) -> list[Part]:
    """Draw one piece of furniture, or what stands before a house, at a place on the floor."""
    kinds = (
        ["plant", "boxes", "chair", "barrel"]
        if outdoors
        else ["cabinet", "shelf", "table", "chair", "plant", "boxes", "sofa", "radiator"]
    )
    kind = str(random.choice(kinds))
    if kind == "plant":
        return _plant(random, x, y)
    if kind == "shelf":
        return _shelf(random, x, y)
    if kind in ("table", "chair"):
        return _table(
            random,
            x,
            y,
            0.45 if kind == "chair" else random.uniform(0.7, 0.8),
            is_chair=kind == "chair",
        )
    surface = surfaces.thing(random)
    if kind == "boxes":
        return low_thing(random, x, y)
    if kind == "barrel":
        return [Part("cylinder", (x, y, 0.45), (0.55, 0.55, 0.9), surface)]
    if kind == "radiator":
        return [
            box(
                (x - 0.5 + i * 0.08, x - 0.44 + i * 0.08),
                (y - 0.04, y + 0.04),
                (0.12, 0.7),
                surface,
            )
            for i in range(10)
        ]
    if kind == "sofa":
        return [
            box((x - 0.5, x + 0.5), (y - 0.35, y + 0.3), (0.05, 0.42), surface),
            box((x - 0.49, x + 0.49), (y + 0.15, y + 0.29), (0.06, 0.85), surface),
        ]
    w, h = (
        random.uniform(0.4, 1.1),
        random.choice([0.8, 0.95, 1.3, 1.95]) * random.uniform(0.9, 1.1),
    )
    parts = [box((x - w / 2, x + w / 2), (y - 0.2, y + 0.2), (0, h), surface)]
    parts.append(
        box(
            (x - 0.006, x + 0.006),
            (y - 0.205, y - 0.19),
            (0.05, h - 0.05),
            Surface("paint", (0.02, 0.02, 0.02)),
        )
    )
    for _ in range(3 if h < 1.5 else 0):
        parts.append(_small(random, x + random.uniform(-w / 2, w / 2), y, h))
    return parts


def low_thing(random: Random, x: float, y: float) -> list[Part]:
    """Draw a box on the floor, perhaps with something on it."""
    w, h = random.uniform(0.25, 0.6), random.uniform(0.15, 0.65)
    parts = [
        Part(
            "box",
            (x, y, h / 2),
            (w, random.uniform(0.2, 0.5), h),
            surfaces.thing(random),
            turn=random.uniform(-40, 40),
        )
    ]
    if random.random() < 0.6:
        parts.append(_small(random, x, y, h))
    return parts


def _small(random: Random, x: float, y: float, z: float) -> Part:
    size = (random.uniform(0.05, 0.25), random.uniform(0.05, 0.2), random.uniform(0.05, 0.4))
    shape = str(random.choice(["box", "cylinder", "ellipsoid"]))
    return Part(
        shape, (x, y, z + size[2] / 2), size, surfaces.thing(random), turn=random.uniform(0, 90)
    )


def _table(random: Random, x: float, y: float, z: float, *, is_chair: bool) -> list[Part]:
    surface = surfaces.thing(random)
    w, d = (0.42, 0.42) if is_chair else (random.uniform(0.6, 1.3), random.uniform(0.4, 0.7))
    parts = [box((x - w / 2, x + w / 2), (y - d / 2, y + d / 2), (z - 0.03, z), surface)]
    for i in (-1, 1):
        for j in (-1, 1):
            parts.append(
                Part(
                    "box",
                    (x + i * (w / 2 - 0.03), y + j * (d / 2 - 0.03), (z - 0.03) / 2),
                    (0.04, 0.04, z - 0.03),
                    surface,
                )
            )
    if is_chair:
        parts.append(box((x - w / 2, x + w / 2), (y + d / 2 - 0.03, y + d / 2), (z, 0.92), surface))
    else:
        parts += [
            _small(random, x + random.uniform(-w / 2, w / 2), y, z)
            for _ in range(int(random.integers(0, 5)))
        ]
    return parts


def _shelf(random: Random, x: float, y: float) -> list[Part]:
    surface = surfaces.thing(random)
    w, h = random.uniform(0.5, 1.0), random.uniform(1.2, 2.0)
    parts = [box((x - w / 2, x + w / 2), (y + 0.13, y + 0.15), (0, h), surface)]
    parts += [
        box((x + s * w / 2 - 0.01, x + s * w / 2 + 0.01), (y - 0.15, y + 0.15), (0, h), surface)
        for s in (-1, 1)
    ]
    for level in range(int(h / 0.35) + 1):
        z = level * 0.35
        parts.append(
            box(
                (x - w / 2 + 0.01, x + w / 2 - 0.01),
                (y - 0.14, y + 0.13),
                (z + 0.001, z + 0.02),
                surface,
            )
        )
        for _ in range(int(random.integers(0, 5))):
            parts.append(_small(random, x + random.uniform(-0.42, 0.42) * w, y, z + 0.02))
    return parts


def _plant(random: Random, x: float, y: float) -> list[Part]:
    pot = Part("cylinder", (x, y, 0.16), (0.3, 0.3, 0.32), surfaces.thing(random))
    leaves = surfaces.foliage(random)
    height = random.uniform(0.5, 1.5)
    blobs = [
        Part(
            "ellipsoid",
            (
                x + random.normal(0, 0.12),
                y + random.normal(0, 0.1),
                0.35 + height * random.uniform(0.1, 1),
            ),
            (0.3, 0.05, 0.12),
            leaves,
            turn=random.uniform(0, 180),
            lean=random.uniform(-50, 50),
        )
        for _ in range(16)
    ]
    return [pot, *blobs]


def coats(random: Random, x: float) -> list[Part]:
    """Draw coats that hang on the opening's wall."""
    count = int(random.integers(1, 4))
    return [
        Part(
            "ellipsoid",
            (x + (i - 1) * 0.14, -0.08, random.uniform(1.2, 1.4)),
            (0.22, 0.16, random.uniform(0.5, 1.0)),
            surfaces.fabric(random),
            turn=random.uniform(-20, 20),
        )
        for i in range(count)
    ]


def person(random: Random, x: float, y: float) -> list[Part]:
    """Draw somebody who stands there."""
    skin = Surface(
        "paint", linear(0.06, random.uniform(0.25, 0.6), random.uniform(0.3, 0.9)), roughness=0.6
    )
    hair = Surface("paint", linear(0.07, random.uniform(0.1, 0.6), random.uniform(0.05, 0.5)))
    coat, legs = surfaces.fabric(random), surfaces.fabric(random)
    parts = [
        Part("ellipsoid", (x, y, 1.63), (0.16, 0.18, 0.23), skin),
        Part("ellipsoid", (x, y + 0.02, 1.67), (0.17, 0.19, 0.19), hair),
        Part("cylinder", (x, y, 1.5), (0.11, 0.11, 0.1), skin),
        Part("ellipsoid", (x, y, 1.4), (0.42, 0.22, 0.22), coat),
        Part("cylinder", (x, y, 1.13), (0.33, 0.2, 0.56), coat),
    ]
    for side in (-1, 1):
        arm = Part(
            "cylinder",
            (x + side * 0.21, y, 1.15),
            (0.09, 0.1, 0.58),
            coat,
            lean=random.uniform(-25, 25),
        )
        leg = Part(
            "cylinder",
            (x + side * 0.085, y, 0.43),
            (0.15, 0.17, 0.86),
            legs,
            lean=random.uniform(-6, 6),
        )
        parts += [arm, leg]
    return parts
