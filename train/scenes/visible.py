"""What of a scene can be seen: whether a picture may be labelled at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.camera import Camera, outline
from train.scenes.light import Sensor, expose, seen_at
from train.scenes.opening import Opening, Position, panels, shown_change
from train.scenes.stage import Scene, paint_scene
from transom.geometry import Zone

Array = npt.NDArray[Any]

_LEAST_SIDE_PX = 52.0
_LEAST_SEEN = 0.85


def shows_state(scene: Scene, index: int, camera: Camera, sensor: Sensor, image: Array) -> bool:
    """Tell whether an opening that is not shut looks different from the same one shut.

    A dark leaf before a dark room may hide its gap; such a picture has no true label.

    Args:
        scene: what was painted.
        index: of the opening in question.
        camera: from where.
        sensor: its exposure and noise.
        image: (H, W, 3) uint8 BGR, the clean picture.
    """
    if scene.positions[index].state == "closed":
        return True
    opening = scene.room.openings[index]
    zone = zone_of(opening.hole, camera, 0.0)
    if zone is None:
        return False
    corners = np.array(zone.points) * camera.size
    x0, y0 = np.floor(corners.min(axis=0)).astype(int)
    x1, y1 = np.ceil(corners.max(axis=0)).astype(int)
    positions = list(scene.positions)
    positions[index] = Position("closed", 0.0)
    shut = paint_scene(
        replace(scene, positions=tuple(positions)), camera, scale=1.0, only=opening.frame
    )
    seen = [_brightness(part[y0:y1, x0:x1], sensor) for part in (image, shut)]
    is_other = np.abs(seen[0] - seen[1]) > 12.0 + 1.3 * sensor.noise
    least = 0.07 if scene.positions[index].state == "ajar" else 0.2
    return float(is_other.mean()) > least


def _brightness(image: Array, sensor: Sensor) -> Array:
    """Return (h, w) float32 grey levels after exposure, blurred to what survives the noise."""
    plain = replace(sensor, distortion=0.0, shake=0, vignette=0.0, blur=1.2, is_grey=True)
    return expose(image, plain)[:, :, 0].astype(np.float32)


def zone_of(corners: Array, camera: Camera, distortion: float) -> Zone | None:
    """Return the zone of (4, 3) corners in metres, or None where too little of it is seen."""
    seen = outline(camera.matrix(), corners)
    if seen is None or len(seen) != 4:
        return None
    seen = seen_at(seen, distortion, camera.size) / camera.size
    kept = np.clip(seen, 0.0, 1.0)
    whole = cv2.contourArea(seen.astype(np.float32))
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    shown, _ = cv2.intersectConvexConvex(seen.astype(np.float32), frame)
    if whole < 1e-4 or shown < _LEAST_SEEN * whole:
        return None
    points = [(round(float(x), 5), round(float(y), 5)) for x, y in kept]
    try:
        return Zone((points[0], points[1], points[2], points[3]))
    except ValueError:
        return None


def is_fit(zone: Zone, size: tuple[int, int]) -> bool:
    """Tell whether a zone is neither too small nor too large in a picture of width, height."""
    corners = np.array(zone.points) * size
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    return bool(sides.min() >= _LEAST_SIDE_PX * size[0] / 640) and zone.area < 0.75


def is_shown(opening: Opening, position: Position, camera: Camera) -> bool:
    """Tell whether the pixels show the state: how far the leaf is from where it would be shut."""
    if position.state == "closed":
        return True
    matrix = camera.matrix()
    change = shown_change(opening, position, matrix)
    hole = outline(matrix, opening.hole)
    if hole is None:
        return False
    # A gap of a pixel or two is lost in blur and noise, however wide the opening is.
    area_px = change * cv2.contourArea(hole.astype(np.float32))
    gap_px = area_px / max(1.0, float(np.ptp(hole[:, 1])))
    if position.state == "ajar":
        return change >= 0.09 and gap_px >= 6.0 * camera.size[0] / 640
    return change >= 0.4 and _see_through(opening, position, matrix) >= 0.2


def _see_through(opening: Opening, position: Position, matrix: Array) -> float:
    """Return which share of the opening no leaf covers in the picture."""
    hole = outline(matrix, opening.hole)
    if hole is None:
        return 0.0
    low, high = hole.min(axis=0), hole.max(axis=0)
    scale = 100.0 / max(float((high - low).max()), 1.0)
    mask = np.zeros((104, 104), np.uint8)
    cv2.fillConvexPoly(mask, np.round((hole - low) * scale).astype(np.int32), 1.0)
    whole = int(mask.sum())
    for panel in panels(opening, position):
        seen = outline(matrix, panel.corners())
        if seen is not None and panel.is_moving:
            points = np.round((seen - low) * scale).astype(np.int32)
            cv2.fillConvexPoly(mask, cv2.convexHull(points), 0.0)
    return float(mask.sum()) / max(whole, 1)


def hidden(target: Array, covers: list[Array], camera: Camera) -> float:
    """Return which share of a (4, 3) target the hulls of (N, 3) covers hide in the picture."""
    matrix = camera.matrix()
    seen = outline(matrix, target)
    if seen is None:
        return 1.0
    low, high = seen.min(axis=0), seen.max(axis=0)
    scale = 90.0 / max(float((high - low).max()), 1.0)
    mask = np.zeros((94, 94), np.uint8)
    cv2.fillConvexPoly(mask, np.round((seen - low) * scale).astype(np.int32), 1.0)
    whole = int(mask.sum())
    for cover in covers:
        depth = cover @ matrix[2, :3] + matrix[2, 3]
        if (depth < 0.1).any():
            continue
        shape = outline(matrix, cover)
        if shape is not None:
            points = np.clip(np.round((shape - low) * scale), -9999, 9999).astype(np.int32)
            cv2.fillConvexPoly(mask, cv2.convexHull(points), 0.0)
    return 1.0 - float(mask.sum()) / max(whole, 1)
