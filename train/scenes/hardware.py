"""Painting a leaf in its place, with its handle and hinges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.item import under
from train.scenes.leaf import glazed
from train.scenes.light import Light, dimmed, lit
from train.scenes.opening import SLIDING, Opening, Panel, Position
from train.scenes.paint import Canvas
from train.scenes.texture import Colour

Array = npt.NDArray[Any]


def paint_panel(
    canvas: Canvas, light: Light, opening: Opening, panel: Panel, glass: Array, clear: float
) -> None:
    """Paint the faces of a leaf that the camera sees."""
    o, r, d, b = panel.origin, panel.right, panel.down, panel.back
    for start, along, down, outward in (
        (o, b, d, -r),
        (o + r, b, d, r),
        (o, r, b, -d),
        (o + d, r, b, d),
    ):
        if _is_seen(canvas, start + (along + down) / 2, outward):
            corners = np.stack([start, start + along, start + along + down, start + down])
            bright = light.at(corners.mean(axis=0), _unit(outward))
            canvas.fill(corners, lit(panel.leaf.edge, bright))
    image = glazed(panel.leaf, glass, clear)
    is_front = _is_seen(canvas, o, -b)
    at, across = (o, r) if is_front else (o + b + r, -r)
    bright = _face_light(light, opening, panel, is_front)
    canvas.texture(_outlined(under(image, bright)), at, across, d)


def _face_light(light: Light, opening: Opening, panel: Panel, is_front: bool) -> Colour:
    """Return the light on the seen face; a face turned away from the room gets the far side's."""
    outward = _unit(-panel.back if is_front else panel.back)
    middle = panel.origin + (panel.right + panel.down) / 2
    near = light.at(middle, outward)
    if opening.is_in_front or opening.mechanism in SLIDING:
        turned = 0.0
    else:
        turned = min(1.0, max(0.0, 1.0 - float(outward[2]))) * 0.5
    grazing = 0.86 + 0.14 * abs(float(outward[2]))
    far = light.beyond
    mixed = [(n * (1 - turned) + f * turned) * grazing for n, f in zip(near, far, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _outlined(image: Array) -> Array:
    """Darken the rim of a leaf, where it meets the frame."""
    h, w = image.shape[:2]
    cv2.rectangle(image, (0, 0), (w - 1, h - 1), (25, 25, 25, 255), 2)
    return image


def paint_hardware(
    canvas: Canvas, light: Light, opening: Opening, panel: Panel, position: Position
) -> None:
    """Paint handle and hinges on the seen face of a leaf."""
    is_front = _is_seen(canvas, panel.origin, -panel.back)
    out = _unit(-panel.back if is_front else panel.back)
    base = panel.origin if is_front else panel.origin + panel.back
    width, height = float(np.linalg.norm(panel.right)), float(np.linalg.norm(panel.down))
    right, down = panel.right / width, panel.down / height
    bright = light.at(base, out)
    tone = lit(opening.metal, bright)
    if panel.grip:
        spot = base + _grip(opening, panel, width, height, right, down)
        inward = right if panel.grip == "left" else -right
        _paint_handle(canvas, opening, position, panel.grip, spot, inward, down, out, tone)
    is_hinge_side = is_front == opening.is_towards
    if (
        opening.has_hinges
        and opening.mechanism not in SLIDING
        and is_hinge_side
        and panel.grip in ("left", "right")
    ):
        edge = base + (panel.right if panel.grip == "left" else 0 * panel.right)
        for share in (0.12, 0.88):
            spot = edge + panel.down * share + out * 0.008
            canvas.line(spot - down * 0.05, spot + down * 0.05, tone, 0.02)


def _grip(
    opening: Opening, panel: Panel, width: float, height: float, right: Array, down: Array
) -> Array:
    """Return the handle's place on the leaf relative to its top left corner, (3,) metres."""
    inset = 0.065 if opening.kind == "door" else 0.03
    if panel.grip == "bottom":
        result: Array = right * (width / 2) + down * (height - 0.05)
        return result
    y = height - 1.02 if opening.kind == "door" and height > 1.6 else height / 2
    x = inset if panel.grip == "left" else width - inset
    place: Array = right * x + down * y
    return place


def _paint_handle(
    canvas: Canvas,
    opening: Opening,
    position: Position,
    grip: str,
    spot: Array,
    inward: Array,
    down: Array,
    out: Array,
    tone: Colour,
) -> None:
    dark = dimmed(tone, 0.6)
    off = out * 0.05
    if grip == "bottom":
        side = np.cross(down, out)
        canvas.line(spot - side * 0.07 + off, spot + side * 0.07 + off, tone, 0.025)
        return
    if opening.mechanism in SLIDING or (opening.handle == "bar" and opening.kind == "door"):
        canvas.line(spot - down * 0.16 + off * 0.6, spot + down * 0.16 + off * 0.6, tone, 0.028)
        return
    if opening.kind == "window":
        # A window's handle tells its state: down is shut, level is turned, up is tilted.
        way = down if position.state == "closed" else -down if position.is_tilted else inward
        canvas.line(spot - down * 0.04 + out * 0.01, spot + down * 0.04 + out * 0.01, dark, 0.03)
        canvas.line(spot + off, spot + off + way * 0.11, tone, 0.02)
        return
    canvas.line(spot - down * 0.09 + out * 0.004, spot + down * 0.11 + out * 0.004, dark, 0.04)
    canvas.line(spot, spot + off, dark, 0.022)
    if opening.handle == "knob":
        canvas.line(spot + off - down * 0.028, spot + off + down * 0.028, tone, 0.056)
    else:
        canvas.line(spot + off, spot + off + inward * 0.12, tone, 0.022)


def _is_seen(canvas: Canvas, point: Array, outward: Array) -> bool:
    return float((canvas.eye - point) @ outward) > 0


def _unit(vector: Array) -> Array:
    result: Array = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return result
