"""Reading the data sets of a command: a bar while it lasts, a line for every row left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import click

from train.corpus import Corpus, load_corpus
from train.progress import progress_bar
from transom.dataset import Mistake
from transom.preprocess import Steps


class Fed(Protocol):
    """What says how crops are made: a recipe, or the input of a run or a bundle."""

    @property
    def size(self) -> int:
        """Side of the crops, pixels."""

    @property
    def margin(self) -> float:
        """Context around the zone, as a share of its own sides."""

    @property
    def preprocess(self) -> Steps:
        """Steps on every crop, in their order."""


def read_corpus(
    datasets: Sequence[Path], fed: Fed, *, allow_leaks: bool = False, is_quiet: bool = False
) -> Corpus:
    """Read data sets as a network is fed, with a bar on stderr where a person watches.

    Args:
        datasets: Folders of the data sets.
        fed: Whose crops they shall be.
        allow_leaks: Keep splits that divide a group (see `load_corpus`).
        is_quiet: Do not name the rows that are left out.

    Raises:
        DatasetError: The data sets cannot be used (see `load_corpus`).
    """
    with progress_bar("reading pictures") as progress:
        return load_corpus(
            datasets,
            size=fed.size,
            margin=fed.margin,
            steps=fed.preprocess,
            report=None if is_quiet else _say,
            progress=progress,
            allow_leaks=allow_leaks,
        )


class CorpusLoader:
    """The data sets of a command that trains many recipes, read once for each kind of crop.

    Rows that are left out are named once.

    Args:
        datasets: Folders of the data sets.
    """

    def __init__(self, datasets: Sequence[Path]) -> None:
        self._datasets = tuple(datasets)
        self._known: dict[tuple[object, ...], Corpus] = {}

    def __call__(self, fed: Fed) -> Corpus:
        """Return the corpus in a recipe's size, with its margin and steps.

        Raises:
            DatasetError: The data sets cannot be used (see `load_corpus`).
        """
        key = (fed.size, fed.margin, fed.preprocess)
        if key not in self._known:
            self._known[key] = read_corpus(self._datasets, fed, is_quiet=bool(self._known))
        return self._known[key]


def _say(mistake: Mistake) -> None:
    click.echo(f"left out: {mistake}", err=True)
