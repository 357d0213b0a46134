"""Print what every backbone costs and what is known of it: the tables of docs/backbones.md.

Each is exported with one head of three classes and an embedding of 128, from random weights, and
quantised with eight crops of noise: cost and operators do not depend on what the weights are.

    python benchmarks/backbones.py [--size 128] [NAME…]
"""

import argparse
import sys

import numpy as np
import torch

from export.cost import count_cost
from export.graph import export_graph
from export.quantize import count_operators, quantize
from train.backbones import BACKBONES, Backbone
from train.network import build_network
from train.recipe import Recipe
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "ajar", "open"))])
INTEGER = ("QLinear", "Nhwc", "QGemm", "DequantizeLinear", "QuantizeLinear")
SHAPES = ("Shape", "Gather", "Range", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat")
"""Of sizes, or moving what is there: neither costs anything."""
MOVES = ("Transpose", "Reshape", "Flatten", "Cast", "Sub", "Gemm", "MaxPool")
"""Of the input, of the head, or without arithmetic: every graph has some."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the crops, pixels")
    parser.add_argument("names", nargs="*", help="backbones; all where none is named")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbones = [BACKBONES[name] for name in arguments.names or BACKBONES]
    print("| backbone | MMAC | M parameters | INT8 bundle MB | operators that stay in float |")
    print("|---|---|---|---|---|")
    for backbone in backbones:
        print(cost_row(backbone, arguments.size), flush=True)
    print("\n| backbone | what it is | normalisation | channels | strides | least px | INT8 |")
    print("|---|---|---|---|---|---|---|")
    for backbone in backbones:
        print(fact_row(backbone))
    print("\n| backbone | weights | licence | trained on | here |\n|---|---|---|---|---|")
    for backbone in backbones:
        print(weights_row(backbone))


def cost_row(backbone: Backbone, size: int) -> str:
    recipe = Recipe(size=size, backbone=backbone.name, pretrained=False)
    network = build_network(recipe, TASKS, pretrained=False).eval()
    print(f"exporting {backbone.name}", file=sys.stderr)
    graph = export_graph(network, TASKS, size)
    crops = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    int8 = quantize(graph, TASKS, crops)
    cost = count_cost(graph)
    left = {
        kind: count
        for kind, count in sorted(count_operators(int8).items())
        if not kind.startswith(INTEGER) and kind not in (*MOVES, *SHAPES)
    }
    floats = ", ".join(f"{count} {kind}" for kind, count in left.items()) or "none"
    return (
        f"| `{backbone.name}` | {cost.macs / 1e6:.0f} | {cost.parameters / 1e6:.2f} "
        f"| {len(int8) / 1e6:.1f} | {floats} |"
    )


def fact_row(backbone: Backbone) -> str:
    mean = ", ".join(f"{value:g}" for value in backbone.mean)
    std = ", ".join(f"{value:g}" for value in backbone.std)
    if len(set(backbone.mean)) == 1:
        mean, std = f"{backbone.mean[0]:g}", f"{backbone.std[0]:g}"
    friendly = "yes" if backbone.int8_friendly else "no"
    return (
        f"| `{backbone.name}` | {backbone.about} | (BGR - {mean}) / {std} "
        f"| {', '.join(map(str, backbone.channels))} | {', '.join(map(str, backbone.strides))} "
        f"| {backbone.minimum_size} | {friendly}: {backbone.int8} |"
    )


def weights_row(backbone: Backbone) -> str:
    weights = backbone.weights
    if weights is None:
        return f"| `{backbone.name}` | none published | | | |"
    here = "with the extra `train`" if weights.comes_with_train else "only in a cache or a file"
    return f"| `{backbone.name}` | {weights.source} | {weights.licence} | {weights.data} | {here} |"


if __name__ == "__main__":
    main()
