"""Where the camera is, and which part of its picture is rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tools.render_rooms.opening import Moving, Opening, Position
from tools.render_rooms.surroundings import Room

Array = npt.NDArray[Any]
Random = np.random.Generator

MIN_CHANGE = 0.04
"""Share of the frame's area that must differ from the shut leaf for a position to be called so."""

AJAR_HIDES = 0.35
"""Share of its place that a leaf must still hide, as seen from the camera, to be called ajar."""
OPEN_HIDES = 0.4
"""And at most may hide to be called open."""


@dataclass(frozen=True)
class View:
    """A camera and the window of its picture that is rendered.

    Attributes:
        eye: (3,) metres.
        axes: (3, 3) columns: right, up and backwards of the camera.
        window: left, right, bottom, top of the rendered part, as tangents of the angle to the axis.
        size: width, height in pixels.
        zone: (4, 2) fractions of the picture, clockwise from the top left.
    """

    eye: tuple[float, float, float]
    axes: Array
    window: tuple[float, float, float, float]
    size: tuple[int, int]
    zone: Array

    def project(self, points: Array) -> Array:
        """Return where (n, 3) points are: (n, 2) fractions of the picture, y downwards."""
        tangents = _tangents(self.eye, self.axes, points)
        left, right, bottom, top = self.window
        return np.stack(
            [(tangents[:, 0] - left) / (right - left), (top - tangents[:, 1]) / (top - bottom)],
            axis=1,
        )


def draw_view(
    random: Random, room: Room, opening: Opening, positions: list[Position], pixels: int
) -> tuple[View, list[Position]]:
    """Draw a view that shows every position, or else as many as could be had, and return both.

    Args:
        random: the scene's.
        room: in which the camera is.
        opening: at which it looks.
        positions: the first is the shut one.
        pixels: the longer side of the picture.
    """
    best: tuple[View, list[Position]] | None = None
    for _ in range(16):
        view = _draw(random, room, opening, pixels)
        if view is None:
            continue
        shown = [p for p in positions if shows_its_state(view, opening, p)]
        if best is None or len(shown) > len(best[1]):
            best = view, shown
        if len(shown) == len(positions):
            break
    if best is None:
        raise RuntimeError(f"no view shows the {opening.mechanism} of this scene")
    return best


def look_beside(random: Random, view: View) -> View:
    """Return a view past the opening, and a zone in it without a door or window."""
    left, right, bottom, top = view.window
    across = right - left
    shift = random.uniform(1.2, 1.7) * across
    sides = sorted((shift, -shift), key=lambda by: abs(left + right + 2 * by))
    by = sides[int(random.random() < 0.2)]  # seldom to where the lens would stretch it more
    low = random.uniform(0.05, 0.3, 2)
    high = random.uniform(0.7, 0.95, 2)
    zone = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return replace(view, window=(left + by, right + by, bottom, top), zone=zone)


def shows_its_state(view: View, opening: Opening, position: Position) -> bool:
    """Whether people who see the picture would call the position what it is called here.

    A leaf at 80° that from here still hides its opening is none that they call open, nor is one
    at 50° that is seen edge on called ajar.
    """
    if position.state == "closed":
        return True
    if shown_change(view, opening, position) < MIN_CHANGE:
        return False
    if opening.leaves[0].motion != "turn":
        return True
    hidden = hidden_share(view, opening.leaves[0], position.amounts[0])
    return hidden >= AJAR_HIDES if position.state == "ajar" else hidden <= OPEN_HIDES


def hidden_share(view: View, leaf: Moving, amount: float) -> float:
    """Return how much of the place that a leaf fills when shut it still hides at `amount`."""
    shut, now = (_mask([view.project(leaf.corners(a))]) for a in (0.0, amount))
    return float((shut & now).sum() / max(shut.sum(), 1))


def shown_change(view: View, opening: Opening, position: Position) -> float:
    """Return the share of the frame's area by which the leaves' outline differs from shut ones."""
    shut = [0.0] * len(opening.leaves)
    masks = [_outline(view, opening, list(a)) for a in (shut, position.amounts)]
    frame = _mask([view.project(opening.frame)])
    seen = (slice(50, 250), slice(50, 250))  # what the picture shows of the masks
    return float((masks[0] != masks[1])[seen].sum() / max(frame.sum(), 1))


def _outline(view: View, opening: Opening, amounts: list[float]) -> Array:
    boxes = [leaf.corners(a) for leaf, a in zip(opening.leaves, amounts, strict=True)]
    seen = [b for b in boxes if (_depth(view, b) > 0.05).all()]
    return _mask([view.project(b) for b in seen])


def _mask(shapes: list[Array]) -> Array:
    mask = np.zeros((300, 300), np.uint8)
    for points in shapes:
        hull = cv2.convexHull(np.round(np.clip(points, -1, 2) * 200 + 50).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 1.0)
    return mask


def _depth(view: View, points: Array) -> Array:
    return np.asarray(-(points - np.array(view.eye)) @ view.axes[:, 2])


def _tangents(eye: tuple[float, float, float], axes: Array, points: Array) -> Array:
    local = (points - np.array(eye)) @ axes
    return np.asarray(local[:, :2] / -local[:, 2:])


def _draw(random: Random, room: Room, opening: Opening, pixels: int) -> View | None:
    eye = _draw_eye(random, room, opening)
    axes = _draw_axes(random, eye, opening)
    frame = opening.frame
    if (-(frame - np.array(eye)) @ axes[:, 2] < 0.3).any():
        return None
    corners = _tangents(eye, axes, frame)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high - low).min() < 0.16 * (high - low).max():
        return None  # seen along the wall
    window = _draw_window(random, low, high)
    across, up = window[1] - window[0], window[3] - window[2]
    scale = pixels / max(across, up)
    size = (max(round(across * scale), 8), max(round(up * scale), 8))
    view = View(eye, axes, window, size, np.zeros((4, 2)))
    zone = _draw_zone(random, view.project(frame))
    return View(eye, axes, window, size, zone)


def _draw_eye(random: Random, room: Room, opening: Opening) -> tuple[float, float, float]:
    """Hand-held, on a robot, or high in a corner as cameras hang."""
    place = random.random()
    is_high = place > 0.72
    azimuth = float(np.clip(random.normal(0, 38 if is_high else 26), -64, 64))
    distance = random.uniform(1.8, 6.0) if opening.kind == "door" else random.uniform(1.2, 4.0)
    height = random.uniform(1.05, 1.75)
    if is_high:
        height = min(random.uniform(2.0, 3.4), 9.0 if room.is_outdoors else room.height - 0.12)
    elif place < 0.1:
        height = random.uniform(0.3, 0.8)
    x = distance * np.sin(np.radians(azimuth)) + random.normal(0, 0.2)
    if not room.is_outdoors:
        x = np.clip(x, room.left + 0.12, room.right - 0.12)
    return float(x), float(-max(distance * np.cos(np.radians(azimuth)), 0.8)), float(height)


def _draw_axes(random: Random, eye: tuple[float, float, float], opening: Opening) -> Array:
    """Look at the opening, more or less, and nearly upright."""
    target = np.array([random.normal(0, 0.3), 0.0, opening.bottom + opening.height / 2])
    forward = target - np.array(eye)
    if eye[2] < 1.9:
        forward[2] *= random.uniform(0.0, 1.2)  # held level rather than tilted
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    roll = np.radians(random.normal(0, 2.0))
    right, up = right * np.cos(roll) + up * np.sin(roll), up * np.cos(roll) - right * np.sin(roll)
    return np.stack([right, up, -forward], axis=1)


def _draw_window(random: Random, low: Array, high: Array) -> tuple[float, float, float, float]:
    """Margins around the frame; sometimes the picture's border cuts a side of it off."""
    across, up = high - low
    margins = [random.uniform(0.14, 0.38) for _ in range(4)]
    if random.random() < 0.2:
        margins[int(random.choice([0, 1, 2], p=[0.25, 0.25, 0.5]))] = -random.uniform(0.0, 0.14)
    left, right, bottom, top = margins
    return (
        float(low[0] - left * across), float(high[0] + right * across),
        float(low[1] - bottom * up), float(high[1] + top * up),
    )  # fmt: skip


def _draw_zone(random: Random, corners: Array) -> Array:
    """The frame's corners or, where they are cut off and every other time, their upright box."""
    span = corners.max(axis=0) - corners.min(axis=0)
    is_cut = bool(((corners < 0) | (corners > 1)).any())
    if not is_cut and random.random() < 0.5:
        return np.asarray(np.clip(corners + random.normal(0, 0.008, (4, 2)) * span, 0, 1))
    edges = (
        np.stack([corners.min(axis=0), corners.max(axis=0)])
        + random.normal(0, 0.012, (2, 2)) * span
    )
    (left, top), (right, bottom) = np.clip(edges, 0, 1)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
