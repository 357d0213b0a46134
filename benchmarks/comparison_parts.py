"""What `comparison.py` compares: for each part of its tables, the recipes beside the default."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from train.fusion import FUSIONS
from train.fusion.maps import MAPS
from train.recipe import Recipe
from train.variants import Variant, plan_variants
from train.weighting import WEIGHTINGS
from transom.preprocess import Step

FURTHER = ("autoencoder", "heavy", "backbone-singles")
"""Parts that run only where they are named."""
PRETRAINED = ("efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite0_short",
              "efficientnet_lite0_attention")  # fmt: skip
FROM_NOTHING = ("efficientnet_lite0", "mobilenetv4_conv_small", "mobilenetv2", "resnet18", "tiny")
"""Random weights: there are none for them in the packages that Transom installs, but for the first,
which shows what pretrained ones are worth."""
HEAVY = ("resnet50", "resnet18_cbam", "inception_v3", "vgg16_bn", "deeplabv3plus")
TASKS = 2


def of_keys(base: Recipe, changes: dict[str, dict[str, object]]) -> list[Variant]:
    """Return a variant for each label."""
    return [Variant({"what": label}, base.with_values(values)) for label, values in changes.items()]


def singles(base: Recipe, out: Path) -> list[Variant]:
    return list(plan_variants(base.with_values, {}, budget_tasks=TASKS)[1:])


def fusions(base: Recipe, out: Path) -> list[Variant]:
    return of_keys(base, {name: {"fusion": name} for name in FUSIONS if name != "hard"})


def weightings(base: Recipe, out: Path) -> list[Variant]:
    names = {name: {"weighting": name} for name in WEIGHTINGS if name not in ("equal", "fixed")}
    # With weights of 1 it would be `equal`.
    fixed = {"weighting": "fixed", "task_weights.state": 2.0}
    return of_keys(base, {"fixed, state 2": fixed, **names})


def maps(base: Recipe, out: Path) -> list[Variant]:
    ways = [(name, way) for way in ("early", "late") for name in MAPS]
    return of_keys(
        base, {f"{name}, {way}": {"maps": [name], "maps_fusion": way} for name, way in ways}
    )


def preprocess(base: Recipe, out: Path) -> list[Variant]:
    return of_keys(base, {step: {"preprocess": [step]} for step in get_args(Step)})


def learning(base: Recipe, out: Path) -> list[Variant]:
    return of_keys(
        base,
        {
            "heads only, the backbone stays frozen": {"frozen_epochs": base.epochs},
            "stage after stage let go": {"unfreeze_epochs": 1},
            "nothing frozen first": {"frozen_epochs": 0},
            "statistics of each batch": {"norm": "batch"},
            "mixup 0.2": {"mix.mixup": 0.2},
            "cutmix 1": {"mix.cutmix": 1.0},
            "mutual, two networks": {"mutual.peers": 1},
            "earth mover's distance for `state`": {"ordinal_loss": "earth_mover"},
            "rows shuffled": {"sampling": "shuffled"},
            "groups balanced": {"sampling": "group_balanced"},
            "no dropout": {"dropout": 0.0},
            "no average of weights": {"average": 0.0},
        },
    )


def backbones(base: Recipe, out: Path) -> list[Variant]:
    anew = {
        f"{name}, random weights": {"backbone": name, "pretrained": False} for name in FROM_NOTHING
    }
    return of_keys(base, {name: {"backbone": name} for name in PRETRAINED} | anew)


def heavy(base: Recipe, out: Path) -> list[Variant]:
    return of_keys(
        base,
        {f"{name}, random weights": {"backbone": name, "pretrained": False} for name in HEAVY},
    )


def autoencoder(base: Recipe, out: Path) -> list[Variant]:
    anew = {"backbone": "autoencoder", "pretrained": False}
    seen = {"backbone": "autoencoder", "pretrained": str(out / "autoencoder.safetensors")}
    auxiliary = {"reconstruction": 0.3}
    return of_keys(
        base,
        {
            "autoencoder, random weights": anew,
            "autoencoder, pretrained without labels": seen,
            "autoencoder, reconstruction as a task": anew | auxiliary,
            "autoencoder, both": seen | auxiliary,
            "default, reconstruction as a task": auxiliary,
        },
    )


def backbone_singles(base: Recipe, out: Path) -> list[Variant]:
    return [
        Variant({"what": variant.name}, variant.recipe, is_single=True)
        for variant in backbones(base, out)
    ]


def together(base: Recipe, out: Path) -> list[Variant]:
    """Nothing but the default: ensemble and student are made of its runs."""
    return []


PARTS: dict[str, Callable[[Recipe, Path], list[Variant]]] = {
    "singles": singles,
    "fusions": fusions,
    "weightings": weightings,
    "maps": maps,
    "preprocess": preprocess,
    "learning": learning,
    "backbones": backbones,
    "together": together,
    "autoencoder": autoencoder,
    "heavy": heavy,
    "backbone-singles": backbone_singles,
}
TITLES = {
    "fusions": "How tasks share the network (default: hard)",
    "weightings": "How their losses are balanced (default: equal)",
    "maps": "Hand-made maps beside what is learnt (default: none)",
    "preprocess": "Preprocessing of every crop (default: none)",
    "learning": "Ways to learn (default: an epoch with a frozen backbone, classes balanced)",
    "backbones": "Backbones",
    "together": "Several networks",
    "autoencoder": "Autoencoder: reconstruction before the labels, and beside them",
    "heavy": "Backbones too heavy for a Pi",
}
