"""Learning from teachers: runs whose answers stand beside the labels.

Teachers look at the same varied picture as the student, because a teacher's answer to another
view is an answer to another question. Only where pictures are neither varied nor mixed are the
teachers asked once, and their answers kept.

References:
    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
    Beyer et al., Knowledge distillation: A good teacher is patient and consistent, CVPR 2022.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from train.cache import take
from train.network import Network, to_image
from train.recipe import Recipe
from train.run import Run
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

_BATCH = 64

Logits = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Answer:
    """What a teacher says of a task of N pictures.

    Attributes:
        classes: (K,) int64, the student's classes that the teacher knows too, at least 2.
        logits: (N, K) float32, calibrated.
    """

    classes: torch.Tensor
    logits: torch.Tensor


Answers = Sequence[Mapping[str, Answer]]
"""For each teacher, by task; a task that it does not know is not there."""


def divergence(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Return how far each row's distribution lies from the teacher's, (N,) float32.

    The Kullback-Leibler divergence of the two at this temperature, times its square, so that the
    gradient is as large at any temperature.

    Args:
        logits: (N, C) of the student.
        teacher: (N, C); no gradient flows through it.
        temperature: Above 0.
    """
    believed = (logits.float() / temperature).log_softmax(1)
    truth = (teacher.detach().float() / temperature).log_softmax(1)
    rows = functional.kl_div(believed, truth, reduction="none", log_target=True).sum(1)
    return rows * temperature**2


class Teachers:
    """Runs that are asked about the student's pictures.

    Args:
        runs: One or more.
        recipe: The student's.
        tasks: The student's.
        crops: (M, S, S, 3) uint8, every crop that will be asked about, by its row.
        device: Where the student is.

    Raises:
        ConfigurationError: A teacher shares no task with the student, or its crops have another
            margin or other steps before: it would be asked about pictures unlike those it knows.
        RunError: A teacher's weights cannot be read.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        recipe: Recipe,
        tasks: TaskSet,
        crops: npt.NDArray[np.uint8],
        device: torch.device,
    ) -> None:
        self._teachers = [_Teacher(run, recipe, tasks, device) for run in runs]
        self._crops = crops
        self._device = device
        self._keeps = recipe.augment.is_off and recipe.mix.is_off
        self._kept: dict[int, list[dict[str, torch.Tensor]]] = {}

    def __call__(self, image: torch.Tensor, rows: npt.NDArray[np.int64]) -> Answers:
        """Ask every teacher.

        Args:
            image: (N, 3, S, S) float32 BGR, 0 to 255, as the student sees it.
            rows: (N,) int64, which crops these are.
        """
        if not self._keeps:
            return [teacher.answers(teacher.logits(image)) for teacher in self._teachers]
        self._look_at([int(row) for row in rows if int(row) not in self._kept])
        return [
            teacher.answers(
                {
                    name: torch.stack([self._kept[int(row)][place][name] for row in rows])
                    for name in teacher.classes
                }
            )
            for place, teacher in enumerate(self._teachers)
        ]

    def _look_at(self, rows: Sequence[int]) -> None:
        rows = list(dict.fromkeys(rows))
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            crops = torch.from_numpy(take(self._crops, np.asarray(part)))
            image = to_image(crops.to(self._device))
            said = [teacher.logits(image) for teacher in self._teachers]
            for place, row in enumerate(part):
                self._kept[row] = [
                    {name: logits[place] for name, logits in by_task.items()} for by_task in said
                ]


class _Teacher:
    """One run, by what it shares with the student."""

    def __init__(self, run: Run, recipe: Recipe, tasks: TaskSet, device: torch.device) -> None:
        if (run.recipe.margin, run.recipe.preprocess) != (recipe.margin, recipe.preprocess):
            raise ConfigurationError(
                f"{run.folder}: margin and preprocess must be the teacher's, "
                f"{run.recipe.margin:g} and {list(run.recipe.preprocess)}, the recipe says "
                f"{recipe.margin:g} and {list(recipe.preprocess)}"
            )
        self.classes = {
            task.name: _shared_classes(task, run.tasks[task.name])
            for task in tasks
            if task.name in run.tasks
        }
        self.classes = {name: pair for name, pair in self.classes.items() if len(pair[0]) > 1}
        if not self.classes:
            raise ConfigurationError(
                f"{run.folder}: this teacher knows {', '.join(run.tasks.names)}, the student "
                f"learns {', '.join(tasks.names)}: no task with two classes in common; leave it out"
            )
        self._device = device
        self._size = run.recipe.size
        self._temperatures = run.temperatures
        self._network: Network = run.network().requires_grad_(False).to(device)

    @torch.no_grad()
    def logits(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return calibrated logits (N, K) by shared task, of the shared classes."""
        if image.shape[2] != self._size:
            image = functional.interpolate(
                image, size=(self._size, self._size), mode="bilinear", antialias=True
            )
        said, _ = self._network(image)
        return {
            name: said[name][:, theirs].float() / self._temperatures.get(name, 1.0)
            for name, (_, theirs) in self.classes.items()
        }

    def answers(self, logits: Logits) -> dict[str, Answer]:
        return {
            name: Answer(torch.tensor(self.classes[name][0], device=self._device), values)
            for name, values in logits.items()
        }


def _shared_classes(student: Task, teacher: Task) -> tuple[list[int], list[int]]:
    """The places of the classes that both have, among the student's and the teacher's."""
    names = [name for name in student.classes if name in teacher.classes]
    return [student.index(name) for name in names], [teacher.index(name) for name in names]


class Guidance(nn.Module):
    """Puts what teachers say beside the labels.

    Args:
        recipe: How much, and how soft.
        tasks: In the order of the losses.
    """

    def __init__(self, recipe: Recipe, tasks: TaskSet) -> None:
        super().__init__()
        self._tasks = tasks
        self._weight = recipe.distill.weight
        self._temperature = recipe.distill.temperature

    def forward(
        self,
        losses: torch.Tensor,
        labelled: torch.Tensor,
        logits: Logits,
        answers: Answers,
        heard: torch.Tensor,
        alone: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses (T,) with the teachers' part, and (T,) bool which tasks learn.

        A task that no teacher knows keeps its loss as it is, and so does a row on which they are
        not heard.

        Args:
            losses: (T,) mean loss on the labels.
            labelled: (T,) bool, whether the batch has a label of the task.
            logits: By task (N, C), the student's.
            answers: Of the teachers on the same pictures.
            heard: (N,) float32, how much of each picture is of rows on which teachers are heard,
                0 to 1.
            alone: (T,) the part of `losses` that comes from the others.
        """
        guided = []
        for place, task in enumerate(self._tasks):
            distances = [
                (
                    heard
                    * divergence(
                        logits[task.name][:, said[task.name].classes],
                        said[task.name].logits,
                        self._temperature,
                    )
                ).mean()
                for said in answers
                if task.name in said
            ]
            loss = losses[place]
            if distances:
                taught = torch.stack(distances).mean()
                loss = (1.0 - self._weight) * loss + self._weight * (taught + alone[place])
            guided.append(loss)
        known = {name for said in answers for name in said}
        taught_tasks = torch.tensor([name in known for name in self._tasks.names])
        return torch.stack(guided), labelled | (
            taught_tasks.to(labelled.device) & (self._weight > 0)
        )


def heard_rows(recipe: Recipe, origins: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return (N,) whether teachers are heard on a row.

    Args:
        recipe: Names the data sets on which they are.
        origins: N names of data sets.

    Raises:
        ConfigurationError: It names a data set that is not there.
    """
    named = recipe.distill.datasets
    for name in named:
        if name not in origins:
            raise ConfigurationError(
                f"recipe: distill.datasets must name data sets that are trained on "
                f"({', '.join(sorted(set(origins)))}), got {name!r}"
            )
    return np.isin(origins, named) if named else np.ones(len(origins), np.bool_)
