"""A clip of a still camera watching a door and a window, with the truth of when they moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.camera import Camera
from train.scenes.light import Sensor, draw_light, draw_sensor, expose, metered, steady, with_noise
from train.scenes.opening import STATES, Opening, Position, draw_position
from train.scenes.people import Person, draw_person
from train.scenes.picture import draw_glass
from train.scenes.room import Room, draw_room
from train.scenes.stage import Scene, paint_scene
from train.scenes.texture import Random
from train.scenes.visible import is_shown, shows_state, zone_of
from transom.geometry import Zone

Array = npt.NDArray[Any]

SUBJECTS = ("door", "window")


@dataclass(frozen=True)
class Move:
    """Something that happens in a clip.

    Attributes:
        subject: `door`, `window` or `person`.
        start_s: when it begins, in seconds.
        duration_s: how long it takes, in seconds.
        to: the state that the leaf moves to; for a person `left` or `right`, the way they walk.
    """

    subject: str
    start_s: float
    duration_s: float
    to: str


DEFAULT_SCRIPT = (
    Move("door", 7.0, 1.5, "open"),
    Move("window", 10.0, 1.2, "ajar"),
    Move("person", 15.5, 5.0, "right"),
    Move("window", 24.0, 1.2, "closed"),
    Move("door", 28.0, 1.5, "closed"),
)
_DEFAULT_SECONDS = 40.0


@dataclass(frozen=True)
class ClipTruth:
    """What is true in a clip.

    Attributes:
        zones: the zone of `door` and of `window`.
        states: of each, (first frame, state) in order; a state begins with the frame in which the
            movement towards it ends.
        fps: frames per second.
        frames: number of frames.
    """

    zones: dict[str, Zone]
    states: dict[str, list[tuple[int, str]]]
    fps: int
    frames: int


@dataclass(frozen=True)
class _View:
    scene: Scene
    camera: Camera
    sensor: Sensor
    targets: dict[str, dict[str, Position]] = field(default_factory=dict)


def generate_clip(
    path: Path,
    *,
    seed: int = 0,
    seconds: float = 40.0,
    fps: int = 10,
    size: tuple[int, int] = (640, 480),
    script: Sequence[Move] | None = None,
) -> ClipTruth:
    """Draw a clip (mp4v) of a room whose door and window are always in the picture.

    Args:
        path: of the mp4 file.
        seed: of the room, the light and the noise.
        seconds: length. The default script is hurried up to fit into less than 40 s.
        fps: frames per second.
        size: width, height in pixels.
        script: what happens; both are shut at first. Default: the door opens, the window goes
            ajar, somebody walks past, the window and the door are shut again.

    Raises:
        ValueError: The script names an unknown subject or state, or the clip has no frame.
        OSError: The file cannot be written.
    """
    moves = _checked(_default(seconds) if script is None else script)
    frames = round(seconds * fps)
    if frames < 1:
        raise ValueError(f"a clip must have at least one frame, got {seconds} s at {fps} fps")
    random = np.random.default_rng((seed, 77))
    view = _find_view(random, size)
    walker = draw_person(random, 0.0, _walk_z(view))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), float(fps), size)
    if not writer.isOpened():
        raise OSError(f"{path}: cannot be written as mp4")
    try:
        for image in _frames(view, moves, walker, frames, fps, random):
            writer.write(image)
    finally:
        writer.release()
    return ClipTruth(_zones(view), _states(moves, frames, fps), fps, frames)


def _default(seconds: float) -> list[Move]:
    pace = min(1.0, seconds / _DEFAULT_SECONDS)
    return [
        replace(m, start_s=m.start_s * pace, duration_s=m.duration_s * pace) for m in DEFAULT_SCRIPT
    ]


def _checked(script: Sequence[Move]) -> list[Move]:
    for move in script:
        allowed = ("left", "right") if move.subject == "person" else STATES
        if move.subject not in (*SUBJECTS, "person") or move.to not in allowed:
            raise ValueError(
                f"a move must be of door or window to {', '.join(STATES)}, or of a person to left "
                f"or right, got {move.subject!r} to {move.to!r}"
            )
        if move.duration_s <= 0:
            raise ValueError(f"a move must take time, got duration_s {move.duration_s}")
    return sorted(script, key=lambda move: move.start_s)


def _states(moves: Sequence[Move], frames: int, fps: int) -> dict[str, list[tuple[int, str]]]:
    states: dict[str, list[tuple[int, str]]] = {}
    for subject in SUBJECTS:
        changes = [(0, "closed")]
        for move in moves:
            first = int(np.ceil((move.start_s + move.duration_s) * fps - 1e-6))
            if move.subject == subject and first < frames:
                changes.append((first, move.to))
        states[subject] = changes
    return states


def _find_view(random: Random, size: tuple[int, int]) -> _View:
    """Draw rooms until a camera sees door and window in every state that they can take."""
    while True:
        room = draw_room(random, SUBJECTS)
        for _ in range(60):
            camera = _draw_camera(random, room, size)
            frames = [zone_of(o.frame, camera, room.distortion) for o in room.openings]
            if any(zone is None or zone.area < 0.02 for zone in frames):
                continue
            view = _complete(random, room, camera)
            if view is not None:
                return view


def _draw_camera(random: Random, room: Room, size: tuple[int, int]) -> Camera:
    low = min(o.frame[0, 0] for o in room.openings)
    high = max(o.frame[1, 0] for o in room.openings)
    middle, wide = (low + high) / 2, high - low
    focal = random.uniform(0.75, 0.95) * size[0]
    distance = max(2.6, random.uniform(1.1, 1.5) * wide * focal / size[0] / 0.85)
    position = (
        float(middle + random.uniform(-0.5, 0.5)), float(random.uniform(1.1, 2.2)), float(distance)
    )  # fmt: skip
    target = (float(middle), float(random.uniform(1.0, 1.2)), 0.0)
    return Camera(position, target, float(np.radians(random.normal(0, 1))), float(focal), size)


def _complete(random: Random, room: Room, camera: Camera) -> _View | None:
    """Choose light and positions; None when a state would not show."""
    look = str(random.choice(["day", "overcast", "evening"]))
    sensor = steady(draw_sensor(random, look, room.distortion))
    light = draw_light(
        random, look=look, is_outside=False, is_beyond_outdoors=room.backdrops[0].is_outdoors,
        camera=camera.position,
    )  # fmt: skip
    targets = {o.kind: _targets(random, o, camera) for o in room.openings}
    if any(len(positions) < len(STATES) for positions in targets.values()):
        return None
    glass, clear = draw_glass(random, light, False)
    room = replace(room, items=tuple(i for i in room.items if i.high[2] < 0.13), loose=())
    for state in ("ajar", "open"):
        positions = tuple(targets[o.kind][state] for o in room.openings)
        scene = Scene(room, positions, light, (), glass, clear)
        image = paint_scene(scene, camera)
        exposed = metered(sensor, image, 115.0)
        if not all(shows_state(scene, i, camera, exposed, image) for i in range(2)):
            return None
    shut = tuple(targets[o.kind]["closed"] for o in room.openings)
    return _View(replace(scene, positions=shut), camera, exposed, targets)


def _targets(random: Random, opening: Opening, camera: Camera) -> dict[str, Position]:
    """Draw a well visible position of each state."""
    found: dict[str, Position] = {"closed": Position("closed", 0.0)}
    for state in ("ajar", "open"):
        for _ in range(12):
            position = draw_position(random, opening, state)
            if is_shown(opening, position, camera):
                found[state] = position
                break
    return found


def _walk_z(view: _View) -> float:
    return min(1.5, 0.45 * view.camera.position[2])


def _zones(view: _View) -> dict[str, Zone]:
    zones = {}
    for opening in view.scene.room.openings:
        zone = zone_of(opening.frame, view.camera, view.sensor.distortion)
        if zone is not None:
            zones[opening.kind] = zone
    return zones


def _frames(
    view: _View, moves: Sequence[Move], walker: Person, frames: int, fps: int, random: Random
) -> Iterator[Array]:
    """Yield the frames, (H, W, 3) uint8 BGR; a still scene is painted once, its noise is new."""
    painted: tuple[Any, Array] | None = None
    for frame in range(frames):
        now = frame / fps
        positions = tuple(
            _position(view.targets[o.kind], [m for m in moves if m.subject == o.kind], now)
            for o in view.scene.room.openings
        )
        people = _walkers(view, moves, walker, now)
        if painted is None or painted[0] != (positions, people):
            scene = replace(view.scene, positions=positions, people=people)
            image = expose(paint_scene(scene, view.camera), view.sensor)
            painted = ((positions, people), image)
        yield with_noise(painted[1], view.sensor, random)


def _position(targets: dict[str, Position], moves: Sequence[Move], now: float) -> Position:
    """Return where a leaf is at a time: at rest, or on its way with a soft start and end."""
    at = targets["closed"]
    for move in moves:
        if now < move.start_s:
            break
        share = min(1.0, (now - move.start_s) / move.duration_s)
        goal = targets[move.to]
        if share >= 1.0 - 1e-9:
            at = goal
            continue
        eased = share * share * (3.0 - 2.0 * share)
        at = Position(
            state=goal.state if eased > 0.5 else at.state,
            amount=at.amount + eased * (goal.amount - at.amount),
            second=at.second + eased * (goal.second - at.second),
            is_tilted=goal.is_tilted or (at.is_tilted and goal.state == "closed"),
        )
    return at


def _walkers(view: _View, moves: Sequence[Move], walker: Person, now: float) -> tuple[Person, ...]:
    """Return who walks through the picture at a time, from one side to the other."""
    half = view.camera.position[2] * 0.75 + 0.6
    middle = view.camera.target[0]
    seen = []
    for move in moves:
        share = (now - move.start_s) / move.duration_s
        if move.subject == "person" and 0.0 <= share < 1.0:
            way = 1.0 if move.to == "right" else -1.0
            x = middle + way * half * (2.0 * share - 1.0)
            step = (now - move.start_s) * 2.0 * np.pi / 1.1
            seen.append(replace(walker, x=x, phase=float(step), facing=way))
    return tuple(seen)
