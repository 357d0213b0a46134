"""What correcting biases brings: INT8 with and without it, against float32, on held-out groups.

    python benchmarks/bias_correction.py [RUN] [--data ../shared/data] [--datasets doors,kinds]

Without a RUN it is the one behind the starter. Calibration crops are of `train`; judged
on `val` and `test`. Of the accuracy lost: 95 % intervals, paired by crop, resampled by group.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.trial_manifest import trial_manifest
from export.graph import export_graph
from export.parity import Limits, compare
from export.quantize import Quantization, calibration_indices, quantize
from train.corpus import load_corpus
from train.evaluate import ask_crops, task_targets
from train.predictor import OnnxPredictor
from train.run import read_run
from train.start import starter_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=starter_run())
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--datasets", default="doors,kinds")
    parser.add_argument("--images", type=int, default=256, help="calibration crops")
    options = parser.parse_args()
    run = read_run(options.run)
    corpus = load_corpus(
        [options.data / name for name in options.datasets.split(",")],
        size=run.recipe.size,
        margin=run.recipe.margin,
        steps=run.recipe.preprocess,
    )
    train = corpus.split("train")
    held = corpus.select(np.flatnonzero(corpus.splits != "train"))
    graph = export_graph(run.network(), run.tasks, run.recipe.size)
    manifest = trial_manifest(run, "float32")
    crops = train.select(calibration_indices(train.targets, train.groups, options.images)).crops
    targets = np.stack([task_targets(task, held)[0] for task in run.tasks], axis=1)
    exact = ask_crops(OnnxPredictor(graph, manifest), held.crops).logits
    print("| biases | task | same as float32 | where sure | accuracy lost, points |")
    print("|---|---|---:|---:|---:|")
    for name, corrects in (("rounded", False), ("corrected", True)):
        settings = Quantization(bias_correction=corrects)
        int8 = quantize(graph, run.tasks, np.array(crops), settings)
        said = ask_crops(OnnxPredictor(int8, manifest), held.crops).logits
        for task in compare(run.tasks, exact, said, targets, held.groups, Limits()):
            low, high = (100 * end for end in task.drop_interval)
            print(
                f"| {name} | {task.task} | {task.agreement:.1%} | {task.confident_agreement:.1%} "
                f"| {100 * task.drop:.1f} ({low:.1f} to {high:.1f}) |"
            )


if __name__ == "__main__":
    main()
