"""torchmetrics imports torchvision wherever it is installed, fit for this PyTorch or not."""

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from train.backbones.torchvision_operators import prepare_torchvision
from train.corpus import MISSING, Corpus
from transom.dataset import Row
from transom.tasks import Task, TaskSet

if importlib.util.find_spec("torchvision") is not None:
    prepare_torchvision()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: small networks are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def draw_halves() -> Callable[..., Corpus]:
    """A function that draws pictures with a bright half: which side it is, and how bright.

    Some rows have no label of one task or the other; two pictures are a group.
    """
    tasks = TaskSet(
        [
            Task(name="side", classes=("left", "right")),
            Task(name="shade", classes=("dark", "middle", "bright"), ordinal=True),
        ]
    )

    def draw(n: int = 64, seed: int = 0, noise: int = 40) -> Corpus:
        random = np.random.default_rng(seed)
        targets = np.stack([random.integers(0, 2, n), random.integers(0, 3, n)], 1)
        crops = random.integers(0, noise, (n, 16, 16, 3)).astype(np.uint8)
        for crop, (side, shade) in zip(crops, targets, strict=True):
            crop[:, 8 * side : 8 * side + 8] += np.uint8(40 * (1 + shade))
        targets[::7, 0] = MISSING
        targets[3::7, 1] = MISSING
        rows = tuple(
            Row(
                image=f"{index}.png",
                labels={
                    task.name: task.classes[label]
                    for task, label in zip(tasks, labels, strict=True)
                    if label != MISSING
                },
            )
            for index, labels in enumerate(targets)
        )
        return Corpus(
            tasks=tasks,
            crops=crops,
            targets=targets.astype(np.int64),
            groups=tuple(f"drawn/{index // 2}" for index in range(n)),
            splits=np.array(["train"] * (n - 32) + ["val"] * 16 + ["test"] * 16),
            rows=rows,
            origins=("drawn",) * n,
            digest=f"{seed:064d}",
        )

    return draw
