"""A scene: one door or window with everything around it, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.render_rooms.beyond import BEYONDS
from tools.render_rooms.lights import Ambient, Light, draw_lights
from tools.render_rooms.opening import Opening, Position, draw_opening, draw_positions
from tools.render_rooms.parts import Part
from tools.render_rooms.photograph import Look, draw_look
from tools.render_rooms.surroundings import draw_parts, draw_room
from tools.render_rooms.view import View, draw_view


@dataclass(frozen=True)
class Scene:
    """All that is rendered. Its positions are what differs between its pictures.

    Attributes:
        name: the group that its pictures share.
        opening: the door or window.
        positions: of its leaves, one a picture.
        parts: all that stands still, but the opening's frame.
        lights: and `ambient`, what lights it.
        ambient: light from everywhere.
        view: the camera.
        look: what lens and sensor make of it.
        beyond: what is behind the opening, one of `beyond.BEYONDS`.
    """

    name: str
    opening: Opening
    positions: tuple[Position, ...]
    parts: tuple[Part, ...]
    lights: tuple[Light, ...]
    ambient: Ambient
    view: View
    look: Look
    beyond: str


def draw_scene(seed: int, number: int, *, pixels: int, windows: float) -> Scene:
    """Draw scene `number`; the same numbers give the same scene.

    Args:
        seed: of all scenes.
        number: of this one.
        pixels: the longer side of its pictures.
        windows: share of scenes with a window instead of a door, 0 to 1.
    """
    random = np.random.default_rng((seed, number))
    room = draw_room(random)
    is_window = bool(random.random() < windows)
    opening = draw_opening(
        random, is_window=is_window, wall=room.wall, sides=(room.left, room.right)
    )
    positions = draw_positions(random, opening)
    view, shown = draw_view(random, room, opening, positions, pixels)
    look = draw_look(random, is_outdoors=room.is_outdoors)
    beyond = _draw_beyond(random, is_outdoors=room.is_outdoors, is_window=is_window)
    lights, ambient = draw_lights(random, room, opening, beyond, view.eye, look.is_infrared)
    parts = draw_parts(random, room, opening, beyond)
    return Scene(
        f"room-{seed}-{number:05d}", opening, tuple(shown), tuple(parts), tuple(lights), ambient,
        view, look, beyond,
    )  # fmt: skip


def _draw_beyond(random: np.random.Generator, *, is_outdoors: bool, is_window: bool) -> str:
    if is_outdoors:
        shares = [0.2, 0.3, 0.4, 0.1, 0.0]
    elif is_window:
        shares = [0.05, 0.03, 0.07, 0.0, 0.85]
    else:
        shares = [0.36, 0.2, 0.1, 0.18, 0.16]
    return str(random.choice(BEYONDS, p=shares))
