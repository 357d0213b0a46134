"""Measure the gate before the network: what wakes it, and whether an opening can pass it by.

    python -m benchmarks.motion_gate
    python -m benchmarks.motion_gate --rooms 20

Drawn rooms with a door and a window, as a camera sees them, with its noise and its compression.
Openings are counted from the moment in which the leaf begins to move; a gate that lets a picture
through before the leaf has come to rest has missed nothing. Light changes in a still room: the day,
clouds whose edges cross the zone, a lamp. Beside each stands what looking every ten seconds alone
would take.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.clips import read_file
from edge_runtime.motion import GATE_PX, LOOK_EVERY_S, MotionGate
from train.scenes.clip import DEFAULT_SCRIPT, ClipTruth, generate_clip
from transom.crop import grey_zone

Image = npt.NDArray[np.uint8]
Light = Callable[[float], npt.NDArray[Any]]
"""From seconds to what every pixel of the frame is multiplied with, (H, W, 1)."""

FPS = 5
SIZE = (640, 480)
QUIET_S = 120.0
SUBJECTS = ("door", "window")


def no_change(_now_s: float) -> npt.NDArray[Any]:
    return np.ones((1, 1, 1))


def day(now_s: float) -> npt.NDArray[Any]:
    """A third of the light more in ten minutes."""
    return np.full((1, 1, 1), 1.0 + now_s / 1800.0)


def clouds(now_s: float) -> npt.NDArray[Any]:
    """Shadows with soft edges cross the room, one in half a minute; they take a third of it."""
    columns = np.linspace(0.0, 1.0, SIZE[0])[None, :, None]
    return 1.0 - 0.17 * (1.0 + np.sin(2 * np.pi * (columns - now_s / 30.0)))


def lamp(now_s: float) -> npt.NDArray[Any]:
    """A lamp at one side goes on and off, each time for half a minute."""
    columns = np.linspace(0.0, 1.0, SIZE[0])[None, :, None]
    return 1.0 + (int(now_s / 30.0) % 2) * 0.6 * np.exp(-((columns / 0.6) ** 2))


LIGHTS: dict[str, Light] = {
    "nothing": no_change, "the day": day, "clouds": clouds, "a lamp, twice a minute": lamp
}  # fmt: skip


def draw_rooms(folder: Path, count: int) -> Iterator[tuple[list[Image], ClipTruth]]:
    """Yield the pictures of rooms in which a door and a window open and shut, and the truth."""
    for seed in range(count):
        truth = generate_clip(folder / "room.mp4", seed=500 + seed, fps=FPS, size=SIZE)
        yield [picture.image for picture in read_file(folder / "room.mp4")], truth


def openings(frames: list[Image], truth: ClipTruth) -> Iterator[float | None]:
    """Yield, for each move of a leaf, seconds until the gate passed it; None = missed."""
    for subject in SUBJECTS:
        gate = MotionGate(look_every_s=1e9, hold_s=0.0)  # nothing but what it sees
        passed = [
            gate.is_due(grey_zone(image, truth.zones[subject], GATE_PX), index / FPS)
            for index, image in enumerate(frames)
        ]
        for move in DEFAULT_SCRIPT:
            if move.subject == subject:
                first, last = (
                    round(s * FPS) for s in (move.start_s, move.start_s + move.duration_s)
                )
                seen = [index for index in range(first, last + 2) if passed[index]]
                yield seen[0] / FPS - move.start_s if seen else None


def looks(still: list[Image], truth: ClipTruth, light: Light, subject: str) -> float:
    """Return the share of pictures of a still room that the gate lets through, after its first."""
    gate = MotionGate()
    due = []
    for index in range(round(QUIET_S * FPS)):
        image = still[index % len(still)] * light(index / FPS)
        lit = np.clip(image, 0, 255).astype(np.uint8)
        due.append(gate.is_due(grey_zone(lit, truth.zones[subject], GATE_PX), index / FPS))
    settled = due[10 * FPS :]
    return sum(settled) / len(settled)


def measure(rooms: int) -> dict[str, Any]:
    """Return the delays of all openings, and the shares of pictures looked at under each light."""
    delays: list[float | None] = []
    shares: dict[str, list[float]] = {name: [] for name in LIGHTS}
    with tempfile.TemporaryDirectory() as folder:
        for frames, truth in draw_rooms(Path(folder), rooms):
            delays += openings(frames, truth)
            still = frames[: round(min(move.start_s for move in DEFAULT_SCRIPT) * FPS) - 1]
            for name, light in LIGHTS.items():
                shares[name] += [looks(still, truth, light, subject) for subject in SUBJECTS]
    seen = [delay for delay in delays if delay is not None]
    return {
        "openings": len(delays),
        "missed": len(delays) - len(seen),
        "delay_s": {"median": float(np.median(seen)), "most": max(seen)} if seen else None,
        "looked_at": {name: float(np.mean(values)) for name, values in shares.items()},
        "looked_at_most": {name: max(values) for name, values in shares.items()},
        "periodic_look_alone": 1.0 / (LOOK_EVERY_S * FPS),
    }


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rooms", type=int, default=10)
    print(json.dumps(measure(parser.parse_args().rooms), indent=1))


if __name__ == "__main__":
    main()
