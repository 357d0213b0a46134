"""What is seen through an opening: another room, or the outdoors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.furniture import plant
from train.scenes.item import Item, under
from train.scenes.light import Light, dimmed, lit
from train.scenes.opening import Opening
from train.scenes.paint import Canvas, rectangle
from train.scenes.texture import (
    INSIDE_FLOORS,
    Colour,
    Random,
    cloud,
    colour,
    foliage,
    grass,
    lacquer_colour,
    paint_colour,
    slabs,
    wood_colour,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Backdrop:
    """The world behind one opening.

    Attributes:
        is_outdoors: whether it is a view of the outdoors; else a room.
        floor: (h, w, 3) uint8 of the ground.
        panorama: (h, w, 3) uint8, the far view or the room's back wall.
        side: BGR of the room's side walls.
        ceiling: BGR.
        left: x in metres of the room's left wall.
        right: x of its right wall.
        far: z in metres (negative) of its back wall or of the far view.
        items: things in it, far ones first.
    """

    is_outdoors: bool
    floor: Array
    panorama: Array
    side: Colour
    ceiling: Colour
    left: float
    right: float
    far: float
    items: tuple[Item, ...]


def draw_backdrop(random: Random, opening: Opening, is_outdoors: bool) -> Backdrop:
    """Draw what lies behind an opening."""
    floors = (grass, grass, slabs) if is_outdoors else INSIDE_FLOORS
    floor = floors[int(random.integers(len(floors)))](random, 320, 320, wood_colour(random))
    middle = opening.x0 + opening.width / 2
    wall = paint_colour(random)
    if is_outdoors:
        trees = [
            _tree(random, middle + random.uniform(-4, 4), random.uniform(-8, -3)) for _ in range(3)
        ]
        trees.sort(key=lambda item: item.low[2])
        return Backdrop(
            True,
            floor,
            _panorama(random),
            wall,
            wall,
            middle - 22,
            middle + 22,
            -14.0,
            tuple(trees),
        )
    is_corridor = random.random() < 0.35
    wide = random.uniform(0.7, 1.1) if is_corridor else random.uniform(1.2, 3.0)
    far = -random.uniform(3.5, 7.0) if is_corridor else -random.uniform(2.0, 4.5)
    left, right = middle - wide * random.uniform(0.6, 1.4), middle + wide * random.uniform(0.8, 1.4)
    items = [_furniture(random, left, right, far) for _ in range(int(random.integers(1, 5)))]
    items.sort(key=lambda item: item.low[2])
    return Backdrop(
        False,
        floor,
        _back_wall(random, wall),
        wall,
        (235.0, 238.0, 240.0),
        left,
        right,
        far,
        tuple(items),
    )


def paint_backdrop(canvas: Canvas, light: Light, opening: Opening, backdrop: Backdrop) -> None:
    """Paint the world behind an opening; the caller restricts the canvas to the opening."""
    if backdrop.is_outdoors:
        _paint_outdoors(canvas, light, opening, backdrop)
    else:
        _paint_room(canvas, light, opening, backdrop)
    for item in backdrop.items:
        _paint_item(canvas, light.beyond, item)


def _paint_outdoors(canvas: Canvas, light: Light, opening: Opening, backdrop: Backdrop) -> None:
    left, right, far = backdrop.left, backdrop.right, backdrop.far
    canvas.fill(
        rectangle(left * 3, -9.0, right * 3 + 1, 40.0, far - 1), lit(light.sky, (1.0, 1.0, 1.0))
    )
    bright = light.beyond
    ground = under(backdrop.floor, bright)
    near = -opening.depth
    for x in np.arange(left, right, 11.0):
        canvas.texture(
            ground,
            np.array([x, 0.0, far]),
            np.array([11.0, 0.0, 0.0]),
            np.array([0.0, 0.0, near - far]),
        )
    canvas.texture(
        under(backdrop.panorama, bright),
        np.array([left, 11.0, far]),
        np.array([right - left, 0.0, 0.0]),
        np.array([0.0, -11.0, 0.0]),
    )


def _paint_room(canvas: Canvas, light: Light, opening: Opening, backdrop: Backdrop) -> None:
    left, right, far, near = backdrop.left, backdrop.right, backdrop.far, -opening.depth
    high, b = 2.6, light.beyond
    dim = dimmed(b, 0.8)
    deep = np.array([0.0, 0.0, near - far])
    canvas.texture(
        under(backdrop.panorama, b),
        np.array([left, high, far]),
        np.array([right - left, 0.0, 0.0]),
        np.array([0.0, -high, 0.0]),
    )
    canvas.texture(
        under(backdrop.floor, b),
        np.array([left, 0.0, far]),
        np.array([right - left, 0.0, 0.0]),
        deep,
    )
    for x in (left, right):
        wall = np.array([[x, high, far], [x, high, near], [x, 0, near], [x, 0, far]])
        canvas.fill(wall, lit(backdrop.side, dim))
    top = np.array([[left, high, far], [right, high, far], [right, high, near], [left, high, near]])
    canvas.fill(top, lit(backdrop.ceiling, dimmed(b, 0.9)))


def _paint_item(canvas: Canvas, bright: Colour, item: Item) -> None:
    (x0, y0, z0), (x1, y1, z1) = item.low, item.high
    dim = dimmed(bright, 0.7)
    if item.front is not None:
        canvas.texture(
            under(item.front, bright),
            np.array([x0, y1, z1]),
            np.array([x1 - x0, 0.0, 0.0]),
            np.array([0.0, y0 - y1, 0.0]),
        )
        return
    for x, is_seen in ((x0, canvas.eye[0] < x0), (x1, canvas.eye[0] > x1)):
        if is_seen:
            canvas.fill(
                np.array([[x, y1, z0], [x, y1, z1], [x, y0, z1], [x, y0, z0]]),
                lit(item.colour, dim),
            )
    if canvas.eye[1] > y1:
        canvas.fill(
            np.array([[x0, y1, z0], [x1, y1, z0], [x1, y1, z1], [x0, y1, z1]]),
            lit(item.colour, bright),
        )
    canvas.fill(item.face(), lit(item.colour, dimmed(bright, 0.9)))


def _furniture(random: Random, left: float, right: float, far: float) -> Item:
    z, x = random.uniform(far + 0.1, -1.0), random.uniform(left, max(left + 0.1, right - 0.5))
    if random.random() < 0.2:
        return plant(random, x, z)
    tone = wood_colour(random) if random.random() < 0.5 else lacquer_colour(random)
    size = random.uniform((0.3, 0.4, 0.3), (1.2, 1.9, 0.7))
    return Item(
        "furniture",
        (x, 0.0, z),
        (min(x + size[0], right), float(size[1]), min(z + size[2], -0.6)),
        tone,
    )


def _tree(random: Random, x: float, z: float) -> Item:
    tone = colour(random, (60, 110), (0.25, 0.6), (0.25, 0.55))
    image = np.dstack([foliage(random, 160, 120, tone), np.zeros((160, 120), np.uint8)])
    cv2.rectangle(image, (56, 90), (64, 159), (40, 60, 80, 255), -1)
    crown = np.zeros((160, 120), np.uint8)
    for _ in range(70):
        spot = (int(60 + random.normal(0, 20)), int(60 + random.normal(0, 24)))
        cv2.circle(crown, spot, int(random.integers(3, 13)), 255.0, -1)
    image[:, :, 3] = np.maximum(image[:, :, 3], crown)
    height = random.uniform(1.0, 5.0)
    return Item("tree", (x, 0.0, z), (x + height * 0.7, height, z + 0.01), tone, image)


def _panorama(random: Random) -> Array:
    """Draw (256, 1024, 3) uint8: sky over trees, hedges, fences and houses; 44 by 11 metres."""
    sky = np.linspace(0.0, 1.0, 256)[:, None, None]
    image = (255, 190, 140) * (1 - sky) + (250, 240, 228) * sky + np.zeros((1, 1024, 1))
    image += 14 * np.maximum(0, cloud(random, 256, 1024, (6, 12)))[:, :, None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    tone = colour(random, (70, 130), (0.2, 0.5), (0.3, 0.55))
    _trees(random, image, tone, 256 - int(random.integers(20, 110)))
    for _ in range(int(random.integers(0, 7))):
        _house(random, image)
    _trees(
        random,
        image,
        colour(random, (75, 115), (0.35, 0.7), (0.2, 0.5)),
        256 - int(random.integers(5, 45)),
    )
    if random.random() < 0.4:
        shade = wood_colour(random)
        for x in range(0, 1024, 9):
            cv2.rectangle(image, (x, 216), (x + 6, 255), shade, -1)
    return image


def _trees(random: Random, image: Array, tone: Colour, height: int) -> None:
    """Draw a line of trees or a hedge whose crowns reach up to row `height`."""
    mask = np.zeros(image.shape[:2], np.uint8)
    rough = 20 * cloud(random, 1, 1024, (2, 30))[0] + 6 * cloud(random, 1, 1024, (2, 160))[0]
    rows = np.arange(256)[:, None]
    mask[rows > (height + rough)[None, :]] = 255
    cv2.copyTo(foliage(random, 256, 1024, tone), mask, image)


def _house(random: Random, image: Array) -> None:
    x, wide, tall = (
        int(random.integers(0, 960)),
        int(random.integers(60, 180)),
        int(random.integers(60, 150)),
    )
    cv2.rectangle(image, (x, 256 - tall), (x + wide, 255), paint_colour(random), -1)
    roof = np.array(
        [[x - 8, 256 - tall], [x + wide + 8, 256 - tall], [x + wide // 2, 256 - tall - 40]]
    )
    cv2.fillConvexPoly(image, roof, colour(random, (0, 30), (0.2, 0.6), (0.25, 0.6)))
    for c in range(x + 10, x + wide - 16, 28):
        for r in range(256 - tall + 12, 240, 40):
            cv2.rectangle(image, (c, r), (c + 13, r + 20), (90, 75, 60), -1)


def _back_wall(random: Random, tone: Colour) -> Array:
    """Draw (192, 256, 3) uint8: a room's far wall, perhaps with a window, a door or pictures."""
    image = np.clip(
        np.array(tone) * (1 + 0.03 * cloud(random, 192, 256, (5, 8)))[:, :, None], 0, 255
    )
    image = image.astype(np.uint8)
    cv2.rectangle(image, (0, 184), (255, 191), lacquer_colour(random), -1)
    for _ in range(int(random.integers(0, 4))):
        x, y = int(random.integers(0, 210)), int(random.integers(30, 90))
        size = (int(random.integers(15, 60)), int(random.integers(15, 60)))
        cv2.rectangle(image, (x, y), (x + size[0], y + size[1]), lacquer_colour(random), -1)
        inner = (
            (255, 245, 235)
            if random.random() < 0.35
            else colour(random, (0, 360), (0.1, 0.7), (0.2, 0.9))
        )
        cv2.rectangle(image, (x + 3, y + 3), (x + size[0] - 3, y + size[1] - 3), inner, -1)
    if random.random() < 0.3:
        x = int(random.integers(10, 180))
        cv2.rectangle(image, (x, 40), (x + 60, 191), lit(wood_colour(random), (0.8, 0.8, 0.8)), -1)
    return image
