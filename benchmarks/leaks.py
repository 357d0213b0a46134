"""Do `val` rows show what training rows show, and does a network look better on those?

For each data set: held-out rows that are copies by the perceptual hash, those that show the same
thing by embedding and details, and a network's accuracy on these and on the others. For `doors`,
whose column `source` names the photograph that augmented copies were made of: how many of the
copies the hash finds.

    python benchmarks/leaks.py [RUN|BUNDLE|starter] [--data ../shared/data] [--task state]
"""

import argparse
from pathlib import Path

import numpy as np

from train.corpus import MISSING, Corpus, load_corpus
from train.duplicates import near_duplicates
from train.evaluate import ask, task_targets
from train.evaluate_commands import load_predictor
from train.predictor import Predictor
from train.same_thing import same_things


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", default="state")
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model)
    fed = predictor.input
    for name in ("doors", "kinds"):
        corpus = load_corpus(
            [arguments.data / name], size=fed.size, margin=fed.margin, steps=fed.preprocess
        )
        measure(name, predictor, corpus, arguments.task)
    doors = load_corpus([arguments.data / "doors"], size=fed.size, margin=fed.margin)
    sources = np.array([row.extra.get("source", row.image) for row in doors.rows])
    found = near_duplicates(doors.crops, np.arange(len(doors)))
    again = len(sources) - len(np.unique(sources))
    copies = sum(sources[a] == sources[b] for a, b in found)
    print(f"doors: of {again} further copies of one photograph the hash finds {copies}")


def measure(name: str, predictor: Predictor, corpus: Corpus, task: str) -> None:
    said = ask(predictor, corpus)
    sides = (corpus.splits != "train").astype(np.int64)
    copies = {b for _, b in near_duplicates(corpus.crops, sides)}
    same = {match.held for match in same_things(corpus.crops, said.embedding, sides)}
    held = np.flatnonzero(sides)
    groups = {corpus.groups[row] for row in same}
    print(
        f"{name}: of {len(held)} val rows in {len({corpus.groups[r] for r in held})} groups, "
        f"{len(copies & set(held.tolist()))} are copies by the hash; {len(same)} in {len(groups)} "
        "groups show the same thing as training rows"
    )
    spec = next(spec for spec in predictor.specs if spec.name == task)
    targets, _ = task_targets(spec, corpus)
    right = said.logits[task].argmax(axis=1) == targets
    judged = held[targets[held] != MISSING]
    shown = np.isin(judged, sorted(same))
    if shown.any():
        print(
            f"  {task}: {right[judged][shown].mean():.1%} right of the {shown.sum()} of these that "
            f"are labelled, {right[judged][~shown].mean():.1%} of the other {(~shown).sum()}, "
            f"{right[judged].mean():.1%} of all"
        )


if __name__ == "__main__":
    main()
