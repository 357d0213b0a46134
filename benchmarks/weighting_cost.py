"""What each way of balancing tasks adds to a training step: milliseconds beside equal weights.

    python benchmarks/weighting_cost.py                    # the reported figures
    python benchmarks/weighting_cost.py --tasks 5

Only what lies behind the trunk is timed: heads, losses, balancing, and the way back to the
embedding. The trunk's own time, forward and back, is the same for all of them.
"""

import argparse
import statistics
import time

import torch

from train.weighting import WEIGHTINGS, Weighting
from transom.tasks import Task, TaskSet

_ROWS, _WIDTH, _CLASSES = 32, 128, 3


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2, help="how many tasks are balanced")
    parser.add_argument("--steps", type=int, default=200, help="how many steps are timed")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = [f"task{place}" for place in range(chosen.tasks)]
    tasks = TaskSet(Task(name=name, classes=("a", "b", "c")) for name in names)
    medians = {name: _median_ms(WEIGHTINGS[name](tasks, {}), chosen) for name in WEIGHTINGS}
    print(f"{chosen.tasks} tasks, {_ROWS} rows, {_WIDTH} values, one thread")
    print("| weighting | ms a step | ms beside equal |")
    print("|---|---|---|")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        print(f"| {name} | {median:.2f} | {median - medians['equal']:+.2f} |")


def _median_ms(weighting: Weighting, chosen: argparse.Namespace) -> float:
    weighting.begin_epoch(0)
    heads = torch.nn.ModuleList(torch.nn.Linear(_WIDTH, _CLASSES) for _ in range(chosen.tasks))
    labelled = torch.ones(chosen.tasks, dtype=torch.bool)
    times = []
    for _ in range(chosen.steps):
        shared = torch.rand(_ROWS, _WIDTH, requires_grad=True)
        truth = torch.randint(_CLASSES, (_ROWS,))
        began = time.perf_counter()
        losses = [torch.nn.functional.cross_entropy(head(shared), truth) for head in heads]
        torch.autograd.backward(weighting(torch.stack(losses), labelled, shared))
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
