"""What a bundle says of how it was made and how good it is."""

from collections.abc import Mapping
from typing import Any

from train.evaluate import Evaluation
from train.run import Run

_GROUPS = 30


def metrics_of(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    """Return what a manifest says of the network: the evaluation without its table of groups."""
    full = evaluation.to_json()
    splits = sorted(set(evaluation.corpus.splits.tolist()))
    learnt = {"has_learnt_from_it": True} if splits == ["val"] and run.has_learnt_from_val else {}
    return {
        "split": " ".join(splits), **learnt, **{k: v for k, v in full.items() if k != "groups"}
    }  # fmt: skip


def evaluation_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation with the hardest groups only: all bundles travel over the air."""
    return with_hardest_groups(evaluation.to_json())


def with_hardest_groups(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation, as JSON has it, with its hardest groups only."""
    groups: dict[str, Any] = found["groups"]
    by_trouble = sorted(groups, key=lambda name: _mistakes(groups[name]), reverse=True)
    return {**found, "groups": {name: groups[name] for name in by_trouble[:_GROUPS]}}


def _mistakes(group: Mapping[str, Any]) -> float:
    """Count the wrong answers of a group, over all tasks."""
    return float(sum(t["n"] * (1 - t["accuracy"]) for t in group["tasks"].values() if t["n"]))


def training_of(run: Run) -> dict[str, Any]:
    """Return what a manifest says of the training: enough to find the run again."""
    return {
        "run": run.folder.name,
        "recipe": run.recipe.digest,
        "backbone": run.recipe.backbone,
        "fusion": run.recipe.fusion,
        "maps": list(run.recipe.maps),
        "versions": dict(run.versions),
    }
