"""Pictures that one label is true of, together; whatever the number of pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.sample import likeness
from edge_runtime.web.clusters import ALIKE, Item, clusters


def drawn(seed: int, count: int, centres: int, spread: float) -> list[Item]:
    """Draw pictures around some centres, each in doubt of its own."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=(centres, 16))
    embedding = centre[random.integers(0, centres, count)] + spread * random.normal(
        size=(count, 16)
    )
    items = []
    for number, row in enumerate(embedding.astype(np.float32)):
        p = random.uniform(0.5, 1.0)
        said = np.array([p, 1.0 - p], np.float32)
        items.append(Item(str(number), "door", "m", ("closed", "open"), row, said, said))
    return items


def one_after_the_other(items: list[Item]) -> list[list[str]]:
    """Return the clusters by their definition: each begins with the most doubtful that is left."""
    left = sorted(items, key=lambda item: -item.doubt)
    found = []
    while left:
        first = left[0]
        alike = [
            item
            for item in left
            if item is first or likeness(first.embedding[None], item.embedding[None])[0, 0] >= ALIKE
        ]
        found.append([item.id for item in alike])
        left = [item for item in left if item not in alike]
    return found


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(1, 300),
    centres=st.integers(1, 40),
    spread=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_clusters_are_those_of_the_definition(
    seed: int, count: int, centres: int, spread: float
) -> None:
    items = drawn(seed, count, centres, spread)
    found = [[item.id for item in cluster.items] for cluster in clusters(items)]
    assert sorted(found) == sorted(one_after_the_other(items))


def test_every_picture_is_in_one_cluster_also_where_all_are_alike_or_none() -> None:
    for spread, count in ((0.0, 1), (9.0, 500)):
        found = clusters(drawn(1, 500, 1, spread))
        assert sum(len(cluster.items) for cluster in found) == 500
        assert len(found) == pytest.approx(count, rel=0.02)


def test_an_embedding_of_nothing_is_alike_to_itself() -> None:
    said = np.array([0.6, 0.4], np.float32)
    nothing = np.zeros(4, np.float32)
    items = [Item(str(n), "door", "m", ("a", "b"), nothing, said, said) for n in range(3)]
    assert sum(len(cluster.items) for cluster in clusters(items)) == 3
