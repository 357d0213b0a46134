"""Whether a difference between networks is more than chance: over groups, and over seeds.

Two things make an accuracy other than it would be next time: which groups happen to be in the
data, and the seed of the training. The first is drawn by the bootstrap, whole groups with
replacement and the same ones for every network, so that a hard group is hard for all of them. The
second is Student's: the mean over K seeds is moved by its standard error times t, where the
standard deviation is pooled over all networks, because three seeds of one say little of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

_DRAWS = 4000
_BLOCK = 200  # draws at a time, so that the memory stays bounded with many groups


@dataclass(frozen=True)
class Scores:
    """What a network got right, by seed, task and group.

    Attributes:
        right: (K, T, G) float64, rows that were right.
        counts: (T, G) float64, rows that count; the same for every seed.
    """

    right: Floats
    counts: Floats

    @classmethod
    def of(
        cls, tables: Sequence[Mapping[str, Mapping[str, Any]]], tasks: Sequence[str]
    ) -> "Scores":
        """Read the tables `groups` of evaluations on the same rows, one a seed.

        Args:
            tables: By group, rows that count and accuracy by task.
            tasks: Which of them, in which order; each with a row that counts.

        Raises:
            ValueError: There is none, or they are not of the same groups and rows.
        """
        if not tables:
            raise ValueError("scores need the table of at least one seed, got none")
        groups = sorted(tables[0])
        right, counts = [], []
        for table in tables:
            if sorted(table) != groups:
                raise ValueError("scores must be of the same groups for every seed")
            cells = [[table[group]["tasks"].get(task) for group in groups] for task in tasks]
            n = np.array([[cell["n"] if cell else 0 for cell in line] for line in cells], float)
            share = [[cell["accuracy"] if cell else 0.0 for cell in line] for line in cells]
            counts.append(n)
            right.append(n * np.array(share))
        if any(not np.array_equal(n, counts[0]) for n in counts):
            raise ValueError("scores must be of the same rows for every seed")
        return cls(np.stack(right), counts[0])

    @property
    def by_seed(self) -> Floats:
        """Accuracy by seed and task, (K, T) float64, 0 to 1."""
        return np.asarray(self.right.sum(2) / self.counts.sum(1))

    @classmethod
    def side_by_side(cls, parts: Sequence["Scores"]) -> "Scores":
        """Join networks that each have some of the tasks, on the same groups and seeds."""
        return cls(
            np.concatenate([part.right for part in parts], axis=1),
            np.concatenate([part.counts for part in parts], axis=0),
        )


@dataclass(frozen=True)
class Draws:
    """Accuracies of R networks as they might have been.

    Attributes:
        means: (R, T) float64, the accuracy over all rows, mean over seeds.
        by_task: (B, R, T) float64, B draws of it.
        knows_groups: Whether there are two groups or more; otherwise nothing is known of others.
        knows_seeds: Whether any network has two seeds or more.
    """

    means: Floats
    by_task: Floats
    knows_groups: bool
    knows_seeds: bool

    @property
    def means_of_tasks(self) -> Floats:
        """The mean over tasks, (R,)."""
        return np.asarray(self.means.mean(1))

    @property
    def of_tasks(self) -> Floats:
        """Draws of the mean over tasks, (B, R)."""
        return np.asarray(self.by_task.mean(2))

    def interval(self, values: Floats, level: float = 0.95) -> Interval | None:
        """Return the interval of draws (B,); None where nothing is known of chance."""
        if not (self.knows_groups or self.knows_seeds):
            return None
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def interval_of_share(self, values: Floats) -> Interval | None:
        """Return the 95 % interval of draws of a share, which is never outside 0 to 1."""
        return self.interval(np.clip(values, 0.0, 1.0))


def draw_scores(rows: Sequence[Scores], seed: int = 0) -> Draws:
    """Draw what the accuracies of networks might have been.

    Args:
        rows: Networks judged on the same tasks and rows; the number of seeds may differ.
        seed: Of the draws.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
    """
    random = np.random.default_rng(seed)
    counts = rows[0].counts
    groups = counts.shape[1]
    right = np.stack([row.right.mean(0) for row in rows])  # (R, T, G)
    drawn = np.empty((_DRAWS, *right.shape[:2]))
    for start in range(0, _DRAWS, _BLOCK):
        shape = np.full(groups, 1 / groups)
        weights = random.multinomial(groups, shape, size=_BLOCK).astype(np.float64)
        if groups < 2:
            weights[:] = 1.0
        labelled = np.maximum(np.einsum("bg,tg->bt", weights, counts), 1.0)
        sums = np.tensordot(weights, right, ([1], [2]))
        drawn[start : start + _BLOCK] = sums / labelled[:, None]
    deviation, freedom = _spread_over_seeds(rows)
    if freedom:
        errors = np.stack([deviation / np.sqrt(len(row.right)) for row in rows])
        drawn += errors * random.standard_t(freedom, drawn.shape)
    means = np.stack([row.by_seed.mean(0) for row in rows])
    return Draws(means, drawn, knows_groups=groups > 1, knows_seeds=freedom > 0)


def _spread_over_seeds(rows: Sequence[Scores]) -> tuple[Floats, int]:
    """Standard deviation over seeds by task, (T,), pooled over networks; degrees of freedom."""
    squares = [((row.by_seed - row.by_seed.mean(0)) ** 2).sum(0) for row in rows]
    freedom = sum(len(row.right) - 1 for row in rows)
    return np.sqrt(np.sum(squares, axis=0) / max(freedom, 1)), freedom
