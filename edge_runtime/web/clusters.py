"""Pictures in the order in which labels of them are worth most, those that are alike together.

A cluster holds pictures of one place that one network answered alike (likeness of `ALIKE` to the
cluster's first one, see `sample.likeness`), that get the same class and have the same label: what
one word can be true of. A picture is worth a label as far as the answer to it is in doubt (one
minus the lead of the likeliest class), a cluster as the most doubtful of its pictures, and more so
where it is large; what has a label comes last.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.sample import likeness

ALIKE = 0.9
"""Likeness to its first picture that a cluster's others have; the store's own bound is stricter."""

_SIZE_WEIGHT = 0.1
_BLOCK = 128
"""Pictures that are compared with all others at once: 3 MB of likenesses for 6,000 others."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that may be labelled, for one task.

    Attributes:
        id: What the page calls it.
        place: The zone, or the group of a data set: pictures of different ones are never together.
        model: Digest of the network that answered.
        classes: C of them.
        embedding: (D,) float32.
        said: (C,) float32, what the bundle alone says.
        judged: (C,) float32, what is said with what was taught.
        label: A class, several joined by `|`, or None.
        labelled_by: Who said so.
        why: Why the picture is there.
        taken_at: ISO 8601, or empty.
        copies: Pictures that it stands for.
    """

    id: str
    place: str
    model: str
    classes: tuple[str, ...]
    embedding: Floats
    said: Floats
    judged: Floats
    label: str | None = None
    labelled_by: str | None = None
    why: str = ""
    taken_at: str = ""
    copies: int = 1

    @property
    def top(self) -> int:
        """Index of the likeliest class."""
        return int(self.judged.argmax())

    @property
    def doubt(self) -> float:
        """How little the likeliest class leads, 0 to 1."""
        ordered = np.sort(self.judged)
        return float(1.0 - (ordered[-1] - ordered[-2])) if len(ordered) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pictures that one label is true of, the most doubtful first."""

    items: tuple[Item, ...]

    @property
    def worth(self) -> float:
        """What a label of it is worth beside those of others."""
        count = sum(item.copies for item in self.items)
        return self.items[0].doubt + _SIZE_WEIGHT * math.log(count)


def clusters(items: Iterable[Item]) -> list[Cluster]:
    """Return the pictures in clusters, what is worth a label most first.

    Examples:
        >>> a, b = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
        >>> def item(id, embedding, p):
        ...     said = np.array([p, 1 - p], np.float32)
        ...     return Item(id, "door", "m", ("closed", "open"), embedding, said, said)
        >>> found = clusters([item("1", a, 0.9), item("2", a, 0.8), item("3", b, 0.6)])
        >>> [[one.id for one in cluster.items] for cluster in found]
        [['3'], ['2', '1']]
    """
    alike: dict[tuple[object, ...], list[Item]] = defaultdict(list)
    for item in items:
        alike[item.place, item.model, item.classes, item.top, item.label].append(item)
    found = [cluster for same in alike.values() for cluster in _split(same)]
    return sorted(found, key=lambda one: (one.items[0].label is not None, -one.worth))


def _split(items: list[Item]) -> list[Cluster]:
    """Put each item, the most doubtful first, to the first cluster that begins with one like it."""
    items = sorted(items, key=lambda item: -item.doubt)
    embedding = np.stack([item.embedding for item in items])
    is_left = np.ones(len(items), np.bool_)
    found = []
    for start in range(0, len(items), _BLOCK):
        first = start + np.flatnonzero(is_left[start : start + _BLOCK])
        rest = start + np.flatnonzero(is_left[start:])
        # A product of matrices for all that may begin a cluster here: one after the other, each
        # would read all of the rest again.
        near = likeness(embedding[first], embedding[rest]) >= ALIKE
        for row, index in enumerate(first):
            if not is_left[index]:
                continue
            near[row, row] = True  # whatever rounding says of a picture and itself
            members = rest[near[row] & is_left[rest]]
            is_left[members] = False
            found.append(Cluster(tuple(items[int(member)] for member in members)))
    return found
