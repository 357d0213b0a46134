"""One worker of a search that test_tune_postgres shares: URL, data set and folder are arguments.

It says `begun` once it is in its first trial, and goes on when it is told to: so that two workers
are seen to have one trial each at the same time.
"""

import sys
from pathlib import Path

import torch

from train.corpus import Corpus, load_corpus
from train.recipe import Recipe
from train.search_space import Range
from train.tune import open_storage, search

RECIPE = Recipe(
    backbone="tiny", size=16, margin=0.0, embedding=16, batch=8, epochs=1, learning_rate=1e-3
)
SPACE = {"learning_rate": Range(1e-4, 1e-2, is_log=True)}
STUDY = "shared"
TRIALS = 4


def main(url: str, data: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    corpus, calls = load_corpus([data], size=RECIPE.size, margin=RECIPE.margin), 0

    def load(_: Recipe) -> Corpus:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first is before any trial
            sys.stdout.write("begun\n")
            sys.stdout.flush()
            sys.stdin.readline()
        return corpus

    folder.mkdir()
    search(RECIPE, SPACE, load, folder, open_storage(url, folder), name=STUDY, trials=TRIALS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
