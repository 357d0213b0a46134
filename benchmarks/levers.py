r"""What moves the accuracy on doors never seen? One change at a time, everything else equal.

    python benchmarks/levers.py [--data ../shared/data] [--out build/levers] [LEVER ...]

A short EfficientNet-Lite0 learns `doors` from ImageNet weights with small crops, some epochs, some
seeds; each lever changes one thing. Judged on the rows of `val`, groups that no training has seen:
the share of right answers, the mean over seeds, and its change against `base` with a 95 % interval,
paired by row and resampled by group. Runs that are there already are not trained again.

`cleaned` leaves out the rows of `train` whose label two networks, each trained on the other half of
its groups, give less than a twentieth. `painted first` begins with a network that has learnt to
paint pictures again and saw no label.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.corpus import MISSING, Corpus, load_corpus
from train.metrics import group_indices, mean_interval
from train.network import predict_logits
from train.run import METRICS, Run, read_run
from transom.dataset import Row, read_dataset, write_dataset
from transom.prediction import softmax

TASK = "state"
BASE = "base"
CLEANED, PAINTED = "cleaned", "painted first"
LEAST_PROBABLE = 0.05
PAINTING = ("weighting=fixed", "task_weights.state=0", "task_weights.kind=0", "reconstruction=1")
COMMON = ("backbone=efficientnet_lite0_short", "size=64", "epochs=6")

LEVERS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "crops of 96 pixels": ("size=96",),
    "crops of 128 pixels": ("size=128",),
    "nothing around the zone": ("margin=0",),
    "a quarter around the zone": ("margin=0.25",),
    "ordered classes": ("ordinal_loss=earth_mover",),
    "labels smoothed by 0.15": ("label_smoothing=0.15",),
    CLEANED: (),
    "pictures mixed": ("mix.mixup=0.2",),
    "painting beside it": ("reconstruction=0.3",),
    PAINTED: (),
    "groups balanced": ("sampling=group_balanced",),
    "twice as long": ("epochs=12",),
    "gentle crops": ("augment.zoom=0.9", "augment.shift=0.03", "augment.cutout=0"),
    "colours varied more": (
        "augment.saturation=1",
        "augment.tint=0.25",
        "augment.grey=0.35",
        "augment.gamma=0.8",
    ),
    "shallow stages slower": ("stage_decay=0.5",),
    "more dropout and decay": ("dropout=0.4", "weight_decay=0.1"),
    "longer average": ("average=0.3",),
}
"""What is set beside `COMMON`; two need more than a setting."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Of each row of `val` that has a label, the share of seeds that got it right.

    Attributes:
        states: All classes, (N,).
        shut: The first class against all others, (N,).
        groups: (N,), 0 to G - 1.
    """

    states: Floats
    shut: Floats
    groups: Indices


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("levers", nargs="*", metavar="LEVER", help="by name; all if none")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("build/levers"), help="runs stay here")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.levers) - LEVERS.keys()):
        parser.error(f"LEVER must be of {', '.join(LEVERS)}; got {unknown[0]!r}")
    doors = arguments.data / "doors"
    base = judge(doors, arguments.out, BASE, arguments.seeds)
    print("| lever | state | change, points | closed against not |\n|---|---|---|---|")
    for lever in arguments.levers or LEVERS:
        found = judge(doors, arguments.out, lever, arguments.seeds)
        print(
            f"| {lever} | {interval(found.states, found.groups)} "
            f"| {change(found.states - base.states, base.groups)} "
            f"| {interval(found.shut, found.groups)} |",
            flush=True,
        )


def judge(doors: Path, out: Path, lever: str, seeds: int) -> Judged:
    """Train with a lever, where that is not done, and judge on `val`."""
    found = []
    for seed in range(seeds):
        data, start = doors, "none"
        if lever == CLEANED:
            data = cleaned(doors, out, seed)
        if lever == PAINTED:
            start = str(trained(doors, out / f"painting-{seed}", seed, PAINTING).folder)
        name = lever.replace(" ", "-")
        run = trained(data, out / f"{name}-{seed}", seed, LEVERS[lever], start)
        found.append(answers(run, corpus_of(run, doors).split("val")))
    states = np.mean([probabilities.argmax(1) == truth for probabilities, truth, _ in found], 0)
    shut = np.mean([(p.argmax(1) == 0) == (truth == 0) for p, truth, _ in found], 0)
    return Judged(states, shut, found[0][2])


def trained(
    data: Path, folder: Path, seed: int, settings: Sequence[str], start: str = "none"
) -> Run:
    """Train a run where it is not there; a run that was interrupted begins again."""
    if not (folder / METRICS).exists():
        shutil.rmtree(folder, ignore_errors=True)
        options = [part for key in (*COMMON, *settings) for part in ("--set", key)]
        command = [sys.executable, "-m", "transom", "train", str(data), "--out", str(folder)]
        command += ["--start", start, "--seed", str(seed), *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{folder.name}: {done.stderr}")
    return read_run(folder)


def cleaned(doors: Path, out: Path, seed: int) -> Path:
    """Return a copy of the data set without the rows of `train` that nobody would label so."""
    folder = out / f"cleaned-data-{seed}"
    if (folder / "images").exists():  # the last that is written of it
        return folder
    dataset = read_dataset(doors)
    taught = sorted({row.group for row in dataset.rows if row.split == "train"})
    halves = np.random.default_rng(seed).permuted(taught)
    doubtful: set[tuple[str, str]] = set()
    for number, half in enumerate((halves[::2], halves[1::2])):
        part = out / f"half-{seed}-{number}"
        write(part, doors, [row for row in dataset.rows if row.group not in half])
        run = trained(part, out / f"half-{seed}-{number}-run", seed, ())
        taught_rows = corpus_of(run, doors).split("train")
        ours = [i for i, row in enumerate(taught_rows.rows) if row.group in half and is_judged(row)]
        judged = taught_rows.select(np.asarray(ours))
        probabilities, truth, _ = answers(run, judged)
        least = probabilities[np.arange(len(truth)), truth] < LEAST_PROBABLE
        doubtful |= {place(judged.rows[i]) for i in np.flatnonzero(least)}
    kept = [row for row in dataset.rows if row.split != "train" or place(row) not in doubtful]
    print(f"seed {seed}: left out {len(dataset.rows) - len(kept)} rows", file=sys.stderr)
    write(folder, doors, kept)
    return folder


def is_judged(row: Row) -> bool:
    """Whether a row says the state."""
    return bool(row.labels.get(TASK))


def place(row: Row) -> tuple[str, str]:
    """Return what tells a row from all others: its picture and its zone."""
    return row.image, row.zone.to_text()


def write(folder: Path, doors: Path, rows: Sequence[Row]) -> None:
    """Write rows as a data set of their own, with the pictures of `doors`."""
    dataset = read_dataset(doors)
    write_dataset(folder, name=dataset.name, tasks=dataset.tasks, rows=rows)
    images = folder / "images"
    images.unlink(missing_ok=True)  # of an earlier try that was interrupted
    images.symlink_to((doors / "images").resolve())


def corpus_of(run: Run, doors: Path) -> Corpus:
    """Return the crops of `doors` as a run's network is fed."""
    return load_corpus([doors], size=run.input.size, margin=run.input.margin)


def answers(run: Run, corpus: Corpus) -> tuple[Floats, Indices, Indices]:
    """Return the probabilities (N, C), the truth (N,) and the group (N,) of all labelled rows."""
    truth = corpus.targets[:, corpus.tasks.names.index(TASK)]
    labelled = np.flatnonzero(truth != MISSING)
    logits, _ = predict_logits(run.network(), corpus.crops[labelled])
    groups = group_indices([corpus.groups[i] for i in labelled])
    return np.asarray(softmax(logits[TASK]), np.float64), truth[labelled], groups


def interval(right: Floats, groups: Indices) -> str:
    """Return a share with its 95 % interval over groups."""
    low, high = mean_interval(right, groups) or (np.nan, np.nan)
    return f"{right.mean():.1%} ({100 * low:.1f} to {100 * high:.1f})"


def change(difference: Floats, groups: Indices) -> str:
    """Return a paired difference in points with its 95 % interval over groups."""
    low, high = mean_interval(difference, groups) or (np.nan, np.nan)
    return f"{100 * difference.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    main()
