"""Whether a network's answers to the goldens of its bundle are right."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from transom.goldens import Goldens
from transom.session import Precision
from transom.tasks import Task, TaskSet

Floats = npt.NDArray[np.float32]


def why_wrong(
    goldens: Goldens, tasks: TaskSet, found: Mapping[str, Floats], precision: Precision
) -> str | None:
    """Return which answer is wrong and by how much; None = all are right.

    Processors round differently, so logits may differ by the bundle's tolerance; the class must
    be the same.

    Args:
        goldens: Of a bundle.
        tasks: Its heads.
        found: By task, what the network says of the golden crops, (N, C).
        precision: In which it was run.
    """
    tolerance = goldens.tolerance
    if precision == "float32" and goldens.float32_tolerance is not None:
        tolerance = goldens.float32_tolerance
    wrong = (
        _why_wrong(task, goldens.logits[task.name], found[task.name], tolerance) for task in tasks
    )
    return next((reason for reason in wrong if reason is not None), None)


def _why_wrong(task: Task, expected: Floats, found: Floats, tolerance: float) -> str | None:
    differences = np.abs(found - expected).max(axis=1)
    worst = int(differences.argmax())
    if not differences[worst] <= tolerance:
        return (
            f"golden {worst} differs by {differences[worst]:.3g} in task {task.name!r}, "
            f"{tolerance:g} is allowed"
        )
    wrong = np.flatnonzero(found.argmax(axis=1) != expected.argmax(axis=1))
    if not len(wrong):
        return None
    which = int(wrong[0])
    return (
        f"golden {which} is {task.classes[int(found[which].argmax())]!r} here, must be "
        f"{task.classes[int(expected[which].argmax())]!r} (task {task.name!r})"
    )
