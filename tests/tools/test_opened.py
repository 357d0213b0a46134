"""Leaves of photographs opened by warping."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.opened.__main__ import make
from tools.opened.beyond import draw_beyond, through_doors, without_doors
from tools.opened.leaves import Leaf, bare_leaves, box_corners, framed_leaves
from tools.opened.turn import Wall, turn_leaf
from tools.opened.windows import open_window
from train.scenes.dataset import scene_tasks
from transom.dataset import Row, read_dataset, write_dataset
from transom.geometry import Zone

GREEN = np.full((60, 60, 3), (0, 200, 0), np.uint8)
"""What is behind every leaf here."""
BOX = (60.0, 40.0, 140.0, 190.0)


def a_leaf(kind: str = "door", grey: int = 120) -> Leaf:
    """Red, with a blue half at its right, in a grey wall."""
    picture = np.full((220, 200, 3), grey, np.uint8)
    left, top, right, bottom = map(int, BOX)
    picture[top:bottom, left:right] = (30, 30, 180)
    picture[top:bottom, (left + right) // 2 : right] = (180, 30, 30)
    return Leaf(picture, box_corners(*BOX), kind, "of a leaf")


def green(picture: np.ndarray) -> np.ndarray:
    """Where what is behind is seen."""
    signed = picture.astype(int)
    return np.asarray(signed[..., 1] - signed[..., [0, 2]].max(-1) > 20)


def test_what_lies_in_the_leafs_plane_stays() -> None:
    corners = np.array([[60, 40], [150, 50], [140, 190], [55, 180]], np.float32)
    wall = Wall(corners, (100, 110), np.random.default_rng(0))
    plane = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, wall.height, 0.0), (0.0, wall.height, 0.0)]
    assert np.allclose(wall.project(plane), corners, atol=1e-3)


def test_what_is_further_away_is_smaller() -> None:
    wall = Wall(box_corners(*BOX), (100, 110), np.random.default_rng(1))

    def height_at(z: float) -> float:
        above, below = wall.project([(0.5, 0.0, z), (0.5, wall.height, z)])
        return float(below[1] - above[1])

    assert height_at(0.8) < 0.9 * height_at(0.0)
    assert height_at(-0.8) > 1.1 * height_at(0.0)


@pytest.mark.parametrize("seed", range(6))
def test_the_wider_open_the_more_is_seen_behind(seed: int) -> None:
    def behind(degrees: float) -> float:
        random = np.random.default_rng(seed)
        picture = turn_leaf(a_leaf(), degrees, [GREEN], random, is_day=True)
        return float(green(picture)[40:190, 60:140].mean())

    assert behind(0.0) < 0.03
    assert behind(20.0) < behind(60.0) <= behind(100.0)
    assert behind(100.0) > 0.4


@pytest.mark.parametrize("hinge", ["left", "right"])
def test_a_leaf_stays_at_its_hinge(hinge: str) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        open_side = green(turn_leaf(a_leaf(), 45, [GREEN], random, hinge=hinge, is_day=True))
        at_left, at_right = open_side[60:170, 66:76].mean(), open_side[60:170, 124:134].mean()
        assert (at_left < at_right) == (hinge == "left")


def test_beside_the_leaf_nothing_changes() -> None:
    leaf = a_leaf()
    for seed in range(4):
        made = turn_leaf(leaf, 40, [GREEN], np.random.default_rng(seed))
        assert np.abs(made[:10].astype(int) - leaf.picture[:10]).max() <= 2


def test_anothers_face_is_put_in_its_place() -> None:
    white = Leaf(np.full((220, 200, 3), 250, np.uint8), box_corners(*BOX), "door", "of another")
    made = turn_leaf(a_leaf(), 0, [GREEN], np.random.default_rng(0), other=white)
    inner = made[60:170, 70:130]
    assert inner.std() < 10  # neither red nor blue


def test_of_an_open_window_more_has_changed_than_of_one_ajar() -> None:
    leaf = a_leaf("window", grey=200)

    def changed(state: str, seed: int) -> float:
        picture = open_window(leaf, state, [leaf], [GREEN], np.random.default_rng(seed))
        return float((np.abs(picture.astype(int) - leaf.picture).max(-1) > 40).mean())

    ajar, opened = ([changed(state, seed) for seed in range(60)] for state in ("ajar", "open"))
    assert min(ajar + opened) > 0
    assert np.mean(opened) > 1.3 * np.mean(ajar)


def test_a_shut_window_is_painted_anew_and_shut() -> None:
    leaf = a_leaf("window")
    for seed in range(12):
        picture = open_window(leaf, "closed", [leaf], [GREEN], np.random.default_rng(seed))
        assert not np.array_equal(picture, leaf.picture)
        assert green(picture)[40:190, 60:140].mean() < 0.03


def test_what_opens_away_stays_behind_the_wall() -> None:
    leaf = a_leaf()
    on_the_wall = np.ones(leaf.picture.shape[:2], bool)
    left, top, right, bottom = map(int, BOX)
    on_the_wall[top - 3 : bottom + 3, left - 3 : right + 3] = False
    changes = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        made = turn_leaf(leaf, 105, [np.full((60, 60, 3), 120, np.uint8)], random)
        changed = np.abs(made.astype(int) - leaf.picture).max(-1) > 6
        changes.append(int((changed & on_the_wall).sum()))
    # Towards the camera it stands before the wall, and is seen there.
    assert min(changes) == 0
    assert 10 < sum(change == 0 for change in changes) < 40


def test_daylight_is_bright() -> None:
    dark = np.full((50, 50, 3), 20, np.uint8)
    for seed in range(8):
        drawn = draw_beyond([dark], (30, 40), np.random.default_rng(seed), is_day=True)
        assert drawn.shape == (40, 30, 3)
        assert drawn.mean() > 100


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A photograph of a shut door, twice, one of them turned; an open one; one too small."""
    folder = tmp_path / "photographs"
    (folder / "images").mkdir(parents=True)
    zone = Zone.rectangle(0.2, 0.15, 0.8, 0.9)
    rows = []
    for name, state, split in (
        ("shut", "closed", "train"),
        ("turned", "closed", "train"),
        ("open", "open", "train"),
        ("small", "closed", "train"),
        ("kept", "closed", "val"),
    ):
        picture = a_leaf().picture.copy()
        if name == "turned":
            picture[:9, :9] = 0
        cv2.imwrite(str(folder / "images" / f"{name}.png"), picture)
        source = "one" if name in ("shut", "turned") else name
        where = Zone.rectangle(0.4, 0.4, 0.5, 0.6) if name == "small" else zone
        labels = {"kind": "door", "state": state}
        rows.append(Row(f"images/{name}.png", where, name, split, labels, {"source": source}))
    write_dataset(folder, name="photographs", tasks=scene_tasks(), rows=rows)
    return folder


def test_only_shut_leaves_of_training_pictures_are_taken(photographs: Path) -> None:
    dataset = read_dataset(photographs)
    (framed,) = framed_leaves(dataset, "train")
    assert framed.group == "shut"  # the upright one of two copies
    assert {leaf.group for leaf in bare_leaves(dataset, "train")} == {"shut", "turned"}
    (inner,) = [leaf for leaf in bare_leaves(dataset, "train") if leaf.group == "shut"]
    assert framed.box[0] > inner.box[0]  # within the frame
    assert len(through_doors(dataset, "train")) == 1
    assert without_doors(dataset, "train", "images/") == []


def test_every_leaf_is_made_in_every_state_and_again_alike(
    photographs: Path, tmp_path: Path
) -> None:
    dataset = read_dataset(photographs)
    leaves = [*bare_leaves(dataset, "train"), a_leaf("window")]
    beyond = through_doors(dataset, "train")
    for name in ("first", "second"):
        assert make(tmp_path / name, "train", leaves[:1], leaves[1:], beyond, 3) == 3 * (1 + 3 + 2)
    made = read_dataset(tmp_path / "first")
    assert not made.mistakes
    states = [row.labels["state"] for row in made.rows]
    assert states == ["closed", "ajar", "open"] * 6
    assert {row.split for row in made.rows} == {"train"}
    for row in made.rows:
        first, second = (tmp_path / name / row.image for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
