"""Render rooms with doors and windows as a Transom data set.

Usage: VENV/bin/python -m tools.render_rooms FOLDER --scenes 500 [--seed 1] [--first 0]

VENV is an environment of its own with Blender as a module; see docs/rendered-rooms.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import numpy.typing as npt

from tools.render_rooms.photograph import develop
from tools.render_rooms.scene import Scene, draw_scene
from tools.render_rooms.view import View, look_beside
from train.scenes.dataset import scene_tasks
from transom.dataset import Row, read_dataset, write_dataset
from transom.geometry import Zone

Picture = npt.NDArray[np.uint8]

BESIDE = 9  # number of the picture that shows what is beside the opening
HELD_EVERY = 10  # one scene in so many is for validation


def main() -> None:
    """Render scene after scene; what is finished is a valid data set at any moment."""
    options = _options()
    _check_blender()
    stop = _StopRequest()
    folder: Path = options.folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = list(read_dataset(folder).rows) if (folder / "labels.csv").exists() else []
    done = {row.group for row in rows}
    began, before = time.monotonic(), len(rows)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.first, options.first + options.scenes):
            if stop.is_asked:  # not all that was asked for: `make` must not take it for done
                sys.exit(f"ended as asked, with {len(rows)} pictures; the same command goes on")
            scene = draw_scene(options.seed, number, pixels=options.pixels, windows=options.windows)
            if scene.name in done:
                continue
            rows += _render(scene, number, options, Path(scratch))
            write_dataset(folder, name=f"rooms-{options.seed}", tasks=scene_tasks(), rows=rows)
            pictures = len(rows) - before
            rate = (time.monotonic() - began) / pictures
            print(f"{scene.name} pictures={len(rows)} s_a_picture={rate:.2f}", file=sys.stderr)


class _StopRequest:
    """Ctrl-C and SIGTERM end the run after the scene at hand."""

    def __init__(self) -> None:
        self.is_asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.render_rooms", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="data set to write, or to go on with")
    parser.add_argument("--scenes", type=int, required=True, help="how many doors and windows")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (0)")
    parser.add_argument("--seed", type=int, default=1, help="of all of them (1)")
    parser.add_argument("--windows", type=float, default=0.22, help="share that are windows (0.22)")
    parser.add_argument("--pixels", type=int, default=184, help="longer side of a picture (184)")
    parser.add_argument("--samples", type=int, default=8, help="light paths a pixel (8)")
    parser.add_argument("--threads", type=int, default=1, help="of the renderer (1)")
    options = parser.parse_args()
    if min(options.scenes, options.samples, options.threads) < 1 or options.first < 0:
        parser.error("--scenes, --samples and --threads must be at least 1, --first at least 0")
    if not 64 <= options.pixels <= 2048 or not 0.0 <= options.windows <= 1.0:
        parser.error("--pixels must be 64 to 2048, --windows 0 to 1")
    return options


def _check_blender() -> None:
    """End where Blender's module is missing: before anything is written."""
    if find_spec("bpy") is None:
        sys.exit(
            "rendering needs bpy, which has an environment of its own: "
            "pip install -r tools/render_rooms/requirements.txt; see docs/rendered-rooms.md"
        )


def _render(scene: Scene, number: int, options: argparse.Namespace, scratch: Path) -> list[Row]:
    from tools.render_rooms.studio import Studio  # Blender: not for who asks for help

    studio = Studio(scene, samples=options.samples, threads=options.threads, scratch=scratch)
    rows = []
    for index, position in enumerate(scene.positions):
        random = np.random.default_rng((options.seed, number, index))
        picture = develop(studio.shoot(position.amounts), scene.look, random)
        if index == 0:
            shut = picture
        elif not _is_told_apart(picture, shut):
            continue
        row = replace(
            _row(scene, scene.view, number, index),
            labels={"kind": scene.opening.kind, "state": position.state},
            extra={
                "mechanism": scene.opening.mechanism,
                "amount": f"{position.amounts[0]:.3g}",
                "behind": scene.beyond,
            },
        )
        rows.append(_keep(row, picture, options.folder, scene.look.quality))
    random = np.random.default_rng((options.seed, number, BESIDE))
    view = look_beside(random, scene.view)
    studio.aim(view)
    picture = develop(studio.shoot(scene.positions[0].amounts), scene.look, random)
    row = replace(_row(scene, view, number, BESIDE), labels={"kind": "other"})
    return [*rows, _keep(row, picture, options.folder, scene.look.quality)]


def _keep(row: Row, picture: Picture, folder: Path, quality: int) -> Row:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / row.image).write_bytes(encoded.tobytes())
    return row


def _is_told_apart(picture: Picture, shut: Picture) -> bool:
    """Whether a person would see that this is not the shut leaf: night hides some."""
    difference = cv2.absdiff(cv2.blur(picture, (7, 7)), cv2.blur(shut, (7, 7)))
    return float((difference.max(axis=2) > 12).mean()) > 0.02


def _row(scene: Scene, view: View, number: int, index: int) -> Row:
    """Return a row with no labels yet."""
    corners = [(float(x), float(y)) for x, y in view.zone]
    return Row(
        image=f"images/{scene.name}-{index}.jpg",
        zone=Zone((corners[0], corners[1], corners[2], corners[3])),
        group=scene.name,
        split="val" if number % HELD_EVERY == HELD_EVERY - 1 else "train",
    )


if __name__ == "__main__":
    main()
