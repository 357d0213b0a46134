"""One file, two precisions: what the Clips that float32 needs cost INT8, and how right each is.

The network of a run is quantised as `transom export` does it. Printed: bytes and answers of the
INT8 file with and without the Clips; by task, how often INT8 and the same file in float32 give the
class of the float32 network on the `val` rows of `doors`; and what each takes for one crop, one
thread, in turns.

    python benchmarks/two_precisions.py [RUN|starter] [--data ../shared/data] [--rows 624]
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.trial_manifest import trial_manifest
from export.benchmark import time_models
from export.graph import export_graph
from export.parity import Limits, compare
from export.quantize import calibration_indices, count_operators, drop_zero_points, quantize
from export.unrounded import keep_clips
from train.corpus import load_corpus
from train.predictor import OnnxPredictor
from train.run import Run
from train.start import named_run
from transom.crop import Image
from transom.goldens import Logits
from transom.session import Precision

CALIBRATION = 256
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="starter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=624)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    run = named_run(arguments.run)
    corpus = load_corpus([arguments.data / "doors"], size=run.input.size, margin=run.input.margin)
    train, val = corpus.split("train"), corpus.split("val")
    shown = calibration_indices(train.targets, train.groups, CALIBRATION)
    float32 = export_graph(run.network(), run.tasks, run.input.size)
    plain = drop_zero_points(quantize(float32, run.tasks, np.array(train.crops[shown])))
    clipped = keep_clips(plain)
    operators = count_operators(clipped)
    print(
        f"{len(plain):,} bytes, {len(clipped):,} with Clips; {operators['QLinearConv']} integer "
        f"convolutions, {operators['Conv'] + operators['FusedConv']} in float"
    )
    crops = np.array(val.crops[: arguments.rows])
    original = said(run, float32, "float32", "float32", crops)
    int8 = said(run, clipped, "int8", "int8", crops)
    without = said(run, plain, "int8", "int8", crops)
    is_same = all(np.array_equal(int8[name], without[name]) for name in int8)
    print(f"INT8 answers the same with and without them, to the last bit: {is_same}")
    found = {"INT8": int8, "in float32": said(run, clipped, "int8", "float32", crops)}
    targets = np.full((len(crops), len(run.tasks)), -1)
    groups = val.groups[: arguments.rows]
    for name, logits in found.items():
        for parity in compare(run.tasks, original, logits, targets, groups, Limits()):
            low, high = (100 * end for end in parity.agreement_interval)
            print(
                f"{name}: float32's class on {100 * parity.agreement:.1f} % of `{parity.task}` "
                f"({low:.1f} to {high:.1f}, {parity.n} crops)"
            )
    models = {"INT8": clipped, "INT8 without Clips": plain, "in float32": clipped}
    models["the float32 graph"] = float32
    runs = time_models(
        models,
        run.input.size,
        unrounded=["in float32"],
        threads=(1,),
        batches=(1,),
        seconds=arguments.seconds,
    ).runs
    base = next(timing.median_ms for timing in runs if timing.precision == "INT8")
    for timing in runs:
        print(f"{timing.precision}: {timing.median_ms / base:.2f} times INT8's median")


def said(run: Run, model: bytes, own: Precision, precision: Precision, crops: Image) -> Logits:
    """Return the logits of a network by task, (N, C), temperatures divided out."""
    predictor = OnnxPredictor(model, trial_manifest(run, own), precision=precision)
    parts = [predictor(crops[i : i + BATCH]).logits for i in range(0, len(crops), BATCH)]
    return {
        name: np.concatenate([part[name] for part in parts])
        / np.float32(run.temperatures.get(name, 1.0))
        for name in run.tasks.names
    }


if __name__ == "__main__":
    main()
