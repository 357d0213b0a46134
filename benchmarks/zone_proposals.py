"""How good the zones are that `transom setup` proposes, on pictures with known zones.

    python -m benchmarks.zone_proposals [DATASET…]          judge, on val and test
    python -m benchmarks.zone_proposals [DATASET…] --fit    fit the weights, on train

Without a data set: photographs, where TRANSOM_DATA is, and rooms that are drawn for it. One picture
a group; only pictures that show a door or a window. A proposal is right where it overlaps a zone of
its kind by half (intersection over union). Photographs are not labelled completely, so some of the
proposals that count as wrong here are doors.
"""

import os
import tempfile
from collections import defaultdict
from pathlib import Path

import click
import cv2
import numpy as np

from edge_runtime.setup.outlines import overlap
from edge_runtime.setup.propose import KINDS, Proposer
from train.scenes import generate_dataset
from transom.dataset import Row, read_dataset

RIGHT, NEAR = 0.5, 0.6
"""Overlap of a proposal that is right; of an outline that the weights are fitted to."""


def pictures(dataset: Path, splits: tuple[str, ...], most: int) -> list[tuple[str, list[Row]]]:
    """Return pictures and their rows: one of each group, drawn at random."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_dataset(dataset).rows:
        if row.split in splits:
            rows[row.image].append(row)
    shown = {
        found[0].group_key: (image, found)
        for image, found in rows.items()
        if any(row.labels.get("kind") in KINDS for row in found)
    }
    groups = sorted(shown)
    order = np.random.default_rng(0).permutation(len(groups))[:most]
    return [shown[groups[index]] for index in order]


def truths(rows: list[Row]) -> list[tuple[int, np.ndarray]]:
    """Return kind and upright box of each door and window."""
    found = []
    for row in rows:
        if row.labels.get("kind") in KINDS:
            points = np.array(row.zone.points)
            box = np.concatenate([points.min(axis=0), points.max(axis=0)])
            found.append((KINDS.index(row.labels["kind"]), box))
    return found


def interval(values: list[float]) -> str:
    """Return a mean with its 95 % interval, by drawing pictures again."""
    rng, data = np.random.default_rng(0), np.array(values)
    means = [data[rng.integers(0, len(data), len(data))].mean() for _ in range(2000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{data.mean():.2f} ({low:.2f} to {high:.2f})"


def judge(dataset: Path, most: int, proposer: Proposer) -> str:
    """Return a row of the table."""
    found, overlaps, right, counts = [], [], [], []
    for image, rows in pictures(dataset, ("val", "test"), most):
        frame = cv2.imread(str(dataset / image))
        known = truths(rows)
        zones = [
            (KINDS.index(z.device_class), np.array([*z.zone.points[0], *z.zone.points[2]]))
            for z in proposer.propose(frame)
        ]
        best = [
            max((overlap(box, b[None])[0][0] for k, b in zones if k == kind), default=0.0)
            for kind, box in known
        ]
        found.append(float(np.mean([value >= RIGHT for value in best])))
        overlaps.append(float(np.mean(best)))
        counts.append(len(zones))
        right += [
            float(any(k == kind and overlap(box, b[None])[0][0] >= RIGHT for kind, box in known))
            for k, b in zones
        ]
    return (
        f"| {dataset.name} | {len(found)} | {interval(found)} | {interval(right)} "
        f"| {np.mean(overlaps):.2f} | {np.mean(counts):.1f} |"
    )


def fit(datasets: list[Path], most: int, proposer: Proposer) -> None:
    """Print weights and bias, fitted to which outlines are doors and windows."""
    from sklearn.linear_model import LogisticRegression

    features, answers = [], []
    for dataset in datasets:
        for image, rows in pictures(dataset, ("train",), most):
            outlines, kinds, columns = proposer.look(cv2.imread(str(dataset / image)))
            near, same = np.zeros(len(kinds)), np.zeros(len(kinds), bool)
            for kind, box in truths(rows):
                common = overlap(box, outlines.boxes)[0]
                near = np.maximum(near, common)
                same |= (common >= NEAR) & (kinds == kind)
            is_clear = same | (near < RIGHT)
            features.append(columns[is_clear])
            answers.append(same[is_clear])
    x, y = np.concatenate(features), np.concatenate(answers)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    found = LogisticRegression(max_iter=2000).fit((x - mean) / spread, y)
    weights = found.coef_[0] / spread
    print(f"{len(y)} outlines, {y.mean():.1%} of them right")
    print("_WEIGHTS =", tuple(float(w) for w in weights.round(3)))
    print("_BIAS =", round(float(found.intercept_[0] - mean @ weights), 3))


@click.command()
@click.argument("datasets", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--fit", "is_fit", is_flag=True, help="Fit the weights, on the split train.")
@click.option("--most", default=40, show_default=True, help="Pictures of each data set.")
def main(datasets: tuple[Path, ...], is_fit: bool, most: int) -> None:
    """Judge or fit the proposals."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(datasets) or usual(Path(folder) / "drawn")
        if is_fit:
            fit(chosen, most, Proposer())
            return
        print("| pictures | n | zones found | proposals right | overlap | proposals a picture |")
        print("|---|---:|---|---|---:|---:|")
        proposer = Proposer()
        for dataset in chosen:
            print(judge(dataset, most, proposer), flush=True)


def usual(drawn: Path) -> list[Path]:
    """Return the data sets that the documentation has figures of; rooms are drawn."""
    generate_dataset(drawn, groups=120, pictures=1, seed=9001, workers=1)
    photographs = os.environ.get("TRANSOM_DATA")
    there = [Path(photographs) / name for name in ("doors", "kinds")] if photographs else []
    return [*there, drawn]


if __name__ == "__main__":
    main()
