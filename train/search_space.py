"""Which recipe keys a search may change, and in what range."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna

from train.recipe import Recipe, parse_setting
from transom.errors import ConfigurationError
from transom.tasks import TaskSet

Value = str | int | float | bool


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both allowed.

    Attributes:
        low: Smallest.
        high: Largest.
        is_log: Drawn by factors and not by differences.
        is_whole: Whole numbers only.
    """

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    def suggest(self, trial: optuna.Trial, key: str) -> Value:
        """Ask a trial for a value."""
        if self.is_whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.is_log)
        return trial.suggest_float(key, self.low, self.high, log=self.is_log)

    def holds(self, value: object) -> bool:
        """Whether a value is in the range."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= float(str(value)) <= self.high

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that must be possible for all to be."""
        ends = (self.low, self.high)
        return tuple(map(int, ends)) if self.is_whole else ends

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' if self.is_log else ''}"


@dataclass(frozen=True)
class Choice:
    """Some values without an order."""

    values: tuple[Value, ...]

    def suggest(self, trial: optuna.Trial, key: str) -> Value:
        """Ask a trial for a value."""
        return self.values[self.values.index(trial.suggest_categorical(key, self.values))]

    def holds(self, value: object) -> bool:
        """Whether a value is one of them."""
        return value in self.values

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that must be possible for all to be."""
        return self.values

    def __str__(self) -> str:
        return ",".join(map(str, self.values))


Space = Mapping[str, Range | Choice]


def parse_space(texts: Sequence[str]) -> Space:
    """Read `KEY=LOW..HIGH`, `KEY=LOW..HIGH:log` or `KEY=A,B`.

    Two whole ends make a range of whole numbers.

    Raises:
        ValueError: It is neither, or a key is there twice.

    Examples:
        >>> parse_space(["learning_rate=1e-4..1e-2:log", "backbone=tiny,lenet"])["backbone"]
        Choice(values=('tiny', 'lenet'))
    """
    space: dict[str, Range | Choice] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not (key and equals and values):
            raise ValueError(f"must be KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B, got {text!r}")
        if key in space:
            raise ValueError(f"{key} is given twice")
        space[key] = _range(key, values) if ".." in values else _choice(key, values)
    return space


def default_space(tasks: TaskSet) -> tuple[Space, dict[str, object]]:
    """Return what to search where nobody says, and recipe values that this needs.

    Learning rate, regularisation and how much pictures are varied; with several tasks also their
    weights, because tuned fixed weights are not beaten by methods that balance (Xin et al. and
    Kurin et al., both NeurIPS 2022). The first task's weight stays 1: only ratios matter.
    """
    space: dict[str, Range | Choice] = {
        "learning_rate": Range(2e-4, 5e-3, is_log=True),
        "backbone_rate": Range(0.05, 1.0, is_log=True),
        "weight_decay": Range(1e-3, 0.2, is_log=True),
        "dropout": Range(0.0, 0.5),
        "label_smoothing": Range(0.0, 0.15),
        "augment.zoom": Range(0.5, 1.0),
        "augment.cutout": Range(0.0, 0.5),
        "sampling": Choice(("shuffled", "class_balanced", "group_balanced")),
    }
    if len(tasks) < 2:
        return space, {}
    weights = {f"task_weights.{name}": Range(0.25, 4.0, is_log=True) for name in tasks.names[1:]}
    return {**space, **weights}, {"weighting": "fixed"}


def check_space(space: Space, recipe: Recipe) -> None:
    """Refuse what no recipe can have.

    Raises:
        ConfigurationError: There is no such key, or an end of a range is not allowed.
    """
    for key, searched in space.items():
        for value in searched.ends:
            recipe.with_values({key: value})


def start_values(space: Space, recipe: Recipe) -> dict[str, Value]:
    """Return the recipe's own values of the searched keys, where the search could have them."""
    own: dict[str, Value] = {}
    for key, searched in space.items():
        value: object = recipe
        for name in key.split("."):
            is_table = isinstance(value, Mapping)
            value = value.get(name, 1.0) if isinstance(value, Mapping) else getattr(value, name)
            if is_table and not isinstance(value, int | float):
                break
        if searched.holds(value) and isinstance(value, str | int | float | bool):
            own[key] = value
    return own


def _range(key: str, text: str) -> Range:
    body, _, kind = text.partition(":")
    low, _, high = body.partition("..")
    ends = [parse_setting(f"{key}={end}")[1] for end in (low or "?", high or "?")]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) < 2 or kind not in ("", "log") or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{key} must be LOW..HIGH or LOW..HIGH:log, two numbers, got {text!r}")
    if not numbers[0] < numbers[1] or (kind and numbers[0] <= 0):
        raise ValueError(
            f"{key} must rise from LOW to HIGH{', both above 0' if kind else ''}, got {text!r}"
        )
    is_whole = all(isinstance(number, int) for number in numbers)
    return Range(float(numbers[0]), float(numbers[1]), kind == "log", is_whole)


def _choice(key: str, text: str) -> Choice:
    values = [parse_setting(f"{key}={part.strip()}")[1] for part in text.split(",")]
    plain = tuple(value for value in values if isinstance(value, str | int | float | bool))
    if len(plain) < len(values) or len(set(plain)) < 2:
        raise ValueError(f"{key} must be two values or more, with commas between, got {text!r}")
    return Choice(tuple(dict.fromkeys(plain)))


def require_known(space: Space) -> None:
    """Refuse to search the seed: the best seed is only the luckiest.

    Raises:
        ConfigurationError: It is in the space.
    """
    if "seed" in space:
        raise ConfigurationError(
            "seed cannot be searched: the best of many seeds is the luckiest, and a new one is "
            "drawn by every other training"
        )
