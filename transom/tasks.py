"""Tasks: what the network is asked about a picture, as named sets of classes."""

import re
from collections.abc import Iterable, Iterator

import msgspec

UNKNOWN = "unknown"
CLOSED, AJAR, OPEN = "closed", "ajar", "open"
OTHER = "other"
"""The class of what is none of the things that a task tells apart: no other task has an answer."""
"""Classes that mean something to the device: what counts as shut, and what may count as open."""

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"
RESERVED_NAMES = ("image", "zone", "group", "split", "embedding", "distance")
"""Columns of `labels.csv` and names of the network's own inputs and outputs: never tasks."""

_NAME = re.compile(NAME_PATTERN)


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question with a closed set of answers.

    Attributes:
        name: Lower-case letters, digits and `_`, none of `RESERVED_NAMES`; also the name of the
            network's output and of the column in `labels.csv`.
        classes: At least two distinct class names, in the order of the logits; `unknown` is
            never one of them, because it is what the device says when it does not know.
        ordinal: Whether the classes are ordered (closed < ajar < open), so that confusing
            neighbours costs less than confusing the ends.

    Raises:
        ValueError: A name or a class list breaks these rules.
    """

    name: str
    classes: tuple[str, ...]
    ordinal: bool = False

    def __post_init__(self) -> None:
        for what, name in [("task", self.name), *(("class", c) for c in self.classes)]:
            if not _NAME.fullmatch(name):  # match() would let a final newline pass
                raise ValueError(f"{what} name must match {NAME_PATTERN}, got {name!r}")
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"task must not be named {self.name!r}: {', '.join(RESERVED_NAMES)} mean "
                "something else in labels.csv or in the network; choose another name"
            )
        if len(self.classes) < 2:
            raise ValueError(
                f"task {self.name!r} needs at least 2 classes, got {list(self.classes)}"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"task {self.name!r} names a class twice: {list(self.classes)}")
        if UNKNOWN in self.classes:
            raise ValueError(
                f"task {self.name!r} must not have a class {UNKNOWN!r}: the device says it when it "
                "does not know; leave such pictures unlabelled"
            )

    def index(self, class_name: str) -> int:
        """Return the position of `class_name` among the logits.

        Raises:
            ValueError: The task has no such class.
        """
        try:
            return self.classes.index(class_name)
        except ValueError:
            raise ValueError(
                f"task {self.name!r} has no class {class_name!r}, only {', '.join(self.classes)}"
            ) from None


class TaskSet:
    """Tasks by name, in the order of the network's heads.

    Examples:
        >>> tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
        >>> tasks["state"].index("open")
        1
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks: dict[str, Task] = {}
        for task in tasks:
            if task.name in self._tasks:
                raise ValueError(f"task {task.name!r} is given twice")
            self._tasks[task.name] = task

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __getitem__(self, name: str) -> Task:
        return self._tasks[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TaskSet({list(self)!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return tuple(self._tasks)

    def joined(self, other: "TaskSet") -> "TaskSet":
        """Return the union by name: new tasks and new classes are appended in order.

        Raises:
            ValueError: A task is ordinal in one set and not in the other, or two ordinal tasks
                list different classes (their common order would be a guess).
        """
        merged = dict(self._tasks)
        for task in other:
            mine = merged.get(task.name)
            merged[task.name] = task if mine is None else _join(mine, task)
        return TaskSet(merged.values())


def _join(mine: Task, other: Task) -> Task:
    if mine.ordinal != other.ordinal:
        raise ValueError(f"task {mine.name!r} is ordinal in one data set and not in another")
    if mine.ordinal and mine.classes != other.classes:
        raise ValueError(
            f"ordinal task {mine.name!r} must list the same classes in the same order everywhere, "
            f"got {list(mine.classes)} and {list(other.classes)}"
        )
    extra = tuple(c for c in other.classes if c not in mine.classes)
    return Task(name=mine.name, classes=mine.classes + extra, ordinal=mine.ordinal)
