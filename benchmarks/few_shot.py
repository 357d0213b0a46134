"""What are a few corrections of a camera worth, on doors and a window that were never trained on?

The groups of `doors`, split `val`, stand for cameras, and so does the real window clip: its whole
picture, and one pane of it, each frame labelled by its time. The head is the one that a device
learns. The clip is also judged the hard way: taught from the first half of each state's time,
judged on the second, because its neighbouring frames are nearly the same picture.

    python -m benchmarks.few_shot [BUNDLE|starter] [--data ../shared/data] [--shots 1,2,5,10]
    python -m benchmarks.few_shot --picture docs/few-shot.svg
    python -m benchmarks.few_shot --full        # the clip, beside full training on it
    python -m benchmarks.few_shot --full-doors  # cameras of doors, beside full training on each

With `--full` the starter is trained on, all of it, from every frame of the first halves (beside one
picture of each group of `doors`, as in `benchmarks.loop`), and judged on the second as the head is.
With `--full-doors` it is trained on from four fifths of each class of a camera's pictures (beside
one of each other group), for every camera that has five of two classes at least, and judged on the
rest of them, as are the network alone and heads from five a class and from all of the four fifths.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.few_shot_picture import few_shot_chart
from benchmarks.loop import RECIPE, others
from edge_runtime.sample import likeness
from train.corpus import load_corpus
from train.evaluate import Evaluation, evaluate
from train.evaluate_commands import load_guard, load_predictor
from train.metrics import mean_interval
from train.predictor import Predictor
from train.shots import DRAWS, MOST, Reached, Shots, few_shots
from transom.dataset import Row, write_dataset
from transom.few_shot import Examples, learn
from transom.geometry import Zone
from transom.guard import Guard
from transom.prediction import softmax
from transom.tasks import Task, TaskSet

STATES = TaskSet([Task(name="state", classes=("closed", "ajar", "open"), ordinal=True)])
FEW, LEAST_OF_A_CLASS = 5, 5
ZONES = {
    "whole picture": Zone.whole(),
    "one pane": Zone.rectangle(11 / 32, 10 / 24, 14 / 32, 16 / 24),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shots", default="1,2,5,10")
    parser.add_argument("--picture", type=Path, help="An SVG to write.")
    parser.add_argument("--full", action="store_true", help="Train on the clip as well; minutes.")
    parser.add_argument("--full-doors", action="store_true", help="Train on each camera of doors.")
    parser.add_argument("--epochs", type=int, default=12, help="Of that training.")
    arguments = parser.parse_args()
    counts = [int(word) for word in arguments.shots.split(",")]
    predictor = load_predictor(arguments.model)
    guard = load_guard(arguments.model, predictor)
    if arguments.full_doors:
        compare_on_doors(predictor, guard, arguments.data, arguments.epochs)
        return
    print("| camera | examples a class | cameras | alone | head | probe | gain |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    shown: dict[str, Sequence[Shots]] = {}
    if not arguments.full:
        doors = judged(predictor, arguments.data / "doors", "val")
        shown["doors, val"] = few_shots(doors, guard, counts)["state"]
        show("doors, val", shown["doors, val"])
    alike: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, zone in ZONES.items():
            clip = clip_dataset(Path(folder) / name.replace(" ", "_"), arguments.data, zone)
            evaluation = judged(predictor, clip, "all")
            alike.append(f"{name}: {how_alike(evaluation)}")
            shown[f"window, {name}"] = few_shots(evaluation, guard, counts)["state"]
            show(f"window clip, {name}", shown[f"window, {name}"])
            later = shown[f"{name}, later half"] = later_half(evaluation, guard, counts)
            show("the same, later half", later)
            if arguments.full:
                reached = fully_trained(clip, evaluation, arguments.data, arguments.epochs)
                print(f"| the same, full training | all | 1 | | {100 * reached:.1f} % | | |")
    if arguments.picture is not None:
        arguments.picture.write_text(few_shot_chart(shown))
    print("\nlikeness of frames of one state, 1/30, 1/5 and 2 s apart, medians;", "; ".join(alike))


def how_alike(evaluation: Evaluation) -> str:
    """How alike a device would find frames of one state, by the time between them."""
    order = np.argsort([row.image for row in evaluation.corpus.rows])
    embedding, targets = evaluation.embedding[order], evaluation.tasks["state"].targets[order]
    medians = []
    for step in (1, 6, 60):
        same = targets[step:] == targets[:-step]
        alike = np.diagonal(likeness(embedding[step:], embedding[:-step]))
        medians.append(f"{np.median(alike[same]):.3f}")
    return ", ".join(medians)


def judged(predictor: Predictor, folder: Path, split: str) -> Evaluation:
    fed = predictor.input
    corpus = load_corpus([folder], size=fed.size, margin=fed.margin, steps=fed.preprocess,
                         allow_leaks=True)  # fmt: skip
    return evaluate(predictor, corpus.split(split))


def clip_dataset(folder: Path, data: Path, zone: Zone) -> Path:
    """Write the clip's frames as a data set, in their order, labelled by its `states.csv`."""
    source = data / "window_clip"
    spans = list(csv.DictReader((source / "states.csv").read_text().splitlines()))
    capture = cv2.VideoCapture(str(source / spans[0]["clip"]))
    (folder / "images").mkdir(parents=True)
    rows = []
    while True:
        is_there, frame = capture.read()
        if not is_there:
            break
        number = len(rows)
        span = next(s for s in reversed(spans) if int(s["start_frame"]) <= number)
        image = f"images/{number:04}.png"
        cv2.imwrite(str(folder / image), frame)
        rows.append(Row(image=image, zone=zone, group="clip", labels={"state": span["state"]}))
    write_dataset(folder, name=folder.name, tasks=STATES, rows=rows)
    return folder


def fully_trained(clip: Path, evaluation: Evaluation, data: Path, epochs: int) -> float:
    """Return what training on all frames of the first halves reaches on the second."""
    rows = {row.image: row for row in evaluation.corpus.rows}
    first, later = halves_of(evaluation)
    folder = clip.parent / f"{clip.name}-full"
    run = train_on([rows[image] for image in first], clip, data, folder, epochs)
    found = judged(load_predictor(str(run)), clip, "all")
    task = found.tasks["state"]
    places = [n for n, row in enumerate(found.corpus.rows) if row.image in later]
    return balanced(task.prediction.probabilities[places], task.targets[places])


def train_on(
    rows: Sequence[Row],
    source: Path,
    data: Path,
    folder: Path,
    epochs: int,
    without: str | None = None,
) -> Path:
    """Train the starter on from rows of a data set, beside a picture of each other door; the run.

    Args:
        rows: Of `source`.
        source: The data set's folder.
        data: The real data.
        folder: A new folder for all of it.
        epochs: How often each row is seen, at most.
        without: The group of `doors` that the rows are of.
    """
    folder.mkdir()
    (folder / "pictures").symlink_to(source.resolve())
    learnt = [
        replace(
            row,
            image=f"pictures/{row.image}",
            split="train",
            labels={"state": row.labels["state"]},
        )
        for row in rows
    ]
    write_dataset(folder, name="home", tasks=STATES, rows=learnt)
    others(data.resolve() / "doors", folder / "others", without)
    recipe, run = folder / "recipe.toml", folder / "run"
    recipe.write_text(RECIPE.format(epochs=epochs))
    command = [sys.executable, "-m", "transom", "train", folder, folder / "others", "--out", run]
    subprocess.run([*command, "--recipe", recipe], check=True, capture_output=True)
    return run


def compare_on_doors(predictor: Predictor, guard: Guard | None, data: Path, epochs: int) -> None:
    """Print what each way reaches on the same fifth of each camera's pictures."""
    evaluation = judged(predictor, data / "doors", "val")
    task, groups = evaluation.tasks["state"], np.array([r.group for r in evaluation.corpus.rows])
    if guard is None:
        raise SystemExit("a bundle is needed: a run has no guard")
    kept = examples(guard.embedding, softmax(guard.logits["state"]), guard.targets["state"])
    random, reached = np.random.default_rng(0), []
    print("| camera | learnt from | judged | alone | head, 5 a class | head, all | full training |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for group in sorted(set(groups)):
            places = [
                random.permutation(np.flatnonzero((groups == group) & (task.targets == k)))
                for k in range(len(STATES["state"].classes))
            ]
            places = [rows for rows in places if len(rows) >= LEAST_OF_A_CLASS]
            if len(places) < 2:
                continue
            cut = [round(MOST * len(rows)) for rows in places]
            learnt = np.concatenate([rows[:n] for rows, n in zip(places, cut, strict=True)])
            rest = np.concatenate([rows[n:] for rows, n in zip(places, cut, strict=True)])
            few = [
                np.concatenate(
                    [
                        random.permutation(rows[:n])[:FEW]
                        for rows, n in zip(places, cut, strict=True)
                    ]
                )
                for _ in range(DRAWS)
            ]
            run = train_on(
                [evaluation.corpus.rows[place] for place in learnt],
                data / "doors",
                data,
                Path(folder) / group,
                epochs,
                without=group,
            )
            trained = judged(load_predictor(str(run)), data / "doors", "val").tasks["state"]
            found = (
                balanced(task.prediction.probabilities[rest], task.targets[rest]),
                float(np.mean([with_head(evaluation, kept, rows, rest) for rows in few])),
                with_head(evaluation, kept, learnt, rest),
                balanced(trained.prediction.probabilities[rest], task.targets[rest]),
            )
            reached.append(found)
            print(row_of(group, str(len(learnt)), str(len(rest)), found), flush=True)
    print(row_of(f"mean of {len(reached)}", "", "", np.mean(reached, axis=0)))
    less = np.array(reached)[:, 1] - np.array(reached)[:, 3]
    low, high = mean_interval(less, np.arange(len(less))) or (np.nan, np.nan)
    print(f"five a class less full training: {100 * less.mean():+.1f} points "
          f"({100 * low:+.1f} to {100 * high:+.1f})")  # fmt: skip


def row_of(name: str, learnt: str, rest: str, values: Sequence[float]) -> str:
    return (
        f"| {name} | {learnt} | {rest} | " + " | ".join(f"{100 * v:.1f} %" for v in values) + " |"
    )


def with_head(evaluation: Evaluation, kept: Examples, rows, rest) -> float:
    """Return what a head reaches that is learnt from some rows, on others."""
    task, embedding = evaluation.tasks["state"], evaluation.embedding
    said = task.prediction.probabilities
    head = learn(examples(embedding[rows], said[rows], task.targets[rows]), kept)
    answers = said[rest] if isinstance(head, str) else head(said[rest], embedding[rest])
    return balanced(answers, task.targets[rest])


def halves_of(evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """Return the images of the first halves of each state's time, and of the second."""
    order = np.argsort([row.image for row in evaluation.corpus.rows])
    targets = evaluation.tasks["state"].targets[order]
    images = np.array([evaluation.corpus.rows[place].image for place in order])
    parts = [np.array_split(np.flatnonzero(targets == k), 2) for k in np.unique(targets)]
    first, later = (images[np.concatenate([part[side] for part in parts])] for side in (0, 1))
    return first.tolist(), later.tolist()


def later_half(evaluation: Evaluation, guard: Guard | None, counts: Sequence[int]) -> list[Shots]:
    """Learn from the first half of each class's frames, judge the second."""
    task = evaluation.tasks["state"]
    order = np.argsort([row.image for row in evaluation.corpus.rows])
    embedding = evaluation.embedding[order]
    said, targets = task.prediction.probabilities[order], task.targets[order]
    width = said.shape[1]
    halves = [np.array_split(np.flatnonzero(targets == k), 2) for k in range(width)]
    later = np.concatenate([half[1] for half in halves])
    kept = examples(guard.embedding, softmax(guard.logits["state"]), guard.targets["state"])
    even = np.full_like(said, 1.0 / width)
    random = np.random.default_rng(0)
    found = []
    for count in counts:
        tries = []
        for _ in range(DRAWS):
            rows = np.concatenate([random.permutation(half[0])[:count] for half in halves])
            head = learn(examples(embedding[rows], said[rows], targets[rows]), kept)
            probe = learn(examples(embedding[rows], even[rows], targets[rows]), kept_none(kept))
            answers = [said[later]] + [
                before[later] if isinstance(h, str) else h(before[later], embedding[later])
                for h, before in ((head, said), (probe, even))
            ]
            tries.append([balanced(a, targets[later]) for a in answers])
        alone, with_head, with_probe = (Reached(v, None) for v in np.mean(tries, axis=0))
        gain = Reached(with_head.value - alone.value, None)
        found.append(Shots(count, 1, len(later), alone, with_head, with_probe, gain, 0.0))
    return found


def examples(embedding, probabilities, targets) -> Examples:
    return Examples(embedding, probabilities, np.eye(probabilities.shape[1], dtype=bool)[targets])


def kept_none(kept: Examples) -> Examples:
    return Examples(kept.embedding[:0], kept.probabilities[:0], kept.truth[:0])


def balanced(probabilities, targets) -> float:
    right = probabilities.argmax(axis=1) == targets
    return float(np.mean([right[targets == k].mean() for k in np.unique(targets)]))


def show(name: str, rows: Sequence[Shots]) -> None:
    for row in rows:
        shots = f"{MOST:.0%}" if row.shots is None else row.shots
        low_high = row.gain.interval
        between = (
            "" if low_high is None else f" ({100 * low_high[0]:.1f} to {100 * low_high[1]:.1f})"
        )
        values = " | ".join(f"{100 * v.value:.1f} %" for v in (row.alone, row.head, row.probe))
        print(
            f"| {name} | {shots} | {row.groups} | {values} | {100 * row.gain.value:+.1f}{between} |"
        )


if __name__ == "__main__":
    main()
