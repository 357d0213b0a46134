"""Painting flat things of the world into a picture, far ones first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.camera import Camera, outline, project

Array = npt.NDArray[Any]
Colour = tuple[float, float, float]
Point = tuple[float, float, float]

_SHIFT = 4  # fractional bits of the polygon corners that OpenCV takes


def rectangle(x0: float, y0: float, x1: float, y1: float, z: float) -> Array:
    """Return the (4, 3) corners of a rectangle facing the camera, clockwise from the top left."""
    return np.array([[x0, y1, z], [x1, y1, z], [x1, y0, z], [x0, y0, z]])


class Canvas:
    """A picture in the making, `scale` times larger than the finished one for smooth edges.

    Attributes:
        pixels: (H * scale, W * scale, 3) uint8 BGR.
        matrix: (3, 4) projection from metres to these pixels.
    """

    def __init__(self, camera: Camera, scale: float) -> None:
        width, height = camera.size
        self.pixels: Array = np.zeros((round(height * scale), round(width * scale), 3), np.uint8)
        self.matrix = camera.matrix(scale)
        self.eye = np.array(camera.position)
        self.scale = scale
        self._window = (0, 0, self.pixels.shape[1], self.pixels.shape[0])

    @contextlib.contextmanager
    def within(self, polygon: Array) -> Iterator[None]:
        """Restrict painting to the bounding box of a (N, 3) polygon: all that will stay visible."""
        before = self._window
        seen = outline(self.matrix, polygon)
        if seen is not None:
            x0, y0, x1, y1 = self._box(seen)
            self._window = (x0, y0, max(x0, x1), max(y0, y1))
        try:
            yield
        finally:
            self._window = before

    def clear(self, colour: Colour) -> None:
        """Paint the whole window with a BGR colour of 0 to 255."""
        x0, y0, x1, y1 = self._window
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)
        self.fill_flat(corners, colour)

    def fill(self, polygon: Array, colour: Colour, alpha: float = 1.0) -> None:
        """Fill a convex (N, 3) polygon with a BGR colour of 0 to 255."""
        seen = outline(self.matrix, polygon)
        if seen is None:
            return
        self.fill_flat(seen, colour, alpha)

    def fill_flat(self, seen: Array, colour: Colour, alpha: float = 1.0) -> None:
        """Fill a convex polygon given as (N, 2) pixels of this canvas."""
        x0, y0, x1, y1 = self._box(seen)
        if x1 <= x0 or y1 <= y0:
            return
        region = self.pixels[y0:y1, x0:x1]
        corners = _fixed(seen, x0, y0)
        shade = tuple(float(min(255.0, max(0.0, c))) for c in colour)
        if alpha >= 1.0:
            cv2.fillConvexPoly(region, corners, shade, cv2.LINE_8, _SHIFT)
            return
        over = region.copy()
        cv2.fillConvexPoly(over, corners, shade, cv2.LINE_8, _SHIFT)
        cv2.addWeighted(region, 1.0 - alpha, over, alpha, 0.0, region)

    def texture(
        self,
        image: Array,
        origin: Array,
        right: Array,
        down: Array,
        holes: Sequence[Array] = (),
    ) -> None:
        """Paint an image onto a parallelogram in the world.

        Args:
            image: (h, w, 3) or (h, w, 4) uint8 BGR(A); the fourth channel is opacity.
            origin: (3,) metres, where the top left corner of the image lies.
            right: (3,) metres, the top edge of the image.
            down: (3,) metres, its left edge.
            holes: convex (N, 3) polygons that stay as they are.
        """
        seen = outline(
            self.matrix, np.stack([origin, origin + right, origin + right + down, origin + down])
        )
        if seen is None:
            return
        x0, y0, x1, y1 = self._box(seen)
        if x1 <= x0 or y1 <= y0:
            return
        image = _reduced(image, cv2.contourArea(seen.astype(np.float32)))
        region = self.pixels[y0:y1, x0:x1]
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, _fixed(seen, x0, y0), 255.0, cv2.LINE_8, _SHIFT)
        for hole in holes:
            gap = outline(self.matrix, hole)
            if gap is not None:
                cv2.fillConvexPoly(mask, _fixed(gap, x0, y0), 0.0, cv2.LINE_8, _SHIFT)
        place = self._homography(image, origin, right, down, x0, y0)
        warped = cv2.warpPerspective(
            image,
            place,
            (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if image.shape[2] == 3:
            cv2.copyTo(warped, mask, region)
            return
        weight = cv2.bitwise_and(warped[:, :, 3], mask).astype(np.float32) / 255.0
        region[:] = cv2.blendLinear(
            np.ascontiguousarray(warped[:, :, :3]), region.copy(), weight, 1.0 - weight
        )

    def line(self, start: Array, end: Array, colour: Colour, width_m: float) -> None:
        """Draw a straight rod of the given thickness in metres between two (3,) points."""
        seen = outline(self.matrix, np.stack([start, (start + end) / 2, end]))
        if seen is None or len(seen) < 3:
            return
        depth = float(self.matrix[2, :3] @ ((start + end) / 2) + self.matrix[2, 3])
        focal = float(
            np.linalg.norm(
                self.matrix[1, :3] - self.matrix[2, :3] * self.matrix[1, :3].dot(self.matrix[2, :3])
            )
        )
        half = max(0.5, width_m * focal / max(depth, 0.1) / 2)
        along = seen[-1] - seen[0]
        side = np.array([-along[1], along[0]]) / max(float(np.linalg.norm(along)), 1e-6) * half
        self.fill_flat(
            np.stack([seen[0] + side, seen[-1] + side, seen[-1] - side, seen[0] - side]), colour
        )

    def pixels_per_metre(self, point: Array) -> float:
        """Return how many pixels of this canvas a metre at the (3,) point is wide."""
        near = project(self.matrix, np.stack([point, point + np.array([0.0, 0.1, 0.0])]))
        return float(np.linalg.norm(near[1] - near[0])) * 10.0

    def _homography(
        self, image: Array, origin: Array, right: Array, down: Array, x0: int, y0: int
    ) -> Array:
        height, width = image.shape[:2]
        plane = np.column_stack([right / width, down / height, origin])
        place = self.matrix[:, :3] @ plane
        place[:, 2] += self.matrix[:, 3]
        shift = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])
        result: Array = shift @ place
        return result

    def _box(self, seen: Array) -> tuple[int, int, int, int]:
        left, top, right, bottom = self._window
        low = np.clip(np.floor(seen.min(axis=0)), -1e6, 1e6)
        high = np.clip(np.ceil(seen.max(axis=0)) + 1, -1e6, 1e6)
        return (
            max(left, int(low[0])),
            max(top, int(low[1])),
            min(right, int(high[0])),
            min(bottom, int(high[1])),
        )


def _fixed(seen: Array, x0: int, y0: int) -> Array:
    moved = np.clip(seen - (x0, y0), -30000.0, 30000.0)
    return np.round(moved * (1 << _SHIFT)).astype(np.int32)


def _reduced(image: Array, area_px: float) -> Array:
    """Shrink an image that has far more pixels than the area it is painted on: it would alias."""
    ratio = image.shape[0] * image.shape[1] / max(area_px, 1.0)
    if ratio < 3.0:
        return image
    factor = 1.0 / min(8.0, ratio**0.5)
    size = (max(2, round(image.shape[1] * factor)), max(2, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
