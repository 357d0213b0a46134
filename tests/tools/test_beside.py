"""Zones beside everything that has a row."""

from tools.beside import beside
from transom.dataset import Row
from transom.geometry import Zone


def a_row(image: str, *sides: float) -> Row:
    """A door of a picture."""
    return Row(image, Zone.rectangle(*sides), f"of {image}", "val", {"kind": "door"})


ROWS = (
    a_row("a.jpg", 0.0, 0.0, 0.4, 1.0),
    a_row("a.jpg", 0.8, 0.0, 1.0, 0.5),
    a_row("b.jpg", 0.1, 0.1, 0.3, 0.9),
    a_row("full.jpg", 0.0, 0.0, 1.0, 1.0),
)


def test_nothing_that_has_a_row_is_touched() -> None:
    images = set()
    for seed in range(30):
        found = beside(ROWS, seed)
        images |= {row.image for row in found}
        for row in found:
            assert row.labels == {"kind": "other"}
            assert (row.group, row.split) == (f"of {row.image}", "val")
            (left, top), _, (right, bottom), _ = row.zone.points
            assert 0.14 < right - left < 0.56
            for other in (known for known in ROWS if known.image == row.image):
                (x0, y0), _, (x1, y1), _ = other.zone.points
                assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top
    assert images == {"a.jpg", "b.jpg"}  # the third is full


def test_the_same_seed_draws_the_same() -> None:
    assert beside(ROWS, 4) == beside(ROWS, 4)
    assert beside(ROWS, 4) != beside(ROWS, 5)
