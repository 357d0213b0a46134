"""How the logits of several networks become one: their mean, weights, or a linear map of them all.

What is fitted is fitted on held-out rows, and a row that took part in a fit says nothing about how
good it is: `left_out` answers each of them by a blend that never saw its group.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from train.corpus import MISSING
from train.members import How
from transom.errors import DatasetError
from transom.tasks import Task

_log = logging.getLogger(__name__)

_FOLDS = 5
_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""How strongly a stack is held to the plain mean, each tried on groups left out."""

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Blend:
    """How the members' logits of one task become the ensemble's.

    Attributes:
        matrix: (C, K C) float64, from the K members' calibrated logits, one after the other, each
            in the ensemble's order of classes.
        bias: (C,) float64.
        weights: (K,) of the members, where the matrix is no more than that.
    """

    matrix: Matrix
    bias: Matrix
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Held:
    """A task on the held-out rows.

    Attributes:
        logits: (N, K, C) float64, calibrated, of the K members that know the task.
        targets: (N,) int64, `MISSING` where a row does not count.
        groups: (N,) names.
    """

    logits: Matrix
    targets: Indices
    groups: npt.NDArray[np.str_]

    def labelled(self) -> "Held":
        """Return the rows that count."""
        return self.rows(self.targets != MISSING)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> "Held":
        """Return the rows where `chosen`, (N,), is true."""
        return Held(self.logits[chosen], self.targets[chosen], self.groups[chosen])


@dataclass(frozen=True)
class Voice:
    """What an ensemble says of a task on the held-out rows.

    Attributes:
        classes: C names.
        blend: How its members' answers become one.
        held: What they say of the N rows.
        logits: (N, C) float64, the ensemble's; of a row that the blend was fitted on, those of a
            blend that never saw the row's group.
    """

    classes: tuple[str, ...]
    blend: Blend
    held: Held
    logits: Matrix


def fit_blend(how: How, held: Held, task: Task) -> Blend:
    """Return a blend, fitted where `how` asks for it.

    Args:
        how: `mean`, `weighted` or `stacked`.
        held: Labelled rows. With fewer than two groups nothing is fitted: the blend is the mean.
        task: What the logits are of.

    Raises:
        DatasetError: There is something to fit, and no labelled row.
    """
    count, classes = held.logits.shape[1:]
    if how != "mean" and not len(held.targets):
        raise DatasetError(
            f"--how {how} is fitted on rows of the split `val`, and none is labelled for "
            f"{task.name!r}; say --how mean"
        )
    is_fitted = count > 1 and len(np.unique(held.groups)) > 1
    if how == "stacked" and is_fitted:
        strength = choose_strength(held)
        _log.debug("stacked task=%s strength=%g", task.name, strength)
        return Blend(*fit_stack(held, strength))
    weights = np.full(count, 1.0 / count)
    if how == "weighted" and is_fitted:
        weights = fit_weights(held)
    return Blend(_mean_matrix(weights, classes), np.zeros(classes), tuple(weights.tolist()))


def blended(held: Held, blend: Blend) -> Matrix:
    """Return the blend's logits of every row, (N, C) float64."""
    flat = held.logits.reshape(len(held.logits), -1)
    return np.asarray(flat @ blend.matrix.T + blend.bias)


def left_out(how: How, held: Held, task: Task, blend: Blend) -> Matrix:
    """Return logits of every row, (N, C) float64, by a blend fitted without the row's group.

    Rows without a label took part in no fit: they are answered by the blend of all that have one.

    Args:
        how: See `fit_blend`.
        held: Rows that a blend is fitted on, labelled or not.
        task: What the logits are of.
        blend: Fitted on all of them that are labelled.
    """
    counted = held.targets != MISSING
    logits = blended(held, blend)
    if how == "mean":
        return logits
    folds = np.full(len(counted), MISSING)
    folds[counted] = _folds(held.groups[counted])
    for fold in np.unique(folds[counted]):
        fitted = held.rows(counted & (folds != fold))
        if len(fitted.targets):  # else there is one group, on which nothing was fitted
            logits[folds == fold] = blended(held.rows(folds == fold), fit_blend(how, fitted, task))
    return logits


def fit_weights(held: Held) -> Matrix:
    """Return the members' weights, (K,) float64 of sum 1, that make labelled rows likeliest.

    A temperature is fitted with them, so that they do not speak for it.
    """
    logits, truth = torch.from_numpy(held.logits), torch.from_numpy(held.targets)
    scores = torch.zeros(logits.shape[1] + 1, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        weights, sharpness = scores[:-1].softmax(0), scores[-1].exp()
        mixed = torch.einsum("nkc,k->nc", logits, weights) * sharpness
        # A little towards equal weights, so that members which are the same share theirs.
        return functional.cross_entropy(mixed, truth) + 1e-3 * scores.square().sum()

    _minimise(loss, scores)
    return np.asarray(scores.detach()[:-1].softmax(0).numpy())


def fit_stack(held: Held, strength: float) -> tuple[Matrix, Matrix]:
    """Return the matrix (C, K C) and bias (C,) that make labelled rows likeliest.

    Args:
        held: Labelled rows.
        strength: Of the pull towards the plain mean, per row; at infinity it is the mean.
    """
    n, count, classes = held.logits.shape
    flat = torch.from_numpy(held.logits.reshape(n, count * classes))
    truth = torch.from_numpy(held.targets)
    mean = torch.from_numpy(_mean_matrix(np.full(count, 1.0 / count), classes))
    if not np.isfinite(strength):
        return np.asarray(mean.numpy()), np.zeros(classes)
    change = torch.zeros(classes, count * classes + 1, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        mixed = flat @ (mean + change[:, :-1]).T + change[:, -1]
        return functional.cross_entropy(mixed, truth) + strength * change.square().sum()

    _minimise(loss, change)
    found = change.detach()
    return np.asarray((mean + found[:, :-1]).numpy()), np.asarray(found[:, -1].numpy())


def choose_strength(held: Held) -> float:
    """Return the strength at which a stack does best on groups that it was not fitted on.

    Args:
        held: Labelled rows.

    Returns:
        One of `_STRENGTHS`; infinity, the plain mean, where none beats it or there are fewer than
        two groups to tell by.
    """
    folds = _folds(held.groups)
    if len(np.unique(folds)) < 2:
        return float("inf")
    strengths = (float("inf"), *reversed(_STRENGTHS))
    costs = [_left_out_cost(held, folds, strength) for strength in strengths]
    return strengths[int(np.argmin(costs))]


def _folds(groups: npt.NDArray[np.str_]) -> Indices:
    """Return (N,) int64, the fold of each row; a group is never in two."""
    names, places = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    return np.asarray(order[places] % min(_FOLDS, max(len(names), 1)), np.int64)


def _mean_matrix(weights: Matrix, classes: int) -> Matrix:
    return np.asarray(np.kron(weights, np.eye(classes)))


def _left_out_cost(held: Held, folds: Indices, strength: float) -> float:
    cost = 0.0
    for fold in np.unique(folds):
        fitted = fit_stack(held.rows(folds != fold), strength)
        left = held.rows(folds == fold)
        scores = torch.from_numpy(blended(left, Blend(*fitted)))
        truth = torch.from_numpy(left.targets)
        cost += float(functional.cross_entropy(scores, truth, reduction="sum"))
    return cost / len(held.targets)


def _minimise(loss: Callable[[], torch.Tensor], parameter: torch.Tensor) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
