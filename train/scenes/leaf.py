"""What a door leaf or a window sash looks like from the front, as an image with glass left open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.texture import Colour, Random, lacquer_colour, plaster, wood, wood_colour

Array = npt.NDArray[Any]
Rect = tuple[int, int, int, int]

PX_PER_M = 220
GLASS = 90  # opacity that marks a pane until the light is known
FROSTED = 200

DOOR_STYLES = (
    "flush", "flush", "panels", "panels", "panels", "half_glazed", "half_glazed", "glazed",
    "louvre", "boards", "slit", "frosted",
)  # fmt: skip
WINDOW_STYLES = ("pane", "pane", "pane", "bars", "bars", "frosted_pane")


@dataclass(frozen=True)
class Leaf:
    """The look of one leaf.

    Attributes:
        image: (h, w, 4) uint8 BGRA. Opacity 255 is solid, `GLASS` and `FROSTED` are panes.
        edge: BGR colour of the narrow sides.
    """

    image: Array
    edge: Colour


def door_leaf(random: Random, width: float, height: float, *, style: str, base: Colour) -> Leaf:
    """Draw the leaf of a door, `width` by `height` metres, in one of `DOOR_STYLES`."""
    image = _sheet(random, width, height, base)
    h, w = image.shape[:2]
    rim = int(random.uniform(0.09, 0.14) * PX_PER_M)
    _STYLES[style](random, image, (rim, rim, w - rim, h - int(rim * random.uniform(1.0, 2.0))))
    if random.random() < 0.12:
        _letter_box(image)
    if random.random() < 0.08:
        _papers(random, image)
    return Leaf(image, _scaled(base, 0.8))


def window_leaf(random: Random, width: float, height: float, *, style: str, base: Colour) -> Leaf:
    """Draw a window sash, `width` by `height` metres, in one of `WINDOW_STYLES`."""
    image = _sheet(random, width, height, base)
    h, w = image.shape[:2]
    rim = max(8, int(random.uniform(0.05, 0.085) * PX_PER_M))
    rect = (rim, rim, w - rim, h - rim)
    _pane(image, rect, FROSTED if style == "frosted_pane" else GLASS)
    if style == "bars":
        _bars(image, rect, int(random.integers(1, 4)), int(random.integers(1, 3)), base)
    return Leaf(image, _scaled(base, 0.8))


def roller_leaf(random: Random, width: float, height: float, base: Colour) -> Leaf:
    """Draw the curtain of a garage door: horizontal slats."""
    image = _sheet(random, width, height, base)
    step = int(random.uniform(0.09, 0.5) * PX_PER_M)
    for y in range(0, image.shape[0], step):
        image[y : y + 2, :, :3] = (image[y : y + 2, :, :3] * 0.6).astype(np.uint8)
        image[y + 2 : y + 5, :, :3] = np.clip(image[y + 2 : y + 5, :, :3] * 1.12, 0, 255)
    return Leaf(image, _scaled(base, 0.75))


def leaf_colour(random: Random) -> Colour:
    """Draw the colour of a leaf: wood or lacquer."""
    return wood_colour(random) if random.random() < 0.4 else lacquer_colour(random)


def glazed(leaf: Leaf, tint: Array, clear: float) -> Array:
    """Return the leaf's (h, w, 4) image with its panes filled.

    Args:
        leaf: the leaf.
        tint: (h', w', 3) uint8 BGR, what the glass mirrors; stretched over the leaf.
        clear: opacity of clear glass, 0 (invisible) to 1.
    """
    image = leaf.image.copy()
    height, width = image.shape[:2]
    is_glass = cv2.inRange(image[:, :, 3], 0.0, 254.0)
    if not is_glass.any():
        return image
    mirrored = cv2.cvtColor(cv2.resize(tint, (width, height)), cv2.COLOR_BGR2BGRA)
    opacity = np.arange(256, dtype=np.uint8)
    opacity[GLASS] = round(255 * clear)
    mirrored[:, :, 3] = cv2.LUT(image[:, :, 3], opacity)
    return cv2.copyTo(mirrored, is_glass, image)


def _sheet(random: Random, width: float, height: float, base: Colour) -> Array:
    size = max(16, round(height * PX_PER_M)), max(12, round(width * PX_PER_M))
    # Lacquer hides the grain; a wood tone is dark red to yellow and shows it.
    is_wood = base[2] > base[1] > base[0] and base[0] < 0.7 * base[2]
    surface = wood if is_wood else plaster
    return cv2.cvtColor(surface(random, size[0], size[1], base), cv2.COLOR_BGR2BGRA)


def _scaled(base: Colour, factor: float) -> Colour:
    return base[0] * factor, base[1] * factor, base[2] * factor


def _tone(image: Array, rect: Rect, factor: float) -> None:
    x0, y0, x1, y1 = rect
    part = image[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1), :3]
    part[:] = np.clip(part * factor, 0, 255).astype(np.uint8)


def _bevel(image: Array, rect: Rect, width: int = 4, is_sunk: bool = True) -> None:
    """Give a rectangle lit and shaded borders, as if sunk into or raised from the leaf."""
    x0, y0, x1, y1 = rect
    dark, light = (0.62, 1.18) if is_sunk else (1.18, 0.62)
    _tone(image, (x0, y0, x1, y0 + width), dark)
    _tone(image, (x0, y0 + width, x0 + width, y1), (dark + 1) / 2)
    _tone(image, (x0, y1 - width, x1, y1), light)
    _tone(image, (x1 - width, y0 + width, x1, y1 - width), (light + 1) / 2)


def _pane(image: Array, rect: Rect, opacity: int) -> None:
    x0, y0, x1, y1 = rect
    if x1 - x0 < 6 or y1 - y0 < 6:
        return
    _bevel(image, (x0 - 3, y0 - 3, x1 + 3, y1 + 3), 3)
    image[y0:y1, x0:x1, 3] = opacity


def _bars(image: Array, rect: Rect, rows: int, columns: int, base: Colour) -> None:
    x0, y0, x1, y1 = rect
    for i in range(1, rows + 1):
        y = y0 + (y1 - y0) * i // (rows + 1)
        image[y - 2 : y + 3, x0:x1] = (*base, 255.0)
    for i in range(1, columns + 1):
        x = x0 + (x1 - x0) * i // (columns + 1)
        image[y0:y1, x - 2 : x + 3] = (*base, 255.0)


def _cells(rect: Rect, rows: list[float], columns: int, gap: int) -> list[Rect]:
    """Divide a rectangle into rows of the given shares and equal columns with gaps between."""
    x0, y0, x1, y1 = rect
    total = sum(rows)
    cells, top = [], float(y0)
    wide = (x1 - x0 - gap * (columns - 1)) / columns
    for share in rows:
        high = (y1 - y0 - gap * (len(rows) - 1)) * share / total
        for c in range(columns):
            left = x0 + c * (wide + gap)
            cells.append((int(left), int(top), int(left + wide), int(top + high)))
        top += high + gap
    return cells


def _panels(random: Random, image: Array, rect: Rect) -> None:
    rows = [[1.0], [1.0, 1.0], [1.6, 1.0], [1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]]
    chosen = rows[int(random.integers(len(rows)))]
    is_narrow = image.shape[1] < 0.6 * PX_PER_M
    for cell in _cells(rect, chosen, 1 if is_narrow else int(random.integers(1, 3)), 22):
        _bevel(image, cell, 5)
        x0, y0, x1, y1 = cell
        if random.random() < 0.7 and x1 - x0 > 50 and y1 - y0 > 50:
            _bevel(image, (x0 + 16, y0 + 16, x1 - 16, y1 - 16), 4, is_sunk=False)


def _half_glazed(random: Random, image: Array, rect: Rect) -> None:
    x0, y0, x1, y1 = rect
    middle = int(y0 + (y1 - y0) * random.uniform(0.35, 0.65))
    opacity = FROSTED if random.random() < 0.25 else GLASS
    _pane(image, (x0, y0, x1, middle), opacity)
    if random.random() < 0.5:
        base = tuple(float(c) for c in image[5, 5, :3])
        _bars(image, (x0, y0, x1, middle), int(random.integers(1, 4)), int(random.integers(0, 3)),
              (base[0], base[1], base[2]))  # fmt: skip
    _bevel(image, (x0, middle + 24, x1, y1), 5)


def _full_glazed(random: Random, image: Array, rect: Rect) -> None:
    _pane(image, rect, GLASS)
    if random.random() < 0.6:
        base = tuple(float(c) for c in image[5, 5, :3])
        _bars(image, rect, int(random.integers(1, 5)), int(random.integers(0, 3)),
              (base[0], base[1], base[2]))  # fmt: skip


def _frosted(random: Random, image: Array, rect: Rect) -> None:
    del random
    _pane(image, rect, FROSTED)


def _louvre(random: Random, image: Array, rect: Rect) -> None:
    step = int(random.integers(9, 18))
    for x0, y0, x1, y1 in _cells(rect, [1.0, 1.0], 1, 22):
        for y in range(y0, y1 - step, step):
            _tone(image, (x0, y, x1, y + 3), 0.55)
            _tone(image, (x0, y + 3, x1, y + 6), 1.12)


def _boards(random: Random, image: Array, rect: Rect) -> None:
    del rect
    h, w = image.shape[:2]
    step = int(random.integers(18, 34))
    for x in range(step, w - 4, step):
        _tone(image, (x, 0, x + 2, h), 0.6)
    if random.random() < 0.5:
        for y in (h // 6, h // 2, 5 * h // 6):
            _bevel(image, (0, y - 12, w, y + 12), 3, is_sunk=False)


def _slit(random: Random, image: Array, rect: Rect) -> None:
    x0, y0, x1, y1 = rect
    left = int(random.uniform(x0, x0 + (x1 - x0) * 0.7))
    _pane(image, (left, y0 + 10, left + 30, int(y0 + (y1 - y0) * random.uniform(0.35, 0.9))), GLASS)


def _flush(random: Random, image: Array, rect: Rect) -> None:
    _, y0, _, y1 = rect
    if random.random() < 0.3:
        for y in np.linspace(y0, y1, int(random.integers(2, 6))).astype(int):
            _tone(image, (0, y, image.shape[1], y + 3), 0.75)


def _letter_box(image: Array) -> None:
    h, w = image.shape[:2]
    y = int(h * 0.58)
    image[y : y + 14, w // 2 - 28 : w // 2 + 28, :3] = (70, 90, 100)
    _bevel(image, (w // 2 - 28, y, w // 2 + 28, y + 14), 2, is_sunk=False)


def _papers(random: Random, image: Array) -> None:
    h, w = image.shape[:2]
    for _ in range(int(random.integers(1, 4))):
        x, y = int(random.integers(5, max(6, w - 60))), int(random.integers(h // 6, h // 2))
        image[y : y + 62, x : x + 44] = (235, 238, 240, 255)
        for row in range(y + 8, y + 54, 7):
            _tone(image, (x + 5, row, x + 38, row + 2), 0.6)


_STYLES: dict[str, Callable[[Random, Array, Rect], None]] = {
    "flush": _flush,
    "panels": _panels,
    "half_glazed": _half_glazed,
    "glazed": _full_glazed,
    "frosted": _frosted,
    "louvre": _louvre,
    "boards": _boards,
    "slit": _slit,
}
