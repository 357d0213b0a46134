"""How often does a network give a state to a picture that has none, where it answers 95 % of doors?

Good pictures are the `val` rows of `doors`. The limit of the rule for the unknown is moved until
95 % of them are answered; then it is asked about spoilt copies of them, about other things, digits,
animals and vehicles. A false answer names a door or a window and its state. Beside the network
alone stands what the daemon does: it looks at the picture's health first.

    python benchmarks/abstain.py [RUN|BUNDLE|starter] [--data ../shared/data] [--coverage 0.95]
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from unlike import imported, read

from edge_runtime.picture import PictureHealth
from train.corpus import Corpus
from train.evaluate import ask, ask_crops
from train.evaluate_commands import load_predictor
from train.metrics import wilson_interval
from train.predictor import Predictor, Said
from transom.manifest import UnknownRule
from transom.prediction import UNKNOWN_INDEX, energy, predict

Crops = npt.NDArray[np.uint8]
Spoil = Callable[[Crops, np.random.Generator], Crops]

NEITHER = "other"
"""The class of `kind` that has no state."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--coverage", type=float, default=0.95)
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model)
    good = read(predictor, [arguments.data / "doors"]).split("val")
    rule = Rule(predictor, ask(predictor, good), arguments.coverage)
    print(f"{rule.coverage:.1%} of {len(good)} good pictures answered, by {rule.score}")
    print("| pictures | n | given a state, network alone | with the daemon's look at the picture |")
    print("|---|---:|---:|---:|")
    for name, crops in bad_pictures(predictor, good, arguments.data).items():
        false = rule.gives_state(ask_crops(predictor, crops))
        healthy = np.array([PictureHealth().judge(crop, 0.0) is None for crop in crops])
        print(f"| {name} | {len(crops)} | {share(false)} | {share(false & healthy)} |")


class Rule:
    """When a state is answered.

    Args:
        predictor: The network.
        good: What it says of pictures that shall be answered.
        coverage: Share of them.
    """

    def __init__(self, predictor: Predictor, good: Said, coverage: float) -> None:
        by_name = {spec.name: spec for spec in predictor.specs}
        self._kind, state = by_name["kind"], by_name["state"]
        self.score = "energy" if good.distance is None else "distance"
        scores = energy(good.logits["state"]) if good.distance is None else good.distance
        open_ended = replace(state, unknown=UnknownRule())
        answered = predict(good.logits["state"], open_ended, good.distance).classes != UNKNOWN_INDEX
        wanted = coverage * len(scores) / max(int(answered.sum()), 1)
        if wanted > 1.0:
            raise SystemExit(
                f"the thresholds alone leave {answered.mean():.1%} answered, "
                f"{coverage:.1%} is not to be had"
            )
        limit = float(np.quantile(scores[answered], wanted))
        key = "max_energy" if good.distance is None else "max_distance"
        self._state = replace(state, unknown=UnknownRule(**{key: limit}))
        self.coverage = float(self._answers(good).mean())

    def _answers(self, said: Said) -> npt.NDArray[np.bool_]:
        return predict(said.logits["state"], self._state, said.distance).classes != UNKNOWN_INDEX

    def gives_state(self, said: Said) -> npt.NDArray[np.bool_]:
        """Return for each picture whether a door's or a window's state is said of it."""
        kinds = predict(said.logits["kind"], self._kind, said.distance).classes
        has_state = kinds != UNKNOWN_INDEX
        if NEITHER in self._kind.classes:
            has_state &= kinds != self._kind.classes.index(NEITHER)
        return self._answers(said) & has_state


def bad_pictures(predictor: Predictor, good: Corpus, data: Path) -> dict[str, Crops]:
    """Return pictures that have no state, (N, S, S, 3) uint8 BGR each, by what they are."""
    random = np.random.default_rng(0)
    crops = np.array(good.crops)
    found = {name: spoil(crops, random) for name, spoil in SPOILT.items()}
    kinds = read(predictor, [data / "kinds"]).split("val")
    is_other = [row.labels.get("kind") == NEITHER for row in kinds.rows]
    found["other things (`kinds`)"] = np.array(kinds.crops[np.flatnonzero(is_other)])
    with tempfile.TemporaryDirectory() as folder:
        for name, path in imported(data, Path(folder)).items():
            found[name] = np.array(read(predictor, [path]).crops)
    return found


def dark(crops: Crops, random: np.random.Generator) -> Crops:
    return noisy(crops * 0.03 + 2.0, 2.0, random)


def covered(crops: Crops, random: np.random.Generator) -> Crops:
    colours = random.uniform(20.0, 160.0, (len(crops), 1, 1, 3))
    return noisy(np.broadcast_to(colours, crops.shape), 4.0, random)


def blurred(crops: Crops, random: np.random.Generator) -> Crops:
    return np.stack([cv2.GaussianBlur(crop, (0, 0), crop.shape[1] / 8) for crop in crops])


def grey(crops: Crops, random: np.random.Generator) -> Crops:
    return np.full_like(crops, 128)


def half_grey(crops: Crops, random: np.random.Generator) -> Crops:
    spoilt = crops.copy()
    spoilt[:, crops.shape[1] // 2 :] = 128
    return spoilt


def shuffled(crops: Crops, random: np.random.Generator) -> Crops:
    """Blocks of an eighth of the side in any order, as a broken stream shows them."""
    n, side = len(crops), crops.shape[1] // 8
    blocks = crops[:, : 8 * side, : 8 * side].reshape(n, 8, side, 8, side, 3)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, 64, side, side, 3)
    blocks = random.permuted(blocks.reshape(n, 64, -1), axis=1).reshape(n, 8, 8, side, side, 3)
    mixed = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, 8 * side, 8 * side, 3)
    return np.pad(mixed, ((0, 0), *[(0, crops.shape[1] - 8 * side)] * 2, (0, 0)), "edge")


def noisy(pictures: npt.NDArray[np.floating], sigma: float, random: np.random.Generator) -> Crops:
    return np.clip(pictures + random.normal(0.0, sigma, pictures.shape), 0, 255).astype(np.uint8)


SPOILT: dict[str, Spoil] = {
    "dark": dark,
    "covered": covered,
    "blurred": blurred,
    "grey": grey,
    "half grey": half_grey,
    "blocks out of order": shuffled,
}


def share(values: npt.NDArray[np.bool_]) -> str:
    low, high = wilson_interval(float(values.mean()), len(values))
    return f"{values.mean():.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
