import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data_commands import data_group
from train.splits import assign_splits, find_divided_groups, write_splits
from transom.dataset import SPLITS, Dataset, Row, read_dataset, sole_writer
from transom.errors import DatasetError
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "ajar", "open"))])


def _dataset(rows: list[Row]) -> Dataset:
    return Dataset(Path("somewhere"), "some", TASKS, tuple(rows))


def _rows(groups: dict[str, list[str]], split: str = "") -> list[Row]:
    return [
        Row(image=f"{group}-{i}.jpg", group=group, split=split, labels={"state": label})
        for group, labels in groups.items()
        for i, label in enumerate(labels)
    ]


_groups = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.lists(st.sampled_from(["closed", "ajar", "open"]), min_size=1, max_size=6),
    max_size=25,
)


@given(_groups, st.integers(0, 3))
def test_no_group_is_ever_divided(groups: dict[str, list[str]], seed: int) -> None:
    dataset = _dataset(_rows(groups))
    (splits,) = assign_splits([dataset], seed=seed)
    sides = {(row.group, split) for row, split in zip(dataset.rows, splits.tolist(), strict=True)}
    assert len(sides) == len(groups)
    assert set(splits.tolist()) <= set(SPLITS)


@given(_groups)
def test_every_split_has_a_group_where_there_are_enough(groups: dict[str, list[str]]) -> None:
    (splits,) = assign_splits([_dataset(_rows(groups))])
    wanted = ("train", "val", "test")[: len(groups)]
    assert set(splits.tolist()) == set(wanted)


def test_shares_and_classes_are_spread_evenly() -> None:
    generator = np.random.default_rng(0)
    labels = ["closed", "ajar", "open"]
    groups = {
        f"g{i}": [labels[int(generator.choice(3, p=[0.6, 0.1, 0.3]))]]
        * int(generator.integers(1, 9))
        for i in range(200)
    }
    dataset = _dataset(_rows(groups))
    (splits,) = assign_splits([dataset])
    for label in labels:
        of_label = [
            s for r, s in zip(dataset.rows, splits, strict=True) if r.labels["state"] == label
        ]
        share = Counter(of_label)
        assert share["train"] / len(of_label) == pytest.approx(0.70, abs=0.04)
        assert share["val"] / len(of_label) == pytest.approx(0.15, abs=0.04)


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    dataset = _dataset(_rows({f"g{i}": ["open"] for i in range(40)}))
    one, two, three = (assign_splits([dataset], seed=seed)[0].tolist() for seed in (7, 7, 8))
    assert one == two != three


def test_the_order_of_rows_does_not_matter() -> None:
    rows = _rows({f"g{i}": ["open", "closed"][: 1 + i % 2] for i in range(30)})
    (forward,) = assign_splits([_dataset(rows)])
    (backward,) = assign_splits([_dataset(rows[::-1])])
    assert forward.tolist() == backward.tolist()[::-1]


def test_a_second_data_set_moves_no_row_of_the_first() -> None:
    first = _dataset(_rows({f"g{i}": ["open"] for i in range(20)}))
    second = _dataset(_rows({f"h{i}": ["closed"] for i in range(50)}))
    (alone,) = assign_splits([first])
    together, _ = assign_splits([first, second])
    assert alone.tolist() == together.tolist()


def test_a_stated_split_is_kept_and_its_group_follows() -> None:
    rows = [
        Row(image="a.jpg", group="g", split="test"),
        Row(image="b.jpg", group="g"),
        *_rows({f"h{i}": ["open"] for i in range(10)}, split="val"),
    ]
    (splits,) = assign_splits([_dataset(rows)])
    assert splits.tolist() == ["test", "test", *["val"] * 10]


def test_refuses_a_group_on_two_sides() -> None:
    rows = [
        Row(image="a.jpg", group="hall", split="train", line=2),
        Row(image="b.jpg", group="hall", split="val", line=3),
    ]
    with pytest.raises(DatasetError, match=r"labels.csv:3: group 'hall'.*train in line 2"):
        assign_splits([_dataset(rows)])
    assert len(find_divided_groups(_dataset(rows))) == 1
    (splits,) = assign_splits([_dataset(rows)], allow_leaks=True)
    assert splits.tolist() == ["train", "val"]


@pytest.mark.parametrize(
    "shares",
    [
        {"train": 1.0},
        {"train": 0.5, "val": 0.2, "test": 0.2},
        {"train": 0.0, "val": 0.5, "test": 0.5},
    ],
)
def test_refuses_shares_that_make_no_split(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares must"):
        assign_splits([_dataset([])], shares=shares)


def test_writing_splits_leaves_every_other_cell(tiny_dataset: Path) -> None:
    labels = tiny_dataset / "labels.csv"
    lines = labels.read_text().splitlines()
    lines = [lines[0] + ",note", *(f'{line},"a, ""b"""' for line in lines[1:])]
    labels.write_text("\n".join(lines) + "\n")
    before = read_dataset(tiny_dataset)
    (splits,) = assign_splits([before])
    write_splits(tiny_dataset, before, splits)
    after = read_dataset(tiny_dataset)
    assert [row.split for row in after.rows] == splits.tolist()
    for old, new in zip(before.rows, after.rows, strict=True):
        assert (old.image, old.zone, old.group, old.labels) == (
            new.image,
            new.zone,
            new.group,
            new.labels,
        )
        assert new.extra == {"note": 'a, "b"'}


def test_writing_splits_adds_the_column_where_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text('name="x"\n[tasks.state]\nclasses=["closed","open"]\n')
    (tmp_path / "labels.csv").write_text("image,state\na.jpg,open\nb.jpg,closed\n")
    dataset = read_dataset(tmp_path)
    write_splits(tmp_path, dataset, np.array(["train", "val"]))
    assert (tmp_path / "labels.csv").read_text() == (
        "image,state,split\na.jpg,open,train\nb.jpg,closed,val\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        'image,state,note\na.jpg,open,"two\nlines"\nb.jpg,closed,\n',
        "\n\nimage,state\na.jpg,open\n\nb.jpg,closed\n",
        "\ufeffimage,state\r\na.jpg,open\r\nb.jpg,closed\r\n",
    ],
    ids=["lines in quotes", "empty lines", "as Windows writes it"],
)
def test_writing_splits_changes_nothing_else_of_any_file_that_is_read(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "dataset.toml").write_text('name="x"\n[tasks.state]\nclasses=["closed","open"]\n')
    (tmp_path / "kept.csv").write_bytes(text.encode())
    (tmp_path / "labels.csv").symlink_to("kept.csv")
    before = read_dataset(tmp_path)
    write_splits(tmp_path, before, np.array(["train", "val"]))
    assert [row.split for row in read_dataset(tmp_path).rows] == ["train", "val"]
    assert (tmp_path / "labels.csv").is_symlink()
    written = (tmp_path / "kept.csv").read_bytes().decode()
    for added in (",split", ",train", ",val"):
        written = written.replace(added, "")
    assert written == text


def test_the_command_waits_for_who_adds_rows(tiny_dataset: Path) -> None:
    labels = tiny_dataset / "labels.csv"
    header, *rows = labels.read_text().splitlines()
    arguments = ["split", str(tiny_dataset)]
    splitting = threading.Thread(
        target=data_group.main, args=(arguments,), kwargs={"standalone_mode": False}
    )
    with sole_writer(tiny_dataset):
        splitting.start()
        splitting.join(0.5)
        assert splitting.is_alive()
        more = [row.replace(",g0,", ",g100,") for row in rows[:2]]
        labels.write_text("\n".join([header, *more, *rows]) + "\n")
    splitting.join(30)
    found = read_dataset(tiny_dataset)
    assert len(found.rows) == 18
    assert all(row.split for row in found.rows)
    assert find_divided_groups(found) == []


def test_splits_are_written_where_a_task_has_no_column(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(
        'name="x"\n[tasks.state]\nclasses=["closed","open"]\n[tasks.kind]\nclasses=["a","b"]\n'
    )
    (tmp_path / "labels.csv").write_text("image,state\na.jpg,open\n")
    write_splits(tmp_path, read_dataset(tmp_path), np.array(["train"]))
    assert (tmp_path / "labels.csv").read_text() == "image,state,split\na.jpg,open,train\n"


def test_writing_splits_refuses_a_file_with_wrong_rows(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text('name="x"\n[tasks.state]\nclasses=["closed","open"]\n')
    (tmp_path / "labels.csv").write_text("image,state\na.jpg,open\nb.jpg,melted\n")
    dataset = read_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"labels\.csv:3"):
        write_splits(tmp_path, dataset, np.array(["train"]))


def test_the_real_doors_keep_the_split_they_state(shared_data: Path) -> None:
    doors = read_dataset(shared_data / "doors")
    (splits,) = assign_splits([doors])
    assert splits.tolist() == [row.split for row in doors.rows]
