"""Which rows an epoch draws, and in which order."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from train.registry import Registry
from transom.errors import ConfigurationError

Targets = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

Sampling = Callable[[Targets, Sequence[str]], Shares]
"""From targets (N, T), -1 = not labelled, and groups (N,) to each row's share, (N,), sum 1."""

SAMPLINGS: Registry[Sampling] = Registry("sampling")


@SAMPLINGS.named("shuffled")
def shuffled(targets: Targets, groups: Sequence[str]) -> Shares:
    """Give every row the same share."""
    return np.full(len(targets), 1.0 / max(len(targets), 1))


@SAMPLINGS.named("class_balanced")
def class_balanced(targets: Targets, groups: Sequence[str]) -> Shares:
    """Give every class of a task the same share, and every task the same."""
    return _balanced(targets, np.ones(len(targets)))


@SAMPLINGS.named("group_balanced")
def group_balanced(targets: Targets, groups: Sequence[str]) -> Shares:
    """Balance the classes, and within a class let big groups count less.

    A group's share grows with the square root of its size: one much-photographed door does not
    outvote a hundred others, nor does a single picture count like a hundred.
    """
    _, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return _balanced(targets, 1.0 / np.sqrt(sizes[codes]))


def row_shares(
    sampling: str,
    targets: Targets,
    groups: Sequence[str],
    origins: Sequence[str],
    dataset_weights: Mapping[str, float],
) -> Shares:
    """Return how often each row is drawn, (N,), sum 1.

    Args:
        sampling: Its name.
        targets: (N, T) int64, -1 = not labelled.
        groups: N names.
        origins: N names of data sets.
        dataset_weights: By data set, how much is drawn from it, relative to the others; the
            sampling then balances within each. Empty = it sees all rows as of one.

    Raises:
        ConfigurationError: There is no such sampling, or `dataset_weights` does not name just the
            data sets that there are.
    """
    balance = SAMPLINGS[sampling]
    if not dataset_weights:
        return balance(targets, groups)
    present = sorted(set(origins))
    if sorted(dataset_weights) != present or not sum(dataset_weights.values()) > 0:
        raise ConfigurationError(
            f"recipe: dataset_weights must name just the data sets that are trained on "
            f"({', '.join(present)}), one of them above 0; "
            f"it names {', '.join(sorted(dataset_weights))}"
        )
    shares = np.zeros(len(targets))
    for origin in present:
        rows = np.flatnonzero([name == origin for name in origins])
        within = balance(targets[rows], [groups[row] for row in rows.tolist()])
        shares[rows] = within * dataset_weights[origin]
    return np.asarray(shares / shares.sum())


def _balanced(targets: Targets, importance: Shares) -> Shares:
    """Scale `importance` so that the classes of each task have equal sums, averaged over tasks."""
    shares = np.zeros(len(targets))
    for column in targets.T:
        labelled = column >= 0
        if not labelled.any():
            continue
        sums = np.bincount(column[labelled], importance[labelled])
        shares[labelled] += importance[labelled] / sums[column[labelled]] / (sums > 0).sum()
    return np.asarray(shares / max(shares.sum(), np.finfo(np.float64).tiny))


def draw(shares: Shares, count: int, random: np.random.Generator) -> Indices:
    """Draw rows in a random order, each as often as its share says, to within one.

    Systematic resampling: with equal shares and `count` = N every row comes exactly once, where
    independent draws would leave out a third of them.

    Args:
        shares: (N,) not negative, sum 1.
        count: How many to draw.
        random: Decides order and rounding.

    Returns:
        (count,) int64 indices of rows.

    References:
        Kitagawa, Monte Carlo filter and smoother, J. Comp. Graph. Stat. 5 (1996).
    """
    order = random.permutation(len(shares))
    edges = np.cumsum(shares[order])
    marks = (np.arange(count) + random.uniform()) * (edges[-1] / count)
    positions = np.minimum(np.searchsorted(edges, marks, side="right"), len(shares) - 1)
    return np.asarray(random.permutation(order[positions]), np.int64)
