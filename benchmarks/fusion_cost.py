"""What each way of sharing costs: multiply-accumulates of one crop, and parameters.

    python benchmarks/fusion_cost.py                                  # the reported figures
    python benchmarks/fusion_cost.py --backbone mobilenetv2 --size 96 --tasks 4

Nothing is trained and nothing is run: the figures are counted, and hold for float32 and INT8.
"""

import argparse

from train.backbones import BACKBONES
from train.cost import network_cost
from train.fusion import FUSIONS, MAPS
from train.network import build_network
from train.recipe import Recipe
from transom.tasks import Task, TaskSet


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0", choices=list(BACKBONES))
    parser.add_argument("--size", type=int, default=128, help="side of the crop, pixels")
    parser.add_argument("--tasks", type=int, default=2, help="how many tasks share")
    chosen = parser.parse_args()
    tasks = TaskSet(Task(name=f"task{i}", classes=("a", "b", "c")) for i in range(chosen.tasks))
    plain = Recipe(backbone=chosen.backbone, size=chosen.size, pretrained=False)
    ways: list[dict[str, object]] = [{"fusion": name} for name in FUSIONS]
    ways += [{"maps": [name], "maps_fusion": place} for place in ("early", "late") for name in MAPS]
    ways += [{"maps": list(MAPS), "maps_fusion": place} for place in ("early", "late")]

    print(f"{chosen.backbone}, {chosen.size} px, {chosen.tasks} tasks, {plain.embedding} values")
    print("| way | MMAC | times hard | parameters, millions |")
    print("|---|---|---|---|")
    base = 0
    for way in ways:
        cost = network_cost(build_network(plain.with_values(way), tasks), chosen.size)
        base = base or cost.macs
        print(
            f"| {_name(way)} | {cost.macs / 1e6:.1f} | {cost.macs / base:.2f} "
            f"| {cost.parameters / 1e6:.2f} |"
        )


def _name(way: dict[str, object]) -> str:
    maps = way.get("maps")
    if not isinstance(maps, list):
        return str(way["fusion"])
    return f"hard, {' + '.join(maps)}, {way['maps_fusion']}"


if __name__ == "__main__":
    main()
