"""Surfaces of walls, floors and furniture as images, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Colour = tuple[float, float, float]
Random = np.random.Generator

PX_PER_M = 150


def colour(
    random: Random,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Colour:
    """Draw a BGR colour of 0 to 255 from ranges of hue (degrees), saturation and value (0 to 1)."""
    h = random.uniform(*hue) % 360.0
    pixel = np.array([[[h, random.uniform(*saturation), random.uniform(*value)]]], np.float32)
    b, g, r = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0] * 255.0
    return float(b), float(g), float(r)


def paint_colour(random: Random) -> Colour:
    """Draw what walls are painted with: mostly whites and pale tones, now and then a strong one."""
    choice = random.random()
    if choice < 0.55:
        return colour(random, (20, 60), (0.0, 0.12), (0.75, 0.97))
    if choice < 0.86:
        return colour(random, (0, 360), (0.08, 0.35), (0.6, 0.92))
    return colour(random, (0, 360), (0.3, 0.75), (0.25, 0.75))


def wood_colour(random: Random) -> Colour:
    """Draw a wood tone from pale birch to dark walnut."""
    return colour(random, (14, 36), (0.3, 0.75), (0.2, 0.85))


def lacquer_colour(random: Random) -> Colour:
    """Draw a colour of doors and frames: white and grey often, else anything."""
    choice = random.random()
    if choice < 0.45:
        return colour(random, (20, 60), (0.0, 0.1), (0.8, 0.98))
    if choice < 0.6:
        return colour(random, (0, 360), (0.0, 0.15), (0.15, 0.6))
    return colour(random, (0, 360), (0.25, 0.8), (0.2, 0.75))


def cloud(random: Random, height: int, width: int, cells: tuple[int, int]) -> Array:
    """Return (height, width) float32 noise of about unit deviation with `cells` (rows, columns)."""
    small = random.standard_normal((max(2, cells[0]), max(2, cells[1])), dtype=np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _finish(base: Colour | Array, relief: Array) -> Array:
    """Multiply a BGR base with 1 + relief and return it as uint8."""
    tone = np.asarray(base, np.float32) * (1.0 + relief[:, :, None])
    return np.clip(tone, 0, 255).astype(np.uint8)


def plaster(random: Random, height: int, width: int, base: Colour) -> Array:
    """Painted plaster: faint clouds and grain."""
    rough = random.uniform(0.005, 0.04)
    relief = 0.025 * cloud(random, height, width, (6, 10))
    relief += rough * cloud(random, height, width, (height // 3, width // 3))
    return _finish(base, relief)


def grid(
    random: Random,
    height: int,
    width: int,
    base: Colour,
    *,
    cell: tuple[int, int],
    stagger: float,
    joint: int,
    joint_tone: float,
    spread: float,
) -> Array:
    """Bricks, tiles, slabs or planks: cells of (height, width) pixels with joints between them."""
    rows = np.arange(height) // cell[0]
    offsets = (np.arange(rows[-1] + 1) * stagger * cell[1]).astype(int) % cell[1]
    if stagger == 1.0:
        offsets = random.integers(0, cell[1], rows[-1] + 1)
    columns = np.arange(width)[None, :] + offsets[rows][:, None]
    tones = 1.0 + spread * random.standard_normal((rows[-1] + 1, width // cell[1] + 3))
    relief = tones[rows[:, None], columns // cell[1]].astype(np.float32) - 1.0
    is_joint = ((np.arange(height) % cell[0]) < joint)[:, None] | (columns % cell[1] < joint)
    relief += 0.04 * cloud(random, height, width, (height // 3, width // 3))
    relief[is_joint] = joint_tone - 1.0
    return _finish(base, relief)


def brick(random: Random, height: int, width: int, base: Colour) -> Array:
    """Brickwork, with the base colour of plaster kept only as whitewash in one case of four."""
    tone = base if random.random() < 0.25 else colour(random, (4, 28), (0.3, 0.65), (0.35, 0.7))
    return grid(
        random, height, width, tone, cell=(11, 34), stagger=0.5, joint=2,
        joint_tone=random.choice([0.6, 1.35]), spread=0.12,
    )  # fmt: skip


def tiles(random: Random, height: int, width: int, base: Colour) -> Array:
    """Square or metro tiles."""
    side = int(random.integers(15, 60))
    wide = side * int(random.integers(1, 3))
    return grid(
        random, height, width, base, cell=(side, wide), stagger=float(random.choice([0.0, 0.5])),
        joint=2 if side > 20 else 1, joint_tone=random.uniform(0.7, 1.1), spread=0.03,
    )  # fmt: skip


def planks(random: Random, height: int, width: int, base: Colour) -> Array:
    """Floor boards or cladding, running along x."""
    board = int(random.integers(12, 30))
    image = grid(
        random, height, width, base, cell=(board, int(random.integers(120, 260))), stagger=1.0,
        joint=1, joint_tone=0.55, spread=0.1,
    )  # fmt: skip
    grain = 0.06 * cloud(random, height, width, (height // 2, width // 40))
    return np.clip(image * (1.0 + grain[:, :, None]), 0, 255).astype(np.uint8)


def siding(random: Random, height: int, width: int, base: Colour) -> Array:
    """Overlapping weatherboards: each darkens towards its lower edge."""
    board = int(random.integers(16, 32))
    ramp = 0.06 - 0.1 * (np.arange(height) % board) / board
    ramp[np.arange(height) % board == board - 1] = -0.4
    relief = np.repeat(ramp[:, None], width, axis=1).astype(np.float32)
    relief += 0.02 * cloud(random, height, width, (height // 4, width // 20))
    return _finish(base, relief)


def wallpaper(random: Random, height: int, width: int, base: Colour) -> Array:
    """Stripes, or a motif that repeats."""
    x = np.arange(width)
    y = np.arange(height)[:, None]
    period = float(random.integers(14, 50))
    strength = random.uniform(0.04, 0.2)
    if random.random() < 0.5:
        wave = np.repeat(np.sign(np.sin(2 * np.pi * x / period))[None, :], height, axis=0)
    else:
        wave = np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period)
        wave = wave + 0.6 * np.cos(4 * np.pi * x / period + 2 * np.cos(2 * np.pi * y / period))
    return _finish(base, (strength * wave).astype(np.float32))


def carpet(random: Random, height: int, width: int, base: Colour) -> Array:
    """Carpet, lino or screed: clouds and fine grain."""
    relief = 0.05 * cloud(random, height, width, (8, 8))
    relief += 0.08 * cloud(random, height, width, (height // 2, width // 2))
    return _finish(base, relief)


def grass(random: Random, height: int, width: int, base: Colour) -> Array:
    """Lawn or gravel: strong grain on a green or grey base."""
    del base
    tone = colour(random, (60, 110), (0.35, 0.7), (0.3, 0.6))
    if random.random() < 0.3:
        tone = colour(random, (20, 50), (0.05, 0.25), (0.4, 0.7))
    relief = 0.15 * cloud(random, height, width, (10, 14))
    relief += 0.2 * cloud(random, height, width, (height // 3, width // 3))
    return _finish(tone, relief)


def slabs(random: Random, height: int, width: int, base: Colour) -> Array:
    """Paving."""
    del base
    return grid(
        random, height, width, colour(random, (15, 60), (0.02, 0.25), (0.4, 0.75)),
        cell=(int(random.integers(30, 70)), int(random.integers(30, 90))), stagger=0.5, joint=2,
        joint_tone=0.6, spread=0.06,
    )  # fmt: skip


Surface = Callable[[Random, int, int, Colour], Array]

INSIDE_WALLS: tuple[Surface, ...] = (
    plaster,
    plaster,
    plaster,
    plaster,
    wallpaper,
    wallpaper,
    tiles,
    brick,
    siding,
)
OUTSIDE_WALLS: tuple[Surface, ...] = (plaster, plaster, brick, brick, siding, planks)
INSIDE_FLOORS: tuple[Surface, ...] = (planks, planks, tiles, carpet, carpet)
OUTSIDE_FLOORS: tuple[Surface, ...] = (grass, slabs, slabs, carpet)


def wood(random: Random, height: int, width: int, base: Colour) -> Array:
    """A sheet of wood with the grain running upwards."""
    grain = cloud(random, height, width, (height // 60, width // 2))
    relief = 0.08 * grain + 0.05 * cloud(random, height, width, (4, 6))
    return _finish(base, relief)


def folds(random: Random, height: int, width: int, base: Colour) -> Array:
    """Cloth hanging in folds."""
    x = np.arange(width) / max(width, 1)
    waves = 0.22 * np.sin(2 * np.pi * x * random.uniform(5, 10) + random.uniform(0, 6))
    waves += 0.12 * np.sin(2 * np.pi * x * random.uniform(11, 19))
    relief = np.repeat(waves[None, :], height, axis=0).astype(np.float32)
    if random.random() < 0.3:
        period = height / random.uniform(6, 20)
        relief += 0.12 * np.sign(np.sin(2 * np.pi * np.arange(height) / period))[:, None]
    return _finish(base, relief - 0.05)


def foliage(random: Random, height: int, width: int, base: Colour) -> Array:
    """Leaves in light and shade."""
    relief = 0.22 * cloud(random, height, width, (height // 12, width // 12))
    relief += 0.25 * cloud(random, height, width, (height // 3, width // 3))
    return _finish(base, relief)
