"""What `torchrun` starts twice for test_distributed: whole, cut short, and resumed trainings."""

import sys
from pathlib import Path

import numpy as np
import torch

from train.corpus import Corpus
from train.fit import fit
from train.history import Silent
from train.recipe import Recipe
from transom.dataset import Row
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="side", classes=("left", "right")),
        Task(name="shade", classes=("dark", "middle", "bright")),
    ]
)
_OFF = ("flip", "stretch", "shift", "rotate_deg", "brightness", "contrast", "gamma", "saturation")
_OFF = (*_OFF, "tint", "grey", "noise", "blur", "cutout")
# Pictures are varied, and units dropped, by each process for itself: so neither, here.
RECIPE = Recipe(
    backbone="tiny", size=16, margin=0.0, embedding=16, batch=8, epochs=3, dropout=0.0
).with_values(
    {
        "weighting": "uncertainty",
        "reconstruction": 0.1,
        "learning_rate": 1e-3,
        "precision": "float32",
        "augment.zoom": 1.0,
    }
    | {f"augment.{key}": 0.0 for key in _OFF}
)
PRETRAINED = RECIPE.with_values(
    {"backbone": "efficientnet_lite0", "size": 32, "norm": "frozen", "frozen_epochs": 2}
    | {"frozen_views": 1, "learning_rate": 3e-4, "reconstruction": 0.0}
)
STOP_AT = 7
"""Steps: in the second of three epochs of four."""


class StoppedError(Exception):
    """Raised in place of Ctrl-C."""


class StopAfter(Silent):
    """Interrupts a training after some steps."""

    def step(self, done: int, total: int) -> None:
        if done == STOP_AT:
            raise StoppedError


def draw_corpus(recipe: Recipe) -> Corpus:
    """Pictures with a half of some brightness; every seventh is not labelled for one task."""
    scale = recipe.size // 16
    random, n = np.random.default_rng(0), 48
    targets = np.stack([random.integers(0, 2, n), random.integers(0, 3, n)], 1).astype(np.int64)
    crops = random.integers(0, 40, (n, 16, 16, 3)).astype(np.uint8)
    for crop, (side, shade) in zip(crops, targets, strict=True):
        crop[:, 8 * side : 8 * side + 8] += np.uint8(60 * (1 + shade))
    targets[::7, 0] = -1
    rows = tuple(
        Row(
            image=f"{index}.png",
            labels={t.name: t.classes[v] for t, v in zip(TASKS, line, strict=True) if v >= 0},
        )
        for index, line in enumerate(targets.tolist())
    )
    return Corpus(
        tasks=TASKS,
        crops=np.repeat(np.repeat(crops, scale, 1), scale, 2),
        targets=targets,
        groups=tuple(f"drawn/{index}" for index in range(n)),
        splits=np.array(["train"] * 32 + ["val"] * 16),
        rows=rows,
        origins=("drawn",) * n,
        digest="0" * 64,
    )


def train_whole(recipe: Recipe, folder: Path) -> None:
    """Train from beginning to end."""
    fit(recipe, draw_corpus(recipe), folder)


def train_part(recipe: Recipe, folder: Path) -> None:
    """Train until the second epoch, and leave the checkpoint of the first."""
    try:
        fit(recipe, draw_corpus(recipe), folder, progress=StopAfter())
    except StoppedError:
        return
    raise AssertionError("the training was not interrupted")


def resume(recipe: Recipe, folder: Path) -> None:
    """Go on with what another has begun."""
    fit(recipe, draw_corpus(recipe), folder, resume=True)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    train_whole(RECIPE, folder / "two")
    train_part(RECIPE, folder / "begun-by-two")
    resume(RECIPE, folder / "begun-by-one")
    train_whole(PRETRAINED, folder / "pretrained-two")


if __name__ == "__main__":
    main()
