"""Writing drawn scenes as a data set in the project's format."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from train.scenes.opening import STATES
from train.scenes.picture import Picture, draw_picture
from train.scenes.room import Room, draw_room
from transom.dataset import Row, write_dataset
from transom.tasks import Task, TaskSet

KINDS = ("door", "window", "other")
PLAIN_KINDS = ("door", "window")


def scene_tasks() -> TaskSet:
    """Return the tasks that drawn scenes are labelled for: `kind` and `state`."""
    return TaskSet(
        (Task(name="kind", classes=KINDS), Task(name="state", classes=STATES, ordinal=True))
    )


def generate_dataset(
    folder: Path,
    *,
    groups: int,
    pictures: int,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
    workers: int = 1,
    is_plain: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw rooms and house walls with doors and windows, and write them as a data set.

    A group is one door or window in its room; its pictures differ in camera, light, state and
    people. The same seed gives the same bytes, however many workers draw.

    Args:
        folder: where `dataset.toml`, `labels.csv` and `images/` are written.
        groups: number of doors and windows.
        pictures: number of pictures of each.
        seed: of everything drawn.
        size: width, height of the pictures in pixels.
        workers: processes that draw.
        is_plain: whether every group is a plain room with one door and one window, both of the
            usual mechanisms: less variety, which a short training can learn.
        progress: called with the pictures done and their total after each group.

    Raises:
        ValueError: `groups`, `pictures` or `workers` is not positive, or `size` is too small.
    """
    if min(groups, pictures, workers) < 1:
        raise ValueError(
            f"groups, pictures and workers must be at least 1, got {groups}, {pictures}, {workers}"
        )
    if min(size) < 120:
        raise ValueError(f"size must be at least 120 x 120 pixels, got {size[0]} x {size[1]}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    draw = functools.partial(
        _draw_group, folder, pictures, seed, size, is_plain, _splits(groups, seed)
    )
    rows: list[Row] = []
    for group, drawn in enumerate(_results(draw, groups, workers)):
        rows.extend(drawn)
        if progress is not None:
            progress((group + 1) * pictures, groups * pictures)
    write_dataset(folder, name=f"scenes-{seed}", tasks=scene_tasks(), rows=rows)


def _results(draw: Callable[[int], list[Row]], groups: int, workers: int) -> Iterator[list[Row]]:
    if workers == 1:
        yield from map(draw, range(groups))
        return
    # Forking a process in which OpenCV has threads can hang; one thread each is enough.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(draw, range(groups))


def _splits(groups: int, seed: int) -> list[str]:
    """Assign 70 % of the groups to train, 15 % to val and to test; of three groups, one to each."""
    held = max(round(0.15 * groups), 1) if groups >= 3 else 0
    splits = ["train"] * groups
    order = np.random.default_rng((seed, groups)).permutation(groups)
    for i, group in enumerate(order[: 2 * held]):
        splits[group] = "val" if i < held else "test"
    return splits


def _draw_group(
    folder: Path,
    pictures: int,
    seed: int,
    size: tuple[int, int],
    is_plain: bool,
    splits: list[str],
    group: int,
) -> list[Row]:
    """Draw and store the pictures of one group, and return their rows."""
    kinds = PLAIN_KINDS[:: -1 if group % 2 else 1] if is_plain else None
    room = draw_room(np.random.default_rng((seed, group)), kinds)
    rows = []
    for number in range(pictures):
        picture = _draw_one(room, (seed, group, number + 1), STATES[(group + number) % 3], size)
        image = f"images/{group:05d}-{number:03d}.jpg"
        _, encoded = cv2.imencode(
            ".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, picture.quality]
        )
        (folder / image).write_bytes(encoded.tobytes())
        rows.extend(_rows(image, picture, f"scene-{seed}-{group:05d}", splits[group]))
    return rows


def _draw_one(room: Room, seed: tuple[int, int, int], state: str, size: tuple[int, int]) -> Picture:
    """Draw a picture in `state`, or in another one where no view of this room shows that."""
    first = STATES.index(state)
    for attempt in range(9):
        random = np.random.default_rng((*seed, attempt))
        picture = draw_picture(random, room, STATES[(first + attempt) % 3], size)
        if picture is not None:
            return picture
    raise RuntimeError(f"no view of room {seed[:2]} shows its {room.openings[0].mechanism}")


def _rows(image: str, picture: Picture, group: str, split: str) -> list[Row]:
    rows = []
    for label in picture.labels:
        labels = {"kind": label.kind}
        if label.state:
            labels["state"] = label.state
        rows.append(Row(image, label.zone, group, split, labels, {"scene": picture.scene}))
    return rows
