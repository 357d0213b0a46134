"""A few examples of one zone, learnt at once on what a network makes of pictures: a small head.

The head adds to the log-probabilities b of the bundle a linear function of the embedding z, which
is fitted with numpy to n examples of the zone and to the G pictures of the bundle's guard:

    log p(z) = b + W (z - m) / s + c,   normalised
    minimise   sum_n w_n CE(p_n, y_n) + v sum_G CE(p_g, b_g) + lambda / 2 (|W|^2 + |c|^2)

m and s are the examples' centre and spread, so that lambda means the same for every network; w
gives each label the same weight. The guard's pictures keep the answers that the bundle gives them:
without them a lesson about one door overturns what the network knows of others.

It is solved in the space of the n + G pictures, where a class's log-probabilities are K a with
K = F F^T + 1. The Hessian of a softmax is at most I / 2 (Böhning), so each step

    a <- a - (w K / 2 + lambda I)^-1 (w (p - y) + lambda a)

lowers the whole: no step size, no line search, one factorisation.

**Never worse than the bundle alone** on the examples, nor on the guard: the guard's weight v grows
until that holds, and where it never does, there is no head. Two labels that exclude each other are
the least that can be learnt from: a head that knows closed doors only would call every door closed.

References:
    Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44 (1992).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

STRENGTH = 0.1
"""lambda: weak, because few examples that contradict the bundle must be able to turn it."""

GUARD_WEIGHTS = (1.0, 4.0, 16.0, 64.0)
"""How much a picture of the guard weighs, in examples; tried in this order."""

REACH = 1.0
"""Spreads of the examples within which a picture is like one of them."""

_STEPS = 150
_SETTLED = 1e-4
_LEAST = 1e-6

Refusal = Literal["few", "examples", "guard"]
"""Why there is no head: no two labels exclude each other, or it would be worse on these."""


@dataclass(frozen=True)
class Examples:
    """N pictures, what the bundle alone says of them, and what is true.

    Attributes:
        embedding: (N, D) float32.
        probabilities: (N, C) float32.
        truth: (N, C) bool, the classes that may be true; where more than one is, it is known only
            that it is one of them.
    """

    embedding: Floats
    probabilities: Floats
    truth: Bools

    def __len__(self) -> int:
        return len(self.embedding)

    def count_right(self, probabilities: Floats) -> int:
        """Return how many of (N, C) answers are right."""
        return int(self.truth[np.arange(len(self)), probabilities.argmax(axis=1)].sum())


@dataclass(frozen=True)
class Head:
    """What was learnt about one zone.

    Attributes:
        weights: (D, C) float32.
        bias: (C,) float32.
        examples: (n, D) float32, the embeddings that it was learnt from.
        reach: Distance of embeddings within which a picture is like an example.
    """

    weights: Floats
    bias: Floats
    examples: Floats
    reach: float

    def __call__(self, probabilities: Floats, embedding: Floats) -> Floats:
        """Return probabilities, (N, C) float32, in place of the bundle's.

        Args:
            probabilities: (N, C) float32, what the bundle alone says.
            embedding: (N, D) float32.
        """
        return _softmax(_logs(probabilities) + embedding @ self.weights + self.bias)

    def is_like_examples(self, embedding: Floats) -> Bools:
        """Return whether each of (N, D) pictures is like one that it was learnt from, (N,)."""
        apart = np.linalg.norm(embedding[:, None] - self.examples[None], axis=2)
        return np.asarray(apart.min(axis=1) <= self.reach)


def learn(examples: Examples, guard: Examples) -> Head | Refusal:
    """Return a head that is never worse than the bundle alone, or why there is none.

    Args:
        examples: Of the zone.
        guard: Of other places, of the same classes; may be none.
    """
    together = examples.truth.astype(np.int64) @ examples.truth.T.astype(np.int64)
    if together.all():
        return "few"
    refusal: Refusal = "examples"
    for weight in GUARD_WEIGHTS:
        head = _fit(examples, guard, weight)
        said = head(examples.probabilities, examples.embedding)
        if examples.count_right(said) < examples.count_right(examples.probabilities):
            refusal = "examples"
            continue
        said = head(guard.probabilities, guard.embedding)
        if guard.count_right(said) >= guard.count_right(guard.probabilities):
            return head
        refusal = "guard"
    return refusal


def _fit(examples: Examples, guard: Examples, guard_weight: float) -> Head:
    centre, spread = _place(examples)
    embedding = np.concatenate([examples.embedding, guard.embedding]).astype(np.float64)
    features = (embedding - centre) / spread
    before = _logs(np.concatenate([examples.probabilities, guard.probabilities]))
    truth = np.concatenate([examples.truth.astype(np.float64), guard.probabilities])
    weights = np.concatenate([_balance(examples), np.full(len(guard), guard_weight)])[:, None]
    kernel = features @ features.T + 1.0
    step = np.linalg.inv(0.5 * weights * kernel + STRENGTH * np.eye(len(kernel)))
    duals = np.zeros_like(before)
    for _ in range(_STEPS):
        said = _softmax(before + kernel @ duals)
        # Of the classes that may be true, the shares that it gives them now; one alone gets all.
        aim = np.where(truth > 0.0, said * truth, 0.0)
        aim[: len(examples)] /= np.maximum(aim[: len(examples)].sum(axis=1, keepdims=True), _LEAST)
        aim[len(examples) :] = guard.probabilities
        change = step @ (weights * (said - aim) + STRENGTH * duals)
        duals -= change
        if np.abs(change).max() < _SETTLED:
            break
    slope = features.T @ duals / spread
    return Head(
        weights=slope.astype(np.float32),
        bias=(duals.sum(axis=0) - centre @ slope).astype(np.float32),
        examples=examples.embedding,
        reach=REACH * spread,
    )


def _place(examples: Examples) -> tuple[npt.NDArray[np.float64], float]:
    """Return the centre of the labels' means, (D,), and the examples' spread about it."""
    _, labels = np.unique(examples.truth, axis=0, return_inverse=True)
    embedding = examples.embedding.astype(np.float64)
    centre = np.mean([embedding[labels == label].mean(axis=0) for label in set(labels)], axis=0)
    spread = float(np.sqrt(((embedding - centre) ** 2).sum(axis=1).mean()))
    return centre, max(spread, _LEAST)


def _balance(examples: Examples) -> npt.NDArray[np.float64]:
    """Return a weight for each example, 1 on average, so that labels weigh the same."""
    _, labels, counts = np.unique(examples.truth, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(len(examples) / (len(counts) * counts[labels]), np.float64)


def _logs(probabilities: Floats) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), _LEAST))


def _softmax(logits: npt.NDArray[np.floating]) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
