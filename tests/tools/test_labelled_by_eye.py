"""Labels by eye on photographs of another data set."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.labelled_by_eye import LABELS, label
from train.scenes.dataset import scene_tasks
from transom.dataset import Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.tasks import Task, TaskSet

HEADER = "image,zone,kind,state\n"


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """Two photographs that nobody said a state of."""
    folder = tmp_path / "kinds"
    tasks = TaskSet([Task(name="kind", classes=("door", "window", "other"))])
    rows = [
        Row(image=f"images/{split}.png", group=f"of {split}", split=split, labels={"kind": "door"})
        for split in ("train", "val")
    ]
    write_dataset(folder, name="kinds", tasks=tasks, rows=rows)
    (folder / "images").mkdir()
    for row in rows:
        cv2.imwrite(str(folder / row.image), np.zeros((8, 8, 3), np.uint8))
    return folder


def test_a_row_keeps_its_pictures_group_and_split(kinds: Path, tmp_path: Path) -> None:
    labels, out = tmp_path / "labels.csv", tmp_path / "eye"
    labels.write_text(
        f"{HEADER}images/val.png,0.1 0.1 0.5 0.1 0.5 0.9 0.1 0.9,window,ajar\n"
        "images/train.png,0.2 0.1 0.5 0.1 0.5 0.9 0.2 0.9,door,\n"
    )
    label(kinds, out, labels)
    label(kinds, out, labels)  # once more in the same place
    found = read_dataset(out)
    assert not found.mistakes
    assert [(row.group, row.split, dict(row.labels)) for row in found.rows] == [
        ("of val", "val", {"kind": "window", "state": "ajar"}),
        ("of train", "train", {"kind": "door"}),
    ]
    assert all((out / row.image).is_file() for row in found.rows)


def test_a_picture_that_is_not_there_is_named(kinds: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"{HEADER}images/else.png,0 0 1 0 1 1 0 1,door,open\n")
    with pytest.raises(DatasetError, match=r"images/else\.png: .*kinds has no row"):
        label(kinds, tmp_path / "eye", labels)


def test_what_ships_can_be_read(kinds: Path, tmp_path: Path) -> None:
    """Every row of the labels that are kept, on made-up pictures of their names."""
    names = {line.split(",")[0] for line in LABELS.read_text("utf-8").splitlines()[1:]}
    rows = [Row(image=name, group=name, split="train") for name in sorted(names)]
    write_dataset(kinds, name="kinds", tasks=scene_tasks(), rows=rows)
    label(kinds, tmp_path / "eye", LABELS)
    found = read_dataset(tmp_path / "eye")
    assert not found.mistakes
    assert {row.labels["kind"] for row in found.rows} == {"door", "window"}
    assert {row.labels.get("state", "") for row in found.rows} >= {"closed", "ajar", "open"}
