"""What tells pictures of anything else apart from doors: sureness, energy, or where they lie?

A network's scores on `val` rows of what it learnt from, against MNIST, CIFAR-10 and, for a network
that has not learnt them, the other things of `kinds`. The distance is fitted here on training rows,
so that a network without one in its bundle is measured too. `shift` is what a limit costs that lets
97.5 % of `val` rows pass: the share of doors from other photographers (`kinds`) beyond it.

    python benchmarks/unlike.py [RUN|BUNDLE|starter] [--trained doors,kinds] [--data ../shared/data]
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from train.corpus import MISSING, Corpus, load_corpus
from train.evaluate import ask, label_classes, task_targets
from train.evaluate_commands import load_predictor
from train.importers import import_cifar10, import_idx
from train.metrics import group_indices
from train.predictor import Predictor, Said
from train.told_apart import separation
from train.unlike import fit_distance, reference_rows
from transom.prediction import energy, softmax

PICTURES = 1000
COVERAGE = 0.975

Score = Callable[[Said], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--trained", default="doors,kinds", help="what the network learnt from")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model)
    trained = arguments.trained.split(",")
    mine = read(predictor, [arguments.data / name for name in trained])
    kinds = read(predictor, [arguments.data / "kinds"]).split("val")
    labels = np.array([row.labels.get("kind", "") for row in kinds.rows])
    with tempfile.TemporaryDirectory() as temporary:
        others = {
            name: read(predictor, [folder])
            for name, folder in imported(arguments.data, Path(temporary)).items()
        }
        if "kinds" not in trained:
            others["kinds, other"] = kinds.select(np.flatnonzero(labels == "other"))
        shift = kinds.select(np.flatnonzero(labels == "door"))
        measure(predictor, mine, others, shift)


def imported(data: Path, folder: Path) -> dict[str, Path]:
    import_idx(data / "mnist", folder / "mnist", task="digit", limit=PICTURES // 2)
    import_cifar10(data / "cifar-10-batches-bin", folder / "cifar10", task="object", limit=PICTURES)
    return {"MNIST": folder / "mnist", "CIFAR-10": folder / "cifar10"}


def read(predictor: Predictor, folders: list[Path]) -> Corpus:
    fed = predictor.input
    return load_corpus(folders, size=fed.size, margin=fed.margin, steps=fed.preprocess)


def measure(predictor: Predictor, mine: Corpus, others: dict[str, Corpus], shift: Corpus) -> None:
    val = mine.split("val")
    said, moved = ask(predictor, val), ask(predictor, shift)
    answers = {name: ask(predictor, corpus) for name, corpus in others.items()}
    names = ", ".join(f"{name} ({len(corpus)})" for name, corpus in others.items())
    print(f"{len(val)} val rows against {names}; AUROC, 95 % interval, share beyond the limit")
    for name, score in scores(predictor, mine.split("train")).items():
        inside = score(said)
        limit = np.quantile(inside, COVERAGE)
        parts = []
        for other, answer in answers.items():
            outside, groups = score(answer), group_indices(others[other].groups)
            found = separation(inside, outside, group_indices(val.groups), groups)
            low, high = found.interval or (0.0, 1.0)
            beyond = (outside > limit).mean()
            parts.append(f"{other} {found.auroc:.3f} ({low:.3f} to {high:.3f}) {beyond:.0%}")
        print(f"{name:<24}{'; '.join(parts)}; shift {(score(moved) > limit).mean():.0%}")


def scores(predictor: Predictor, train: Corpus) -> dict[str, Score]:
    """Return what is compared, by name; high = unlike training."""
    found: dict[str, Score] = {}
    for task in predictor.tasks.names:
        found[f"sureness of {task}"] = lambda said, task=task: -softmax(said.logits[task]).max(1)
        found[f"energy of {task}"] = lambda said, task=task: energy(said.logits[task])
    known = train.select(reference_rows(train.groups))
    embedding = ask(predictor, known).embedding
    found["distance"] = distance(embedding, label_classes(predictor.tasks, known))
    targets = np.stack([task_targets(task, known)[0] for task in predictor.tasks], axis=1)
    every = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    found["distance, all labels"] = distance(embedding, every)
    for task, truth in zip(predictor.tasks.names, targets.T, strict=True):
        labelled = truth != MISSING
        if len(np.unique(truth[labelled])) > 1:
            found[f"distance, {task} alone"] = distance(embedding[labelled], truth[labelled])
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)

    def neighbours(said: Said) -> np.ndarray:
        lengths = np.linalg.norm(said.embedding, axis=1, keepdims=True)
        return 1 - np.sort(said.embedding / lengths @ unit.T, axis=1)[:, -10]

    return {**found, "tenth neighbour, cosine": neighbours}


def distance(embedding: np.ndarray, classes: np.ndarray) -> Score:
    fitted = fit_distance(embedding, classes)
    if fitted is None:
        raise SystemExit("too few training rows for a distance")
    return lambda said: fitted(said.embedding)


if __name__ == "__main__":
    main()
