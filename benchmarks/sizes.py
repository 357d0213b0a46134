"""What the sizes of the network cost, and what bundles of them are worth.

    python benchmarks/sizes.py                            # counted: nothing is trained
    python benchmarks/sizes.py build/sizes/*.bundle       # accuracy, INT8, latency side by side

Accuracy is that of the manifest, on the groups that the bundle's own export judged; the loss and
the agreement are of INT8 against float32 on all held-out crops. All networks are timed in turn in
one process, one thread, one crop. `make sizes` trains the three and ends with this table.
"""

import argparse
from pathlib import Path

from export.benchmark import time_models
from export.dequantise import dequantise
from train.cost import network_cost
from train.network import build_network
from train.recipe import Recipe
from transom.bundle import Bundle, read_bundle
from transom.tasks import Task, TaskSet

BOARDS = {"Pi Zero 2": (1.0, 64), "Pi 4": (1.0, 96), "Pi 5": (1.0, 120)}
"""Width and size that suit a board."""
_TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window", "other")),
        Task(name="state", classes=("closed", "ajar", "open")),
    ]
)


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundles", nargs="*", type=Path, help="bundles to put side by side")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing")
    parser.add_argument("--backbone", default="efficientnet_lite0_short")
    chosen = parser.parse_args()
    if chosen.bundles:
        compare([read_bundle(path, None) for path in chosen.bundles], chosen.seconds)
    else:
        count(chosen.backbone)


def count(backbone: str) -> None:
    """Print what each size costs."""
    print("| board | `width` | `size` | MMAC | parameters, millions |\n|---|---|---|---|---|")
    for board, (width, size) in BOARDS.items():
        recipe = Recipe(backbone=backbone, width=width, size=size, pretrained=False)
        cost = network_cost(build_network(recipe, _TASKS, pretrained=False), size)
        print(
            f"| {board} | {width:g} | {size} | {cost.macs / 1e6:.0f} "
            f"| {cost.parameters / 1e6:.2f} |"
        )


def compare(bundles: list[Bundle], seconds: float) -> None:
    """Print what bundles are worth, the cheapest first."""
    bundles = sorted(bundles, key=lambda bundle: int(bundle.report["cost"]["macs"]))
    models = {f"{i} int8": bundle.model for i, bundle in enumerate(bundles)}
    models |= {f"{i} float32": dequantise(bundle.model) for i, bundle in enumerate(bundles)}
    sizes = {name: bundles[int(name.split()[0])].manifest.input.size for name in models}
    runs = time_models(models, 128, sizes=sizes, threads=(1,), batches=(1,), seconds=seconds).runs
    ms = {run.precision: run.median_ms for run in runs}
    tasks = bundles[0].manifest.task_set().names
    head = [f"{t}: right, INT8 loses, agrees" for t in tasks]
    columns = ["bundle", "px", *head, "MB", "MMAC", "INT8 ms", "times float32"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for i, bundle in enumerate(bundles):
        cells = [bundle.manifest.name, str(bundle.manifest.input.size)]
        cells += [worth(bundle, task) for task in tasks]
        int8, float32 = ms[f"{i} int8"], ms[f"{i} float32"]
        cells += [
            f"{len(bundle.model) / 1e6:.1f}",
            f"{bundle.report['cost']['macs'] / 1e6:.0f}",
            f"{int8:.2f}",
            f"{float32 / int8:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")


def worth(bundle: Bundle, task: str) -> str:
    """Return accuracy, loss and agreement of a task in words."""
    found, parity = bundle.manifest.metrics["tasks"][task], bundle.report["tasks"][task]
    low, high = (100 * end for end in parity["drop_interval"])
    return (
        f"{100 * found['accuracy']:.1f} %, {100 * parity['drop']:.1f} ({low:.1f} to {high:.1f}), "
        f"{100 * parity['agreement']:.1f} %"
    )


if __name__ == "__main__":
    main()
