"""Drawn scenes: the data set and the clip that they make, and that their labels are true."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from train.scenes import Move, generate_clip, generate_dataset
from train.scenes.camera import Camera, outline, project
from train.scenes.light import seen_at
from train.scenes.opening import STATES, draw_position, panels
from train.scenes.room import draw_room
from transom.dataset import read_dataset

_SMALL = (320, 240)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    generate_dataset(folder, groups=7, pictures=3, seed=5, size=_SMALL)
    return folder


@pytest.fixture(scope="module")
def rows(drawn: Path) -> list[dict[str, str]]:
    with (drawn / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        generate_dataset(tmp_path / name, groups=2, pictures=2, seed=3, size=_SMALL)
    assert _bytes(tmp_path / "first") == _bytes(tmp_path / "second")


def test_another_seed_draws_other_pictures(tmp_path: Path) -> None:
    for seed in (1, 2):
        generate_dataset(tmp_path / str(seed), groups=1, pictures=1, seed=seed, size=_SMALL)
    first, second = (next((tmp_path / str(s)).rglob("*.jpg")).read_bytes() for s in (1, 2))
    assert first != second


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for workers in (1, 2):
        generate_dataset(
            tmp_path / str(workers), groups=2, pictures=1, seed=9, size=_SMALL, workers=workers
        )
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "2")


def test_the_data_set_is_read_without_a_mistake(drawn: Path) -> None:
    dataset = read_dataset(drawn)
    assert dataset.mistakes == ()
    assert dataset.tasks["kind"].classes == ("door", "window", "other")
    assert dataset.tasks["state"].classes == STATES
    assert dataset.tasks["state"].ordinal


def test_every_picture_is_there_in_the_size_asked_for(
    drawn: Path, rows: list[dict[str, str]]
) -> None:
    images = {row["image"] for row in rows}
    assert len(images) == 21
    for image in images:
        picture = cv2.imread(str(drawn / image))
        assert picture is not None
        assert picture.shape == (240, 320, 3)


def test_only_the_kind_other_has_no_state(rows: list[dict[str, str]]) -> None:
    assert {row["kind"] for row in rows} == {"door", "window", "other"}
    for row in rows:
        assert (row["state"] == "") == (row["kind"] == "other")


def test_every_picture_has_a_door_or_window_and_at_most_two_other_zones(
    rows: list[dict[str, str]],
) -> None:
    for image in {row["image"] for row in rows}:
        kinds = [row["kind"] for row in rows if row["image"] == image]
        assert kinds[0] in ("door", "window")
        assert kinds.count("other") <= 2


def test_the_states_of_a_group_take_turns(rows: list[dict[str, str]]) -> None:
    main: dict[str, list[str]] = {}
    for image in dict.fromkeys(row["image"] for row in rows):
        row = next(row for row in rows if row["image"] == image)
        main.setdefault(row["group"], []).append(row["state"])
    assert sum(sorted(states) == ["ajar", "closed", "open"] for states in main.values()) >= 6


def test_a_group_is_on_one_side_of_the_split(rows: list[dict[str, str]]) -> None:
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert {next(iter(side)) for side in sides.values()} == {"train", "val", "test"}


def test_progress_ends_with_all_pictures_done(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_dataset(
        tmp_path, groups=2, pictures=1, size=_SMALL, progress=lambda *done: seen.append(done)
    )
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "wrong", [{"groups": 0}, {"pictures": 0}, {"workers": 0}, {"size": (64, 48)}]
)
def test_refuses_a_data_set_without_pictures(tmp_path: Path, wrong: dict[str, int]) -> None:
    asked = {"groups": 1, "pictures": 1, **wrong}
    with pytest.raises(ValueError, match="must be at least"):
        generate_dataset(tmp_path, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(12))
def test_a_shut_leaf_stays_in_its_opening_and_an_open_one_leaves_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    opening = draw_room(random).openings[0]
    shut, wide = (
        np.concatenate([p.corners() for p in panels(opening, draw_position(random, opening, s))])
        for s in ("closed", "open")
    )
    assert shut[:, 0].min() > opening.x0 - 0.1
    assert shut[:, 0].max() < opening.x1 + 0.1
    assert np.abs(shut - wide).max() > 0.2


@pytest.mark.parametrize("seed", range(8))
def test_a_state_leaves_a_gap_between_it_and_the_next(seed: int) -> None:
    random = np.random.default_rng(seed)
    opening = draw_room(random).openings[0]
    amounts = {s: [draw_position(random, opening, s).amount for _ in range(50)] for s in STATES}
    assert max(amounts["closed"]) < 1.0
    assert max(amounts["closed"]) < 0.5 * min(amounts["ajar"])
    assert 1.6 * max(amounts["ajar"]) < min(amounts["open"])


def test_what_lies_ahead_is_in_the_middle_of_the_picture() -> None:
    camera = Camera((0.3, 1.2, 3.0), (0.0, 1.0, 0.0), 0.1, 500.0, (640, 480))
    assert project(camera.matrix(), np.array([[0.0, 1.0, 0.0]])) == pytest.approx(
        np.array([[320.0, 240.0]])
    )


def test_a_floor_that_passes_under_the_camera_is_cut_off_before_it() -> None:
    camera = Camera((0.0, 1.0, 2.0), (0.0, 1.0, 0.0), 0.0, 500.0, (640, 480))
    floor = np.array([[-1.0, 0, 0], [1, 0, 0], [1, 0, 9], [-1, 0, 9]])
    seen = outline(camera.matrix(), floor)
    assert seen is not None
    assert np.isfinite(seen).all()
    assert outline(camera.matrix(), floor + np.array([0, 0, 5.0])) is None


@pytest.mark.parametrize("distortion", [-0.12, 0.0, 0.03])
def test_the_lens_keeps_the_middle_and_the_order_of_points(distortion: float) -> None:
    points = np.array([[320.0, 240.0], [100.0, 100.0], [500.0, 100.0]])
    seen = seen_at(points, distortion, (640, 480))
    assert seen[0] == pytest.approx(points[0])
    assert seen[1, 0] < seen[0, 0] < seen[2, 0]


def test_a_clip_tells_when_door_and_window_moved(tmp_path: Path) -> None:
    truth = generate_clip(tmp_path / "hall.mp4", seed=2, seconds=8.0, fps=5, size=_SMALL)
    assert truth.frames == 40
    assert set(truth.zones) == {"door", "window"}
    assert [state for _, state in truth.states["door"]] == ["closed", "open", "closed"]
    assert [state for _, state in truth.states["window"]] == ["closed", "ajar", "closed"]
    reader = cv2.VideoCapture(str(tmp_path / "hall.mp4"))
    frames = [reader.read()[1] for _ in range(truth.frames)]
    assert not reader.read()[0]
    still = [cv2.absdiff(frames[0], frames[k]).mean() for k in (1, 2)]
    opened = truth.states["door"][1][0]
    assert 0.1 < min(still) < max(still) < 10.0
    assert cv2.absdiff(frames[0], frames[opened]).mean() > 1.2 * max(still)


def test_a_state_in_a_clip_begins_when_its_movement_has_ended(tmp_path: Path) -> None:
    script = [Move("window", 0.4, 0.8, "open")]
    truth = generate_clip(
        tmp_path / "clip.mp4", seed=1, seconds=2.0, fps=5, size=_SMALL, script=script
    )
    assert truth.states == {"door": [(0, "closed")], "window": [(0, "closed"), (6, "open")]}


@pytest.mark.parametrize(
    "move", [Move("cat", 0, 1, "left"), Move("door", 0, 1, "wide"), Move("door", 0, 0, "open")]
)
def test_refuses_a_script_that_cannot_be_played(tmp_path: Path, move: Move) -> None:
    with pytest.raises(ValueError, match="a move must"):
        generate_clip(tmp_path / "clip.mp4", seconds=1.0, script=[move])
