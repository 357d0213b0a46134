"""One picture of a room: where the camera stands, what is open, and what can be labelled in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes import people
from train.scenes.camera import Camera
from train.scenes.light import (
    LOOKS,
    Light,
    Sensor,
    draw_light,
    draw_sensor,
    expose,
    metered,
    with_noise,
)
from train.scenes.opening import STATES, Opening, Position, draw_position, panels
from train.scenes.paint import rectangle
from train.scenes.people import Person, draw_person
from train.scenes.room import Room
from train.scenes.stage import Scene, paint_scene
from train.scenes.texture import Random, cloud
from train.scenes.visible import hidden, is_fit, is_shown, shows_state, zone_of
from transom.geometry import Zone

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Label:
    """A labelled zone of a picture; `state` is empty for the kind `other`."""

    zone: Zone
    kind: str
    state: str


@dataclass(frozen=True)
class Picture:
    """A finished picture.

    Attributes:
        image: (H, W, 3) uint8 BGR, with noise.
        labels: the main door or window first.
        quality: of the JPEG it is to be stored as, 0 to 100.
        scene: light, side and mechanism in words, for reports.
    """

    image: Array
    labels: tuple[Label, ...]
    quality: int
    scene: str


def draw_picture(random: Random, room: Room, state: str, size: tuple[int, int]) -> Picture | None:
    """Draw a picture of a room with its main opening in `state`.

    Args:
        random: the picture's generator.
        room: the room.
        state: one of `STATES`.
        size: width, height in pixels.

    Returns:
        The picture, or None when no draw of camera and light showed the state.
    """
    for _ in range(8):
        view = aim(random, room, state, size)
        if view is None:
            return None
        camera, positions = view
        look = str(random.choice(LOOKS, p=[0.42, 0.16, 0.24, 0.18]))
        sensor = draw_sensor(random, look, room.distortion)
        scene = _draw_scene(random, room, camera, positions, look)
        image = paint_scene(scene, camera)
        target = random.uniform(65, 100) if look == "night" else random.uniform(85, 145)
        sensor = metered(sensor, image, target)
        if not shows_state(scene, 0, camera, sensor, image):
            continue
        labels = _labels(random, scene, camera, sensor, image)
        image = with_noise(expose(image, sensor), sensor, random)
        side = "outside" if room.is_outside else "inside"
        words = f"{look} {side} {room.openings[0].mechanism}"
        return Picture(image, labels, sensor.quality, words)
    return None


def _draw_scene(
    random: Random, room: Room, camera: Camera, positions: tuple[Position, ...], look: str
) -> Scene:
    light = draw_light(
        random,
        look=look,
        is_outside=room.is_outside,
        is_beyond_outdoors=room.backdrops[0].is_outdoors,
        camera=camera.position,
    )
    room = _cleared(room, camera)
    glass, clear = draw_glass(random, light, room.is_outside)
    return Scene(room, positions, light, _draw_crowd(random, room, camera), glass, clear)


def aim(
    random: Random, room: Room, state: str, size: tuple[int, int]
) -> tuple[Camera, tuple[Position, ...]] | None:
    """Find a camera that has the main opening in its picture, and positions that it shows.

    Returns:
        The camera and the openings' positions, or None when many tries found none.
    """
    main = room.openings[0]
    for _ in range(400):
        camera = _draw_camera(random, room, size)
        zone = zone_of(main.frame, camera, room.distortion)
        if zone is None or not is_fit(zone, size):
            continue
        position = draw_position(random, main, state)
        if not is_shown(main, position, camera):
            continue
        others = tuple(
            draw_position(random, o, str(random.choice(STATES))) for o in room.openings[1:]
        )
        if not _is_clear(room, camera, (position, *others)):
            continue
        return camera, (position, *others)
    return None


def _draw_camera(random: Random, room: Room, size: tuple[int, int]) -> Camera:
    main = room.openings[0]
    middle = main.frame.mean(axis=0)
    distance = random.uniform(1.5, 7.0 if room.is_outside else 5.5)
    azimuth = np.radians(np.clip(random.normal(0.0, 24.0), -50, 50))
    x, z = middle[0] + distance * np.sin(azimuth), distance * np.cos(azimuth)
    x = float(np.clip(x, room.left + 0.15, room.right - 0.15))
    top = 3.2 if room.is_outside else room.height - 0.1
    height = random.choice(
        [random.uniform(0.25, 0.8), random.uniform(0.9, 1.8), random.uniform(1.8, top)]
    )
    spread = 0.16 * distance
    target = middle + random.normal(0.0, 1.0, 3) * (spread, spread * 0.6, 0.0)
    focal = random.uniform(0.6, 1.25) * size[0]
    return Camera(
        (x, float(height), float(z)),
        (float(target[0]), float(target[1]), 0.0),
        float(np.radians(np.clip(random.normal(0, 2.5), -7, 7))),
        float(focal),
        size,
    )


def _is_clear(room: Room, camera: Camera, positions: tuple[Position, ...]) -> bool:
    """Tell whether the camera stands in free space, with no thing or leaf right before it."""
    boxes = [i.corners() for i in (*room.items, *room.loose)]
    for opening, position in zip(room.openings, positions, strict=True):
        boxes.extend(p.corners() for p in panels(opening, position))
    eye = np.array(camera.position)
    for corners in boxes:
        nearest = np.clip(eye, corners.min(axis=0), corners.max(axis=0))
        if float(np.linalg.norm(nearest - eye)) < 0.45:
            return False
    return True


def _cleared(room: Room, camera: Camera) -> Room:
    """Take away what would hide more than a little of the main opening."""
    main = room.openings[0].frame
    items = tuple(i for i in room.items if hidden(main, [i.corners()], camera) < 0.12)
    loose = room.loose
    if loose and hidden(main, [i.corners() for i in loose], camera) > 0.12:
        loose = ()
    return replace(room, items=items, loose=loose)


def draw_glass(random: Random, light: Light, is_outside: bool) -> tuple[Array, float]:
    """Draw what panes mirror, (64, 64, 3) uint8 BGR, and how opaque that makes them, 0 to 1."""
    if light.look == "night":
        base, clear = np.array([40.0, 40.0, 40.0]), random.uniform(0.3, 0.7)
    elif is_outside:
        base = np.array(light.sky) * random.uniform(0.35, 0.9)
        clear = random.uniform(0.25, 0.65)
    elif light.look == "evening":
        base, clear = np.array([30.0, 42.0, 55.0]), random.uniform(0.2, 0.5)
    else:
        base, clear = np.array([205.0, 210.0, 205.0]), random.uniform(0.14, 0.36)
    blotches = 1.0 + 0.3 * cloud(random, 64, 64, (3, 4)) + np.linspace(0.25, -0.25, 64)[:, None]
    image: Array = np.clip(base * blotches[:, :, None], 0, 255).astype(np.uint8)
    if light.look == "night":
        # The camera's own lamp in the pane.
        spot = (int(random.integers(12, 52)), int(random.integers(12, 52)))
        cv2.circle(image, spot, 3, (250, 250, 250), -1)
        image = cv2.GaussianBlur(image, (0, 0), 2.0)
    return image, float(clear)


def _draw_crowd(random: Random, room: Room, camera: Camera) -> tuple[Person, ...]:
    """Draw nobody, or somebody who leaves enough of the main opening to be seen."""
    if random.random() > 0.22:
        return ()
    main = room.openings[0].frame
    for _ in range(6):
        z = float(random.uniform(0.5, max(0.7, camera.position[2] - 1.3)))
        x = float(random.uniform(main[0, 0] - 1.5, main[1, 0] + 1.5))
        person = draw_person(random, x, z)
        if hidden(main, [people.bounds(person)], camera) < 0.35 and camera.position[2] - z > 1.0:
            return (person,)
    return ()


def _labels(
    random: Random, scene: Scene, camera: Camera, sensor: Sensor, image: Array
) -> tuple[Label, ...]:
    """Return the zones of the picture whose content is well seen."""
    room = scene.room
    covers = [people.bounds(p) for p in scene.people] + [i.corners() for i in room.loose]
    found = []
    for i, (opening, position) in enumerate(zip(room.openings, scene.positions, strict=True)):
        zone = zone_of(opening.frame, camera, sensor.distortion)
        if zone is None or not is_fit(zone, camera.size):
            continue
        if i > 0 and not _is_second_fit(scene, i, camera, sensor, image, covers):
            continue
        found.append(Label(zone, opening.kind, position.state))
    return (*found, *_other_labels(random, scene, camera, covers))


def _is_second_fit(
    scene: Scene, index: int, camera: Camera, sensor: Sensor, image: Array, covers: list[Array]
) -> bool:
    room = scene.room
    opening = room.openings[index]
    if not is_shown(opening, scene.positions[index], camera):
        return False
    before = _leaves_in_front(scene, room.openings[:index])
    before += [i.corners() for i in room.items] + covers
    if hidden(opening.frame, before, camera) > 0.3:
        return False
    return shows_state(scene, index, camera, sensor, image)


def _leaves_in_front(scene: Scene, openings: tuple[Opening, ...]) -> list[Array]:
    return [
        panel.corners()
        for opening, position in zip(openings, scene.positions, strict=False)
        if opening.is_in_front and position.state != "closed"
        for panel in panels(opening, position)
    ]


def _other_labels(random: Random, scene: Scene, camera: Camera, covers: list[Array]) -> list[Label]:
    """Return up to two zones of things and bare wall."""
    room = scene.room
    covers = covers + _leaves_in_front(scene, room.openings)
    targets = [t.face() for t in room.items if t.is_zone]
    if room.bare is not None:
        targets.append(rectangle(*room.bare, 0.0))
    found: list[Label] = []
    for i in random.permutation(len(targets)):
        zone = zone_of(targets[i], camera, room.distortion)
        if len(found) == 2 or zone is None or not is_fit(zone, camera.size):
            continue
        if hidden(targets[i], covers, camera) <= 0.25:
            found.append(Label(zone, "other", ""))
    return found
