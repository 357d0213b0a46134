"""A frozen ImageNet backbone with a linear head, against a fine-tuned bundle, on the same crops.

Door states of `doors`: the head learns on the rows of `train`; both are judged on those of `val`,
doors that neither has seen, with a paired 95 % interval over groups.

    python benchmarks/frozen_probe.py [BUNDLE|starter] [--data ../shared/data]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
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
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    head.fit(features(train), train.targets[:, column])
    probe = head.predict(features(val)) == truth
    logits = np.concatenate(
        [predictor(np.array(val.crops[i : i + 16]))[0][TASK] for i in range(0, len(val), 16)]
    )
    tuned = logits.argmax(axis=1) == truth
    low, high = interval(tuned.astype(float) - probe, np.asarray(val.groups))
    print(f"frozen probe: {probe.mean():.1%} of {len(val)} rows")
    print(f"{arguments.model} ({predictor.precision}): {tuned.mean():.1%}")
    print(
        f"difference: {tuned.mean() - probe.mean():+.1%} (95 % interval {low:+.1%} to {high:+.1%})"
    )


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
