"""What is known of stored pictures without reading them: which are the same, which goes first."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edge_runtime.sample import Floats, Sample, likeness

ALIKE = 0.98
"""Likeness (see `likeness`) from which on two pictures are the same one.

Of the real window clip, neighbouring frames are 0.990 and 0.998 alike (one pane, whole picture),
those of one state two seconds apart 0.885 and 0.981 (`benchmarks/few_shot.py`, medians).
"""

REDUNDANT = 0.9
"""Likeness below which no picture is redundant: then the oldest goes first."""

_MOST_COMPARED = 1000
"""Pictures of which each is compared with each other, the oldest: the time and the memory for that
grow with the square, and the loop that watches doors waits for it."""


@dataclass(slots=True)
class Kept:
    """A stored picture: what `Sample` says of it that is looked at often, and what it costs.

    Attributes:
        stored_bytes: With its row.
    """

    id: int
    zone: str
    model: str
    label: str | None
    drawn: int
    stored_bytes: int
    embedding: Floats


class SampleIndex:
    """All pictures of a store, held in memory; ids grow with age."""

    def __init__(self) -> None:
        self._kept: dict[int, Kept] = {}
        self._versions: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._kept)

    @property
    def stored_bytes(self) -> int:
        """What all pictures take."""
        return sum(kept.stored_bytes for kept in self._kept.values())

    @property
    def labelled(self) -> int:
        """How many pictures have a label."""
        return sum(kept.label is not None for kept in self._kept.values())

    def version(self, zone: str) -> int:
        """Return a number that changes when labels of a zone do."""
        return self._versions[zone]

    def outdate(self) -> None:
        """Take the labels of every zone for changed: the store is not what it was."""
        self._versions.update(kept.zone for kept in self._kept.values())

    def fill(self, kept: Iterable[Kept]) -> None:
        """Hold what a store holds, the oldest first, and nothing else."""
        self._kept = {one.id: one for one in kept}

    def get(self, id_: int) -> Kept | None:
        """Return a picture; None where there is none of that id."""
        return self._kept.get(id_)

    def add(self, kept: Kept) -> None:
        """Take in a picture that is new in the store."""
        self._kept[kept.id] = kept
        if kept.label is not None:
            self._versions[kept.zone] += 1

    def remove(self, id_: int) -> None:
        """Take out a picture that has gone from the store; nothing where it was not there."""
        kept = self._kept.pop(id_, None)
        if kept is not None and kept.label is not None:
            self._versions[kept.zone] += 1

    def label(self, kept: Kept, label: str | None) -> None:
        """Take in what a picture was said to show."""
        kept.label = label
        self._versions[kept.zone] += 1

    def twin(self, sample: Sample) -> Kept | None:
        """Return the stored picture that shows the same as one of the same zone and network."""
        same = [k for k in self._kept.values() if (k.zone, k.model) == (sample.zone, sample.model)]
        if not same:
            return None
        alike = likeness(sample.embedding[None], np.stack([kept.embedding for kept in same]))[0]
        best = int(alike.argmax())
        return same[best] if alike[best] >= ALIKE else None

    def surplus(self, most: int, most_bytes: int) -> list[Kept]:
        """Return what goes, the oldest, those with a label last, for so much to be left.

        Args:
            most: Pictures.
            most_bytes: What they take.
        """
        left, left_bytes, gone = len(self), self.stored_bytes, []
        for kept in sorted(self._kept.values(), key=lambda one: (one.label is not None, one.id)):
            if left <= most and left_bytes <= most_bytes:
                break
            left, left_bytes = left - 1, left_bytes - kept.stored_bytes
            gone.append(kept)
        return gone

    def victim(self) -> Kept:
        """Return what goes first: of the two that are most alike the older, else the oldest.

        Where there are many, only the oldest thousand are compared. What has a label goes after
        what has none. Drawn ones are no more than the others' equals in age: taken out for being
        alike, they would no longer be a random share.

        Raises:
            ValueError: There is no picture.
        """
        free = [kept for kept in self._kept.values() if kept.label is None]
        candidates = (free or list(self._kept.values()))[:_MOST_COMPARED]
        alike: list[tuple[float, Kept]] = []
        for place in {(kept.zone, kept.model) for kept in candidates}:
            same = [k for k in candidates if (k.zone, k.model) == place and not k.drawn]
            if len(same) > 1:
                alike.append(_most_alike(same))
        if alike:
            closest, older = max(alike, key=lambda found: (found[0], -found[1].id))
            if closest >= REDUNDANT:
                return older
        return min(candidates, key=lambda kept: kept.id)


def _most_alike(kept: list[Kept]) -> tuple[float, Kept]:
    """Return how alike the two most alike are, and the older of them."""
    embedding = np.stack([one.embedding for one in kept])
    alike = likeness(embedding, embedding)
    np.fill_diagonal(alike, -np.inf)
    first, second = np.unravel_index(int(alike.argmax()), alike.shape)
    older = min(kept[int(first)], kept[int(second)], key=lambda one: one.id)
    return float(alike[first, second]), older
