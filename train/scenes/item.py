"""A thing in a room or before a house: a box with a drawn front, or a flat cut-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.light import Light, dimmed, lit
from train.scenes.paint import Canvas
from train.scenes.texture import Colour

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Item:
    """A box that stands or hangs somewhere.

    Attributes:
        name: what it is.
        low: (x, y, z) of its left lower far corner in metres.
        high: (x, y, z) of its right upper near corner in metres.
        colour: BGR of the faces without an image.
        front: (h, w, 3 or 4) uint8 image of the near face, or None.
        is_zone: whether it may be labelled as a zone of kind `other`.
    """

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: Colour
    front: Array | None = None
    is_zone: bool = False

    def corners(self) -> Array:
        """Return the (8, 3) corners in metres."""
        xs, ys, zs = zip(self.low, self.high, strict=True)
        return np.array([[x, y, z] for z in zs for y in ys for x in xs])

    def face(self) -> Array:
        """Return the (4, 3) corners of the near face, clockwise from the top left."""
        (x0, y0, _), (x1, y1, z) = self.low, self.high
        return np.array([[x0, y1, z], [x1, y1, z], [x1, y0, z], [x0, y0, z]])


def draw_item(canvas: Canvas, light: Light, item: Item) -> None:
    """Paint the faces of a box that the camera sees."""
    (x0, y0, z0), (x1, y1, z1) = item.low, item.high
    eye = canvas.eye
    if z1 - z0 > 0.004 and (item.front is None or item.front.shape[2] == 3):
        faces = [
            (eye[0] < x0, [[x0, y1, z0], [x0, y1, z1], [x0, y0, z1], [x0, y0, z0]], (-1, 0, 0)),
            (eye[0] > x1, [[x1, y1, z1], [x1, y1, z0], [x1, y0, z0], [x1, y0, z1]], (1, 0, 0)),
            (eye[1] > y1, [[x0, y1, z0], [x1, y1, z0], [x1, y1, z1], [x0, y1, z1]], (0, 1, 0)),
            (eye[1] < y0, [[x0, y0, z1], [x1, y0, z1], [x1, y0, z0], [x0, y0, z0]], (0, -1, 0)),
        ]
        for is_seen, corners, normal in faces:
            if is_seen:
                polygon = np.array(corners)
                bright = light.at(polygon.mean(axis=0), np.array(normal, float))
                shade = 1.05 if normal[1] > 0 else 0.72
                canvas.fill(
                    polygon,
                    lit(item.colour, dimmed(bright, shade)),
                )
    if eye[2] <= z1:
        return
    bright = light.at(item.face().mean(axis=0), np.array([0.0, 0.0, 1.0]))
    if item.front is None:
        canvas.fill(item.face(), lit(item.colour, bright))
        return
    canvas.texture(
        under(item.front, bright),
        np.array([x0, y1, z1]),
        np.array([x1 - x0, 0.0, 0.0]),
        np.array([0.0, y0 - y1, 0.0]),
    )


def under(image: Array, light: Colour) -> Array:
    """Return a BGR(A) image under BGR light factors."""
    factors = np.array((*light, 1.0)[: image.shape[2]])
    table = np.clip(np.arange(256)[:, None] * factors, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])
