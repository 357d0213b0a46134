"""What a comparison trains: combinations of recipe keys, and single-task networks beside them.

Single-task networks come in two kinds: each as large as the shared network, and on smaller crops,
so that all of them together cost what one shared network does.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from train.backbones import BACKBONES
from train.recipe import Recipe
from transom.errors import ConfigurationError

MakeRecipe = Callable[[Mapping[str, object]], Recipe]
"""Returns the recipe with some keys set, such as `Recipe().with_values`."""

_SIZE_STEP = 8  # pixels; a backbone's maps are rounded to whole steps anyway


@dataclass(frozen=True)
class Variant:
    """One combination of the varied keys.

    Attributes:
        settings: The varied keys and their values; empty where nothing is varied.
        recipe: The whole recipe, with the first seed.
        is_single: A network for each task, in place of one for all.
        is_budget: Single-task networks that together cost what one shared network does.
    """

    settings: Mapping[str, object]
    recipe: Recipe
    is_single: bool = False
    is_budget: bool = False

    @property
    def name(self) -> str:
        """The varied values as a person says them."""
        said = ", ".join(_said(key, value) for key, value in self.settings.items())
        if not self.is_single:
            return said or "as the recipe says"
        kind = "a network per task"
        if self.is_budget:
            kind += f", {self.recipe.size} px each"
        return f"{kind} ({said})" if said else kind


def plan_variants(
    make: MakeRecipe,
    varied: Mapping[str, Sequence[object]],
    *,
    has_singles: bool = True,
    budget_tasks: int = 0,
) -> tuple[Variant, ...]:
    """Return every combination of the varied keys, and the single-task networks for them.

    Args:
        make: Gives the recipe of a combination; it knows what is not varied.
        varied: Values by recipe key, dotted where it is in a table.
        has_singles: Whether to compare with single-task networks, each as large as a shared one.
        budget_tasks: How many tasks a shared network has, to compare it also with single-task
            networks that together cost no more; 0 = do not. Where their crops would be too small
            for a backbone, there are none for it.

    Raises:
        ConfigurationError: There is no such key, or a value is not one it can have.
    """
    if "seed" in varied:
        raise ConfigurationError("seed cannot be varied as a key; --seeds says how many there are")
    combinations = [
        dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
    ]
    variants = [Variant(settings, make(settings)) for settings in combinations]
    singles: dict[str, Variant] = {}
    for variant in variants:
        own = alone(variant.recipe)
        settings = {k: v for k, v in variant.settings.items() if not _is_between_tasks(k)}
        if has_singles:
            singles.setdefault(own.digest, Variant(settings, own, is_single=True))
        small = affordable(own, budget_tasks) if budget_tasks > 1 else None
        if small is not None:
            settings.pop("size", None)  # the name says the one that they have
            single = Variant(settings, small, is_single=True, is_budget=True)
            singles.setdefault(small.digest, single)
    return (*variants, *singles.values())


def _is_between_tasks(key: str) -> bool:
    """Whether a recipe key means nothing where a network has one task."""
    return key.partition(".")[0] in ("weighting", "task_weights", "fusion")


def alone(recipe: Recipe) -> Recipe:
    """Return the recipe of a network for one task: nothing in it is between tasks."""
    return msgspec.structs.replace(recipe, weighting="equal", task_weights={}, fusion="hard")


def affordable(recipe: Recipe, tasks: int) -> Recipe | None:
    """Return the recipe on crops so small that a network per task costs what one costs.

    Convolutions cost in proportion to the pixels. None where the backbone takes no such crop.
    """
    size = int(recipe.size / math.sqrt(tasks)) // _SIZE_STEP * _SIZE_STEP
    if size < BACKBONES[recipe.backbone].minimum_size:
        return None
    return msgspec.structs.replace(recipe, size=size)


def _said(key: str, value: object) -> str:
    # Names of parts speak for themselves: `tiny`, `dwa`; numbers do not.
    return value if isinstance(value, str) else f"{key} {value}"
