"""The data sets of a command that trains many recipes, read once for each kind of crop."""

from collections.abc import Sequence
from pathlib import Path

import click

from train.corpus import Corpus, load_corpus
from train.progress import progress_bar
from train.recipe import Recipe
from transom.dataset import Mistake


class CorpusLoader:
    """Reads data sets as a recipe wants them; rows that are left out are named once, on stderr.

    Args:
        datasets: Folders of the data sets.
    """

    def __init__(self, datasets: Sequence[Path]) -> None:
        self._datasets = tuple(datasets)
        self._known: dict[tuple[object, ...], Corpus] = {}

    def __call__(self, recipe: Recipe) -> Corpus:
        """Return the corpus in the recipe's size, with its margin and steps.

        Raises:
            DatasetError: The data sets cannot be used (see `load_corpus`).
        """
        key = (recipe.size, recipe.margin, recipe.preprocess)
        if key not in self._known:
            is_first = not self._known
            with progress_bar("reading pictures") as progress:
                self._known[key] = load_corpus(
                    self._datasets,
                    size=recipe.size,
                    margin=recipe.margin,
                    steps=recipe.preprocess,
                    report=_say if is_first else None,
                    progress=progress,
                )
        return self._known[key]


def _say(mistake: Mistake) -> None:
    click.echo(f"left out: {mistake}", err=True)
