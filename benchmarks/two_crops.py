"""What several looks at a zone agree on: is their mean right more often than one crop?

The network is asked about each `val` row of `doors` as it is, mirrored, with more and with less
around it, and the probabilities are averaged. Accuracy of `state`, its change against the one
crop with a 95 % interval, paired by row and resampled by group, and how often the looks agree.

    python benchmarks/two_crops.py [RUN|BUNDLE|starter] [--data ../shared/data]
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.corpus import MISSING, Corpus, load_corpus
from train.evaluate import ask_crops
from train.evaluate_commands import load_predictor
from train.metrics import group_indices, mean_interval
from train.predictor import Predictor
from transom.prediction import softmax

TASK = "state"
FURTHER = 0.1
"""How much more or less is seen around the zone, as a share of its size."""

Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model)
    folder = arguments.data / "doors"
    plain = seen(predictor, folder, 0.0)
    looks = {
        "mirrored": said(predictor, plain, mirrored=True),
        "more around": said(predictor, seen(predictor, folder, FURTHER)),
        "less around": said(predictor, seen(predictor, folder, -FURTHER)),
    }
    once = said(predictor, plain)
    targets = plain.targets[:, plain.tasks.names.index(TASK)]
    judged = targets != MISSING
    groups = group_indices(plain.groups)[judged]
    alone = (once.argmax(1) == targets)[judged]
    print(f"{judged.sum()} rows of {groups.max() + 1} groups; one crop: {alone.mean():.1%}")
    ways = {f"and {name}": [looks[name]] for name in looks} | {"all four": list(looks.values())}
    for name, others in ways.items():
        mean = np.mean([once, *others], axis=0)
        agree = np.all([other.argmax(1) == once.argmax(1) for other in others], axis=0)[judged]
        right = (mean.argmax(1) == targets)[judged]
        low, high = mean_interval(right.astype(float) - alone, groups) or (np.nan, np.nan)
        print(
            f"{name}: {right.mean():.1%}, {100 * (right.mean() - alone.mean()):+.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f}); all looks agree on {agree.mean():.1%}, of "
            f"which {alone[agree].mean():.1%} are right"
        )


def seen(predictor: Predictor, folder: Path, further: float) -> Corpus:
    """Return the `val` rows, with more or less around each zone than the network is used to."""
    fed = predictor.input
    return load_corpus(
        [folder], size=fed.size, margin=fed.margin + further, steps=fed.preprocess
    ).split("val")


def said(predictor: Predictor, corpus: Corpus, *, mirrored: bool = False) -> Floats:
    """Return the probabilities (N, C)."""
    crops = np.asarray(corpus.crops)
    crops = np.ascontiguousarray(crops[:, :, ::-1]) if mirrored else crops
    return np.asarray(softmax(ask_crops(predictor, crops).logits[TASK]), np.float64)


if __name__ == "__main__":
    main()
