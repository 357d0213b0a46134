"""What an export writes down of itself: the bundle's `report.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from export.cost import count_cost
from export.figures import evaluation_of
from export.parity import TaskParity
from export.quantize import count_operators
from export.recipe import ExportRecipe, Fallback
from export.unrounded import Unrounded
from train.evaluate import Evaluation
from train.predictor import Said
from transom.session import Precision


@dataclass(frozen=True)
class Candidate:
    """A network that passed the gate, not yet calibrated.

    Attributes:
        model: ONNX.
        precision: Of its arithmetic.
        said: What it says of the held-out crops.
        parity: How that compares with float32.
        why: It is the one to ship, in words.
        fallback: How it was made; None = the plain way.
        excluded: How many of its convolutions stay in float on purpose.
    """

    model: bytes
    precision: Precision
    said: Said
    parity: tuple[TaskParity, ...]
    why: str
    fallback: Fallback | None
    excluded: int


def report_of(
    candidate: Candidate,
    recipe: ExportRecipe,
    evaluation: Evaluation,
    model: bytes,
    *,
    difference: float,
    temperatures: Mapping[str, float],
    unrounded: Unrounded,
    float32_tolerance: float | None,
) -> dict[str, Any]:
    """Return what `report.json` says; nothing in it depends on the clock.

    Args:
        candidate: What ships.
        recipe: What it had to reach.
        evaluation: Of the network as it ships.
        model: That network.
        difference: Between torch and ONNX float32; see `export.parity.check_float`.
        temperatures: By task.
        unrounded: How the network does when it is run in float32.
        float32_tolerance: Of the goldens then; None = it must not be.
    """
    operators = count_operators(model)
    return {
        "precision": candidate.precision,
        "why": candidate.why,
        "fallback": candidate.fallback,
        "tasks": _parities(candidate.parity),
        "float32": {
            "tolerance": float32_tolerance,
            "refused": unrounded.refused,
            "tasks": _parities(unrounded.parity),
        },
        "limits": msgspec.to_builtins(recipe.limits),
        "float_difference": difference,
        "quantization": msgspec.to_builtins(recipe.quantization),
        "float_conv": operators["Conv"] + operators["FusedConv"],
        "quantize_linear": operators["QuantizeLinear"],
        "operators": dict(sorted(operators.items())),
        "cost": msgspec.to_builtins(count_cost(model)),
        "temperatures": dict(temperatures),
        "evaluation": evaluation_of(evaluation),
    }


def _parities(parities: Sequence[TaskParity]) -> dict[str, dict[str, Any]]:
    return {
        parity.task: {k: v for k, v in msgspec.to_builtins(parity).items() if k != "task"}
        for parity in parities
    }
