import csv
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from train.check import check_datasets
from train.data_commands import data_group
from train.duplicates import near_duplicates
from train.evaluate_commands import load_predictor
from train.splits import assign_splits, write_splits
from transom.dataset import read_dataset
from transom.errors import DatasetError


def _edit(folder: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _errors(folder: Path) -> list[tuple[int, str]]:
    return [(m.line, m.what) for m in check_datasets([folder]) if m.is_error]


def test_finds_nothing_wrong_with_a_good_data_set(tiny_dataset: Path) -> None:
    assert _errors(tiny_dataset) == []


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("image", "images/none.png", "cannot be read"),
        ("image", "../outside.png", "below the data set"),
        ("state", "melted", "no class 'melted'"),
        ("zone", "0.5 0.5 1.5 0.5 1.5 0.9 0.5 0.9", "outside the frame"),
        ("zone", "0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "covers 0 of the frame"),
        ("zone", "0.1 0.2", "8 numbers"),
        ("split", "trian", "split must be"),
    ],
)
def test_names_a_row_that_cannot_be_used(
    tiny_dataset: Path, column: str, value: str, what: str
) -> None:
    _edit(tiny_dataset, lambda rows: rows[4].update({column: value}))
    ((line, said),) = _errors(tiny_dataset)
    assert line == 6
    assert what in said


def test_names_an_image_that_is_damaged(tiny_dataset: Path) -> None:
    (tiny_dataset / "images/1-0.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    ((line, said),) = _errors(tiny_dataset)
    assert line == 4
    assert "1-0.png is cut off" in said


def test_names_a_group_on_two_sides(make_dataset) -> None:
    folder = make_dataset(splits=("train", "val"))
    _edit(folder, lambda rows: rows[1].update(split="test"))
    ((line, said),) = _errors(folder)
    assert line == 3
    assert "group 'g0'" in said
    assert "line 2" in said


def test_names_a_near_duplicate_across_a_split(make_dataset) -> None:
    folder = make_dataset(splits=("train", "val"))
    picture = cv2.imread(str(folder / "images/0-0.png"))
    darker = np.clip(picture * 0.9 + 12, 0, 255).astype(np.uint8)
    cv2.imwrite(str(folder / "images/1-0.png"), darker)
    lines = {line for line, what in _errors(folder) if "nearly the same picture" in what}
    assert lines in ({2}, {4})


def test_warns_of_copies_that_the_assigned_split_keeps_apart(make_dataset) -> None:
    folder = make_dataset()
    for group in range(1, 8):
        shutil.copy(folder / "images/0-0.png", folder / f"images/{group}-0.png")
    (warning,) = [m for m in check_datasets([folder]) if "nearly the same" in m.what]
    assert not warning.is_error
    assert "rows without a split are assigned: images/" in warning.what
    assert " (train), " in warning.what
    (split,) = assign_splits([read_dataset(folder)])
    write_splits(folder, read_dataset(folder), split)
    named = [m for m in check_datasets([folder]) if "nearly the same" in m.what]
    assert len(named) == int(warning.what.partition(" ")[0])
    assert all(mistake.is_error for mistake in named)


def test_a_copy_on_the_same_side_is_no_mistake(make_dataset) -> None:
    folder = make_dataset(splits=("train",))
    shutil.copy(folder / "images/0-0.png", folder / "images/1-0.png")
    assert _errors(folder) == []


def test_names_a_class_that_one_group_shows(make_dataset) -> None:
    folder = make_dataset(groups=6)
    _edit(folder, lambda rows: [row.update(state="closed") for row in rows[2:]])
    ((line, said),) = _errors(folder)
    assert line == 0
    assert "'open' of task 'state' has pictures of 1 group only" in said


def test_warns_of_a_class_that_few_groups_or_none_show(make_dataset) -> None:
    folder = make_dataset(groups=6)
    _edit(folder, lambda rows: [row.update(state="closed") for row in rows[6:]])
    _edit(folder, lambda rows: [row.update(kind="door") for row in rows])
    found = {m.what.partition(" groups")[0]: m.is_error for m in check_datasets([folder])}
    assert found == {
        "class 'open' of task 'state' has pictures of 3": False,
        "class 'window' of task 'kind' has no picture here; it can only be learnt from another "
        "data set": False,
    }


def test_names_a_zone_that_is_labelled_twice(tiny_dataset: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        rows.append(rows[0] | {"state": "open"})

    _edit(tiny_dataset, change)
    ((line, said),) = _errors(tiny_dataset)
    assert line == 18
    assert "line 2: state is open here and closed there" in said


def test_several_data_sets_are_checked_as_they_train_together(make_dataset) -> None:
    first, second = (make_dataset(name, splits=("train",)) for name in ("first", "second"))
    _edit(second, lambda rows: [row.update(split="val") for row in rows])
    assert [m for m in check_datasets([first]) if m.is_error] == []
    found = [m for m in check_datasets([first, second]) if m.is_error]
    assert len(found) == 16
    assert all(m.file == str(second / "labels.csv") for m in found)


def test_refuses_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset.toml: no such file"):
        check_datasets([tmp_path])


def test_a_data_set_without_a_usable_row_is_an_error(tiny_dataset: Path) -> None:
    header = (tiny_dataset / "labels.csv").read_text().splitlines()[0]
    (tiny_dataset / "labels.csv").write_text(header + "\n")
    assert [what for _, what in _errors(tiny_dataset)] == ["has no usable row"]


def test_the_command_exits_1_on_errors_and_0_on_warnings(make_dataset) -> None:
    folder = make_dataset(groups=4)
    result = CliRunner().invoke(data_group, ["check", str(folder), "--model", "none"])
    assert result.exit_code == 0
    assert "warning: " in result.stdout
    _edit(folder, lambda rows: rows[0].update(state="melted"))
    result = CliRunner().invoke(data_group, ["check", str(folder)])
    assert result.exit_code == 1
    assert f"error: {folder}/labels.csv:2: " in result.stdout
    assert "1 error, " in result.stdout


def test_the_command_says_the_same_as_json(tiny_dataset: Path) -> None:
    _edit(tiny_dataset, lambda rows: rows[0].update(state="melted"))
    result = CliRunner().invoke(data_group, ["check", str(tiny_dataset), "--json"])
    said = json.loads(result.stdout)
    assert said["ok"] is False
    (error,) = [found for found in said["mistakes"] if found["error"]]
    assert (error["file"], error["line"]) == (str(tiny_dataset / "labels.csv"), 2)


def test_finds_copies_among_ten_thousand_pictures_in_seconds() -> None:
    generator = np.random.default_rng(0)
    crops = np.stack(
        [
            cv2.resize(generator.integers(0, 255, (10, 10, 3), np.uint8), (32, 32))
            for _ in range(10_000)
        ]
    )
    copies = generator.choice(5000, 20, replace=False)
    crops[5000 + np.arange(20)] = np.clip(crops[copies] * 0.95 + 5, 0, 255).astype(np.uint8)
    sides = np.repeat([0, 1], 5000)
    start = time.perf_counter()
    pairs = near_duplicates(crops, sides)
    assert time.perf_counter() - start < 30
    assert sorted(pairs) == sorted(zip(copies.tolist(), range(5000, 5020), strict=True))


def test_flat_pictures_are_no_duplicates_of_each_other() -> None:
    noise = np.random.default_rng(0).integers(0, 3, (6, 32, 32, 3), np.uint8)
    assert near_duplicates(noise + np.uint8(100), np.array([0, 0, 0, 1, 1, 1])) == []


def test_warns_of_a_held_out_group_that_shows_what_training_shows(make_dataset, starter) -> None:
    folder = make_dataset(splits=("train", "train", "val"))
    for group, views in ((3, [0]), (2, [-6, 6])):  # 3 is trained on, 2 is held out
        for picture, degrees in enumerate(views):
            cv2.imwrite(str(folder / f"images/{group}-{picture}.png"), _poster(degrees))
    found = check_datasets([folder], predictor=starter)
    (warning,) = [m for m in found if "show the same as pictures of another side" in m.what]
    assert not warning.is_error
    assert warning.line in (6, 7)
    assert "group 'g2' (val): 2 of 2 pictures" in warning.what
    assert "images/3-0.png (train)" in warning.what
    assert f"{folder}/labels.csv:8" in warning.what
    assert not any("of another side" in m.what for m in check_datasets([folder]))


@pytest.fixture(scope="module")
def starter():
    return load_predictor("starter")


def _poster(degrees: float, size: int = 240):
    """Draw a door with a poster, seen a little aslant."""
    generator = np.random.default_rng(5)
    picture = np.full((size, size, 3), (70, 90, 120), np.uint8)
    cv2.rectangle(picture, (50, 10), (190, 230), (200, 210, 220), -1)
    for _ in range(70):
        corner = generator.integers(60, 160, 2)
        far = corner + generator.integers(5, 25, 2)
        colour = [int(value) for value in generator.integers(0, 256, 3)]
        cv2.rectangle(picture, corner.tolist(), far.tolist(), colour, -1)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), degrees, 1.0)
    return cv2.warpAffine(picture, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)


def test_the_real_val_doors_that_training_shows_too_are_named(shared_data: Path, starter) -> None:
    found = check_datasets([shared_data / "doors"], predictor=starter)
    warned = [m for m in found if "show the same as pictures of another side" in m.what]
    assert 8 <= len(warned) <= 16


def test_the_real_kinds_hold_copies_on_both_sides_and_the_doors_do_not(shared_data: Path) -> None:
    doors = check_datasets([shared_data / "doors"])
    assert [m for m in doors if m.is_error] == []
    kinds = [m for m in check_datasets([shared_data / "kinds"]) if m.is_error]
    assert len(kinds) == 19
    assert all("nearly the same picture" in m.what for m in kinds)
