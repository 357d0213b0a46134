"""Painting a whole scene: the room, its openings in their positions, people."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.backdrop import paint_backdrop
from train.scenes.camera import Camera
from train.scenes.hardware import paint_hardware, paint_panel
from train.scenes.item import draw_item, under
from train.scenes.light import Light, dimmed, lit
from train.scenes.opening import SLIDING, Opening, Panel, Position, panels
from train.scenes.paint import Canvas, rectangle
from train.scenes.people import Person, paint_person
from train.scenes.room import Curtain, Room
from train.scenes.shadow import floor_light, wall_light
from train.scenes.texture import Colour

Array = npt.NDArray[Any]

_FACING = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Scene:
    """One moment in a room.

    Attributes:
        room: what stays the same.
        positions: how far each opening is open.
        light: what lights it.
        people: who is there.
        glass: (h, w, 3) uint8 BGR that panes mirror.
        clear: opacity of clear glass, 0 to 1.
    """

    room: Room
    positions: tuple[Position, ...]
    light: Light
    people: tuple[Person, ...]
    glass: Array
    clear: float


def paint_scene(
    scene: Scene, camera: Camera, *, scale: float = 1.6, only: Array | None = None
) -> Array:
    """Paint the clean picture of a scene.

    Args:
        scene: what there is.
        camera: from where it is seen.
        scale: how many times larger it is drawn before it is shrunk to the camera's size.
        only: (N, 3) polygon in metres; what is outside its bounding box is left unpainted.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = Canvas(camera, scale)
    with contextlib.nullcontext() if only is None else canvas.within(only):
        _paint(canvas, scene)
    if scale == 1.0:
        return canvas.pixels
    return cv2.resize(canvas.pixels, camera.size, interpolation=cv2.INTER_AREA)


def _paint(canvas: Canvas, scene: Scene) -> None:
    room = scene.room
    canvas.clear(scene.light.sky if room.is_outside else lit(room.side, scene.light.ambient))
    placed = [panels(o, p) for o, p in zip(room.openings, scene.positions, strict=True)]
    for i, opening in enumerate(room.openings):
        with canvas.within(opening.hole):
            _paint_inside(canvas, scene, i, placed[i])
    _paint_shell(canvas, scene, placed)
    _paint_front(canvas, scene, placed)


def _paint_inside(canvas: Canvas, scene: Scene, index: int, leaves: Sequence[Panel]) -> None:
    """Paint what is seen through an opening, and leaves behind the wall's face."""
    room, light = scene.room, scene.light
    opening, curtain = room.openings[index], room.curtains[index]
    paint_backdrop(canvas, light, opening, room.backdrops[index])
    if curtain is not None and room.is_outside:
        _paint_curtain(canvas, light.beyond, opening, curtain, -opening.depth - 0.12)
    seat = opening.leaf_z if opening.is_towards or opening.mechanism in SLIDING else -opening.depth
    _paint_reveal(canvas, light, opening, -opening.depth, min(seat, 0.0))
    if not opening.is_in_front:
        for panel in leaves:
            paint_panel(canvas, light, opening, panel, scene.glass, scene.clear)
            paint_hardware(canvas, light, opening, panel, scene.positions[index])
    _paint_reveal(canvas, light, opening, min(seat, 0.0), 0.0)


def _paint_reveal(canvas: Canvas, light: Light, opening: Opening, far: float, near: float) -> None:
    """Paint the four faces of the hole in the wall between two depths."""
    if near - far < 1e-3:
        return
    x0, x1, y0, y1 = opening.x0, opening.x1, opening.y0, opening.y1
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2, far])
    eye = canvas.eye
    faces = [
        (eye[0] > x0, [[x0, y1, far], [x0, y1, near], [x0, y0, near], [x0, y0, far]], (1, 0, 0)),
        (eye[0] < x1, [[x1, y1, near], [x1, y1, far], [x1, y0, far], [x1, y0, near]], (-1, 0, 0)),
        (eye[1] < y1, [[x0, y1, far], [x1, y1, far], [x1, y1, near], [x0, y1, near]], (0, -1, 0)),
        (eye[1] > y0, [[x0, y0, far], [x1, y0, far], [x1, y0, near], [x0, y0, near]], (0, 1, 0)),
    ]
    for is_seen, corners, normal in faces:
        if is_seen:
            bright = light.at(middle, np.array(normal, float))
            shade = 1.0 if normal[1] > 0 else 0.78
            tone = lit(opening.casing_colour, bright)
            canvas.fill(np.array(corners), dimmed(tone, shade))


def _paint_shell(canvas: Canvas, scene: Scene, placed: Sequence[Sequence[Panel]]) -> None:
    """Paint sky or ceiling, floor, side walls, and the wall around its openings."""
    room, light = scene.room, scene.light
    left, right, high, reach = room.left, room.right, room.height, room.reach
    wide = np.array([right - left, 0.0, 0.0])
    wall = cv2.multiply(
        room.wall, wall_light(scene.light, room, placed, room.wall.shape), scale=1 / 128
    )
    canvas.texture(
        wall,
        np.array([left, high, 0.0]),
        wide,
        np.array([0.0, -high, 0.0]),
        holes=[o.hole for o in room.openings],
    )
    floor_map = floor_light(light, room, scene.positions, placed, room.floor.shape)
    floor = cv2.multiply(room.floor, floor_map, scale=1 / 128)
    canvas.texture(floor, np.array([left, 0.0, 0.0]), wide, np.array([0.0, 0.0, reach]))
    if room.is_outside:
        roof = rectangle(left, high - 0.12, right, high + 0.1, 0.35)
        canvas.fill(roof, lit((60, 65, 75), light.at(roof[0], _FACING)))
        return
    _paint_strips(canvas, light, room)


def _paint_strips(canvas: Canvas, light: Light, room: Room) -> None:
    """Paint side walls and ceiling in strips, so that their brightness follows the lamp."""
    steps = np.linspace(0.0, room.reach, 7)
    for near, far in zip(steps[1:], steps[:-1], strict=True):
        for x, normal in ((room.left, 1.0), (room.right, -1.0)):
            wall = np.array(
                [[x, room.height, far], [x, room.height, near], [x, 0, near], [x, 0, far]]
            )
            bright = light.at(wall.mean(axis=0), np.array([normal, 0.0, 0.0]))
            canvas.fill(wall, lit(room.side, dimmed(bright, 0.92)))
        top = np.array(
            [
                [room.left, room.height, far],
                [room.right, room.height, far],
                [room.right, room.height, near],
                [room.left, room.height, near],
            ]
        )
        bright = light.at(top.mean(axis=0), np.array([0.0, -1.0, 0.0]))
        canvas.fill(top, lit(room.ceiling, dimmed(bright, 0.95)))


def _paint_front(canvas: Canvas, scene: Scene, placed: Sequence[Sequence[Panel]]) -> None:
    """Paint everything before the wall, far things first."""
    room, light = scene.room, scene.light
    if room.skirting and not room.is_outside:
        _paint_skirting(canvas, light, room)
    for opening in room.openings:
        _paint_casing(canvas, light, opening)
    tasks: list[tuple[float, Callable[[], None]]] = []
    for item in (*room.items, *room.loose):
        tasks.append((_distance(canvas, item.corners()), _late(draw_item, canvas, light, item)))
    for opening, position, leaves, curtain in zip(
        room.openings, scene.positions, placed, room.curtains, strict=True
    ):
        if opening.is_in_front:
            for panel in leaves:
                far = _distance(canvas, panel.corners())
                tasks.append(
                    (
                        far,
                        _late(paint_panel, canvas, light, opening, panel, scene.glass, scene.clear),
                    )
                )
                tasks.append(
                    (far - 1e-6, _late(paint_hardware, canvas, light, opening, panel, position))
                )
        if curtain is not None and not room.is_outside:
            bright = light.at(opening.hole.mean(axis=0), _FACING)
            cloth = _late(
                _paint_curtain,
                canvas,
                bright,
                opening,
                curtain,
                0.05 if not opening.is_in_front else -0.0,
            )
            # Before the leaf: cloth hangs to the side of a leaf that swings into the room.
            tasks.append((float("inf") if opening.is_in_front else 1e3, cloth))
    for person in scene.people:
        spot = np.array([[person.x, 1.0, person.z]])
        tasks.append((_distance(canvas, spot), _late(paint_person, canvas, light, person)))
    for _, task in sorted(tasks, key=lambda pair: -pair[0]):
        task()


def _late(function: Callable[..., None], *values: Any) -> Callable[[], None]:
    return lambda: function(*values)


def _distance(canvas: Canvas, corners: Array) -> float:
    return float(np.linalg.norm(corners.mean(axis=0) - canvas.eye))


def _paint_skirting(canvas: Canvas, light: Light, room: Room) -> None:
    edges = [
        room.left,
        *sorted(
            x for o in room.openings if o.kind == "door" for x in (o.frame[0, 0], o.frame[1, 0])
        ),
        room.right,
    ]
    for x0, x1 in zip(edges[::2], edges[1::2], strict=True):
        bright = light.at(np.array([(x0 + x1) / 2, 0.05, 0.02]), _FACING)
        canvas.fill(rectangle(x0, 0.0, x1, room.skirting, 0.012), lit(room.skirting_colour, bright))
        canvas.fill(
            rectangle(x0, room.skirting - 0.012, x1, room.skirting, 0.013),
            lit(room.skirting_colour, dimmed(bright, 0.75)),
        )


def _paint_casing(canvas: Canvas, light: Light, opening: Opening) -> None:
    """Paint the frame around an opening, standing a little off the wall, with a sill at windows."""
    outer = opening.frame
    x0, y1, x1, y0 = outer[0, 0], outer[0, 1], outer[1, 0], outer[2, 1]
    proud = 0.018
    bright = light.at(outer.mean(axis=0), _FACING)
    tone = lit(opening.casing_colour, bright)
    dark = dimmed(tone, 0.6)
    rects = [(x0, y0, opening.x0, y1), (opening.x1, y0, x1, y1), (x0, opening.y1, x1, y1)]
    if opening.kind == "window":
        rects.append((x0, y0, x1, opening.y0))
    for left, low, right, high in rects:
        canvas.fill(rectangle(left, low, right, high, 0.0), dark)
        canvas.fill(rectangle(left, low, right, high, proud), tone)
    shade = dimmed(tone, 0.8)
    x0_in, x1_in, top = opening.x0, opening.x1, opening.y1
    canvas.fill(rectangle(x0_in - 0.01, y0, x0_in, top, proud), shade)
    canvas.fill(rectangle(x1_in, y0, x1_in + 0.01, top, proud), shade)
    canvas.fill(rectangle(x0_in, top, x1_in, top + 0.01, proud), shade)
    if opening.kind == "window":
        low = opening.y0 - opening.casing
        board = np.array(
            [
                [x0 - 0.04, low, 0.0],
                [x1 + 0.04, low, 0.0],
                [x1 + 0.04, low, 0.14],
                [x0 - 0.04, low, 0.14],
            ]
        )
        canvas.fill(
            board,
            lit(opening.casing_colour, dimmed(bright, 1.05)),
        )
        canvas.fill(rectangle(x0 - 0.04, low - 0.03, x1 + 0.04, low, 0.14), shade)
    if opening.mechanism == "barn":
        span = opening.width * 1.05
        canvas.fill(
            rectangle(
                opening.x0 - span, opening.y1 + 0.06, opening.x1 + span, opening.y1 + 0.1, 0.08
            ),
            lit(opening.metal, bright),
        )


def _paint_curtain(
    canvas: Canvas, bright: Colour, opening: Opening, curtain: Curtain, z: float
) -> None:
    """Paint cloth at both sides of a window, and a blind from above."""
    image = under(curtain.image, bright)
    x0, x1 = opening.frame[0, 0], opening.frame[1, 0]
    top, low = opening.y1 + 0.12, opening.y0 - 0.15
    down = np.array([0.0, low - top, 0.0])
    if curtain.blind > 0 and z <= 0:
        edge = opening.y1 - curtain.blind * opening.height
        canvas.fill(
            rectangle(opening.x0, edge, opening.x1, opening.y1, z),
            lit(curtain.blind_colour, bright),
        )
    for start, share in (
        (x0 - 0.2, curtain.left),
        (x1 + 0.2 - 0.25 - curtain.right * opening.width, curtain.right),
    ):
        wide = 0.25 + share * opening.width
        canvas.texture(image, np.array([start, top, z]), np.array([wide, 0.0, 0.0]), down)
