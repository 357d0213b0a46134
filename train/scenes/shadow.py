"""Light and shadow on wall and floor, as coarse maps that are multiplied onto their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.light import Light
from train.scenes.opening import SLIDING, Opening, Panel, Position
from train.scenes.room import Room

Array = npt.NDArray[Any]

_CELL_M = 0.06


def wall_light(
    light: Light, room: Room, placed: Sequence[Sequence[Panel]], shape: tuple[int, ...]
) -> Array:
    """Return the wall's (h, w, 3) uint8 light map, 128 for a factor of 1.

    Args:
        light: of the picture.
        room: whose wall it is.
        placed: the leaves of each opening.
        shape: (h, w, ...) of the wall's image.
    """
    x, y = _cells(room.left, room.right), _cells(room.height, 0.0)
    grid = np.stack([*np.meshgrid(x, y), np.zeros((len(y), len(x)))], axis=2)
    factors = light.over(grid, np.array([0.0, 0.0, 1.0]))
    shade = np.ones(factors.shape[:2], np.float32)
    if not room.is_outside:
        shade *= _corners(len(y), len(x))
    for corners in _casters(room, placed):
        seen = _thrown(corners, light, 2)
        if seen is not None:
            _darken(shade, (seen[:, [0, 1]] - (room.left, room.height)) * (1, -1) / _CELL_M)
    return _finished(factors, shade, shape)


def floor_light(
    light: Light,
    room: Room,
    positions: Sequence[Position],
    placed: Sequence[Sequence[Panel]],
    shape: tuple[int, ...],
) -> Array:
    """Return the floor's (h, w, 3) uint8 light map, 128 for a factor of 1.

    It holds shadows, and the light that falls in through openings.

    Args:
        light: of the picture.
        room: whose floor it is; row 0 of the map is at the wall.
        positions: of the openings.
        placed: the leaves of each opening.
        shape: (h, w, ...) of the floor's image.
    """
    x, z = _cells(room.left, room.right), _cells(0.0, room.reach)
    plan = np.meshgrid(x, z)
    grid = np.stack([plan[0], np.zeros_like(plan[0]), plan[1]], axis=2)
    factors = light.over(grid, np.array([0.0, 1.0, 0.0]))
    shade = np.ones(factors.shape[:2], np.float32)
    shade[:4] *= np.linspace(0.75, 1.0, 4)[:, None].astype(np.float32)
    for corners in _casters(room, placed):
        seen = _thrown(corners, light, 1)
        if seen is not None:
            _darken(shade, (seen[:, [0, 2]] - (room.left, 0.0)) / _CELL_M)
    if light.is_lit_beyond and not room.is_outside:
        for opening, position in zip(room.openings, positions, strict=True):
            _brighten(factors, light, opening, position, room.left)
    return _finished(factors, shade, shape)


def _cells(start: float, end: float) -> Array:
    count = max(2, round(abs(end - start) / _CELL_M))
    return np.linspace(start, end, count)


def _corners(rows: int, columns: int) -> Array:
    """Return (rows, columns) float32 factors: a wall is darker towards its edges."""
    x = np.minimum(np.arange(columns), np.arange(columns)[::-1]) * _CELL_M
    y = np.minimum(np.arange(rows), np.arange(rows)[::-1]) * _CELL_M
    fade = (1.0 - 0.25 * np.exp(-x / 0.25))[None, :] * (1.0 - 0.2 * np.exp(-y / 0.2))[:, None]
    return fade.astype(np.float32)


def _casters(room: Room, placed: Sequence[Sequence[Panel]]) -> list[Array]:
    boxes = [i.corners() for i in (*room.items, *room.loose) if i.high[2] - i.low[2] > 0.05]
    for opening, leaves in zip(room.openings, placed, strict=True):
        if opening.is_in_front and opening.mechanism not in SLIDING:
            boxes.extend(panel.corners() for panel in leaves if panel.right[2] or panel.down[2])
    return boxes


def _thrown(corners: Array, light: Light, axis: int) -> Array | None:
    """Project (N, 3) corners from the lamp onto the plane where coordinate `axis` is 0."""
    lamp = np.array(light.position)
    if light.look == "overcast" or (corners[:, axis] > lamp[axis] - 0.05).any():
        return None
    share = lamp[axis] / (lamp[axis] - np.maximum(corners[:, axis], 0.0))
    result: Array = lamp + (corners - lamp) * share[:, None]
    return result


def _darken(shade: Array, cells: Array) -> None:
    mask = np.zeros_like(shade)
    hull = cv2.convexHull(np.clip(cells, -5000, 5000).astype(np.float32)).astype(np.int32)
    cv2.fillConvexPoly(mask, hull, 1.0)
    shade *= 1.0 - 0.4 * cv2.blur(mask, (3, 3))


def _brighten(
    factors: Array, light: Light, opening: Opening, position: Position, left: float
) -> None:
    """Lay the light that comes through a glass or open opening onto the floor."""
    if opening.kind == "door" and position.state == "closed" and opening.mechanism != "patio":
        return
    share = 1.0
    if opening.kind == "door" and position.state == "ajar":
        share = 0.12
    x0, x1 = opening.x0, opening.x0 + opening.width * share
    if opening.hinge == "left":
        x0, x1 = opening.x1 - opening.width * share, opening.x1
    # The sun stands behind the wall, mirrored from where the room's own light comes.
    slant, fall = -0.25 * float(np.sign(light.position[0])), 0.9
    patch = []
    for x, y in ((x0, opening.y1), (x1, opening.y1), (x1, opening.y0), (x0, opening.y0)):
        patch.append([(x + slant * y / fall - left) / _CELL_M, y / fall / _CELL_M])
    mask = np.zeros(factors.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, np.array(patch).astype(np.int32), 1.0)
    glow = 0.55 * max(light.beyond)
    factors += (glow * cv2.blur(mask, (3, 3)))[:, :, None] * np.array((0.85, 0.95, 1.0), np.float32)


def _finished(factors: Array, shade: Array, shape: tuple[int, ...]) -> Array:
    levels = np.clip(factors * shade[:, :, None] * 128.0, 0, 255).astype(np.uint8)
    return cv2.resize(levels, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
