"""A pinhole camera in front of a wall.

World axes in metres: the wall is the plane z = 0, x runs to the right along it, y upwards from the
floor (y = 0), and z towards the camera. What lies behind the wall has negative z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NEAR_M = 0.08


@dataclass(frozen=True)
class Camera:
    """Where the camera stands, what it looks at and through which lens.

    Attributes:
        position: x, y, z in metres, z > 0.
        target: the point in metres that is in the middle of the picture.
        roll: rotation about the optical axis in radians.
        focal_px: focal length in pixels of the finished picture.
        size: width, height of the finished picture in pixels.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    roll: float
    focal_px: float
    size: tuple[int, int]

    def matrix(self, scale: float = 1.0) -> Array:
        """Return the (3, 4) float64 projection from metres to pixels, `scale` times larger."""
        eye = np.array(self.position)
        forward = np.array(self.target) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 1.0, 0.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
        width, height = self.size
        lens = np.array(
            [
                [self.focal_px * scale, 0.0, width * scale / 2],
                [0.0, self.focal_px * scale, height * scale / 2],
                [0.0, 0.0, 1.0],
            ]
        )
        result: Array = lens @ np.column_stack([rotation, -rotation @ eye])
        return result


def project(matrix: Array, points: Array) -> Array:
    """Return (N, 2) pixels of (N, 3) points in metres under a (3, 4) projection."""
    seen = points @ matrix[:, :3].T + matrix[:, 3]
    result: Array = seen[:, :2] / np.maximum(seen[:, 2:], 1e-6)
    return result


def outline(matrix: Array, polygon: Array) -> Array | None:
    """Project a flat convex polygon, cut off where it comes too near to the camera.

    Args:
        matrix: (3, 4) projection.
        polygon: (N, 3) corners in metres, in order.

    Returns:
        (M, 2) float64 pixels, or None when nothing lies in front of the camera.
    """
    depth = polygon @ matrix[2, :3] + matrix[2, 3]
    if (depth < _NEAR_M).any():
        polygon = _cut(polygon, depth - _NEAR_M)
        if len(polygon) < 3:
            return None
    return project(matrix, polygon)


def _cut(polygon: Array, height: Array) -> Array:
    """Keep the part of a convex polygon whose signed `height` (N,) is not negative."""
    kept: list[Array] = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if height[i] >= 0:
            kept.append(polygon[i])
        if (height[i] >= 0) != (height[j] >= 0):
            share = height[i] / (height[i] - height[j])
            kept.append(polygon[i] + share * (polygon[j] - polygon[i]))
    return np.array(kept).reshape(-1, 3)
