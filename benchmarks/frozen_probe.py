"""A frozen ImageNet backbone with a linear head, against a fine-tuned network, on the same crops.

Door states of `doors`: the head learns on the rows of `train`, its regularisation chosen by folds
over their groups; both are judged on the rows of `val`, doors that neither has seen, with a paired
95 % interval over groups.

    python benchmarks/frozen_probe.py [BUNDLE|RUN|starter] [--data ../shared/data]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from train.backbones import BACKBONES
from train.corpus import Corpus, load_corpus
from train.evaluate_commands import load_predictor
from train.network import to_image

TASK = "state"
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model)
    corpus = load_corpus(
        [arguments.data / "doors"], size=predictor.input.size, margin=predictor.input.margin
    )
    train, val = corpus.split("train"), corpus.split("val")
    column = corpus.tasks.names.index(TASK)
    truth = val.targets[:, column]
    probe = tuned_head(train, column).predict(features(val)) == truth
    logits = np.concatenate(
        [predictor(np.array(val.crops[i : i + 16]))[0][TASK] for i in range(0, len(val), 16)]
    )
    tuned = logits.argmax(axis=1) == truth
    groups = np.asarray(val.groups)
    for name, right in (("frozen probe", probe), (f"fine-tuned, {predictor.precision}", tuned)):
        low, high = interval(right.astype(float), groups)
        print(f"{name}: {right.mean():.1%} ({low:.1%} to {high:.1%}) of {len(val)} rows")
    low, high = interval(tuned.astype(float) - probe, groups)
    print(
        f"difference: {tuned.mean() - probe.mean():+.1%} (95 % interval {low:+.1%} to {high:+.1%})"
    )


def tuned_head(train: Corpus, column: int) -> GridSearchCV:
    """Fit the head for a task, with the regularisation that is best on groups left out in turn."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    strengths = {"logisticregression__C": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}
    search = GridSearchCV(head, strengths, cv=GroupKFold(5))
    search.fit(features(train), train.targets[:, column], groups=train.groups)
    print(f"regularisation chosen: {search.best_params_}")
    return search


@torch.inference_mode()
def features(corpus: Corpus) -> np.ndarray:
    """Return the pooled last map of Lite0 with ImageNet weights, float32 (N, 1280)."""
    trunk = BACKBONES["efficientnet_lite0"].trunk(True).eval()
    parts = [
        trunk(to_image(torch.from_numpy(np.array(corpus.crops[i : i + 64]))))[-1].mean((2, 3))
        for i in range(0, len(corpus), 64)
    ]
    return torch.cat(parts).numpy()


def interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return a bootstrap interval of the mean, over groups."""
    random = np.random.default_rng(0)
    names, codes = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    drawn = random.integers(len(names), size=(DRAWS, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
