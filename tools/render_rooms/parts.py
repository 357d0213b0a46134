"""Solids that scenes are made of: boxes, cylinders, ellipsoids and curtains, as meshes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.render_rooms.surfaces import Surface

Array = npt.NDArray[Any]
Random = np.random.Generator
Vector = tuple[float, float, float]
Mesh = tuple[Array, list[tuple[int, ...]]]

SHAPES = ("box", "cylinder", "ellipsoid", "curtain")
_ROUND = 14  # sides of round shapes


@dataclass(frozen=True)
class Part:
    """One solid of one material; x to the right, y away from the camera, z up, metres.

    Attributes:
        shape: one of `SHAPES`. A cylinder stands along z; a curtain is a folded sheet in x and z.
        centre: of its box.
        size: of its box, before it is turned.
        surface: what it is made of.
        turn: degrees about z, through its centre.
        lean: degrees about x, through its centre, before `turn`.
    """

    shape: str
    centre: Vector
    size: Vector
    surface: Surface
    turn: float = 0.0
    lean: float = 0.0

    def moved(self, x: float, y: float, z: float) -> Part:
        """Return the same part elsewhere."""
        return replace(self, centre=(self.centre[0] + x, self.centre[1] + y, self.centre[2] + z))

    def mirrored(self) -> Part:
        """Return the part on the other side of the plane x = 0."""
        x, y, z = self.centre
        return replace(self, centre=(-x, y, z), turn=-self.turn)

    def mesh(self) -> Mesh:
        """Return vertices (n, 3) in metres and faces as vertex numbers."""
        unit, faces = _UNITS[self.shape]
        return unit * self.size @ rotation(self.turn, self.lean).T + self.centre, faces


def box(
    x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], surface: Surface
) -> Part:
    """Return an upright box from its limits in metres."""
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2)
    size = (abs(x[1] - x[0]), abs(y[1] - y[0]), abs(z[1] - z[0]))
    return Part("box", centre, size, surface)


def rotation(turn: float, lean: float = 0.0) -> Array:
    """Return the (3, 3) rotation: `lean` degrees about x, then `turn` degrees about z."""
    a, b = np.radians(turn), np.radians(lean)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(about_z @ about_x)


def _box() -> Mesh:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) - 0.5
    faces: list[tuple[int, ...]] = [
        (0, 1, 3, 2),
        (4, 6, 7, 5),
        (0, 4, 5, 1),
        (2, 3, 7, 6),
        (0, 2, 6, 4),
        (1, 5, 7, 3),
    ]
    return corners, faces


def _rings(rings: list[tuple[float, float]]) -> Mesh:
    """Turn (radius, height) pairs about z, and close both ends."""
    angles = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = np.concatenate([np.c_[circle * r, np.full(_ROUND, h)] for r, h in rings])
    faces: list[tuple[int, ...]] = []
    for ring in range(len(rings) - 1):
        for i in range(_ROUND):
            j = (i + 1) % _ROUND
            low, high = ring * _ROUND, (ring + 1) * _ROUND
            faces.append((low + i, low + j, high + j, high + i))
    faces.append(tuple(range(_ROUND - 1, -1, -1)))
    faces.append(tuple(range((len(rings) - 1) * _ROUND, len(rings) * _ROUND)))
    return vertices, faces


def _ellipsoid() -> Mesh:
    angles = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)[1:-1]
    return _rings([(0.5 * float(np.cos(a)), 0.5 * float(np.sin(a))) for a in angles])


def _curtain() -> Mesh:
    across = np.linspace(-0.5, 0.5, 49)
    folds = 0.5 * np.sin(across * 2 * np.pi * 5.5 + np.sin(across * 17.0))
    vertices = np.concatenate([np.c_[across, folds, np.full(49, z)] for z in (-0.5, 0.5)])
    faces: list[tuple[int, ...]] = [(i, i + 1, i + 50, i + 49) for i in range(48)]
    return vertices, faces


_UNITS: dict[str, Mesh] = {
    "box": _box(),
    "cylinder": _rings([(0.5, -0.5), (0.5, 0.5)]),
    "ellipsoid": _ellipsoid(),
    "curtain": _curtain(),
}
