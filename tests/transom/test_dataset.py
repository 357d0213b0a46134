import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transom.dataset import SPLITS, Dataset, Mistake, Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.tasks import Task, TaskSet

STATE = Task(name="state", classes=("closed", "ajar", "open"), ordinal=True)
KIND = Task(name="kind", classes=("door", "window"))
TASKS = TaskSet([KIND, STATE])
DESCRIPTION = """name = "home"
[tasks.kind]
classes = ["door", "window"]
[tasks.state]
classes = ["closed", "ajar", "open"]
ordinal = true
"""
HEADER = "image,zone,group,split,kind,state"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dataset.toml").write_text(DESCRIPTION)
    (tmp_path / "labels.csv").write_text(HEADER + "\n")
    return tmp_path


def read(folder: Path, labels: str | bytes) -> Dataset:
    data = labels if isinstance(labels, bytes) else labels.encode()
    (folder / "labels.csv").write_bytes(data)
    return read_dataset(folder)


def test_reads_what_a_row_says(folder: Path) -> None:
    dataset = read(folder, f"{HEADER}\na/b.jpg,0 0 1 0 1 1 0 1,cam1,val,door,ajar\n")
    assert dataset.name == "home"
    assert dataset.tasks == TASKS
    assert dataset.mistakes == ()
    assert dataset.rows == (
        Row(
            image="a/b.jpg",
            zone=Zone.whole(),
            group="cam1",
            split="val",
            labels={"kind": "door", "state": "ajar"},
            line=2,
        ),
    )
    assert dataset.path(dataset.rows[0]) == folder / "a/b.jpg"


def test_only_the_image_and_one_task_are_needed(folder: Path) -> None:
    dataset = read(folder, "state,image\nopen,a.jpg\n")
    (row,) = dataset.rows
    assert row == Row(image="a.jpg", labels={"state": "open"}, line=2)
    assert row.zone == Zone.whole()
    assert row.group_key == "a.jpg"


def test_an_empty_label_is_no_label(folder: Path) -> None:
    (row,) = read(folder, f"{HEADER}\na.jpg,,,,,open\n").rows
    assert row.labels == {"state": "open"}


def test_a_task_without_a_column_is_pointed_out_but_no_error(folder: Path) -> None:
    dataset = read(folder, "image,State,kind\na.jpg,open,door\n")
    (mistake,) = dataset.mistakes
    assert str(mistake) == (
        f"{folder}/labels.csv:1: no column for task state: no row is labelled for it"
    )
    assert not mistake.is_error
    assert dataset.rows[0].extra == {"State": "open"}


def test_the_group_is_the_image_where_none_is_given() -> None:
    assert Row(image="a.jpg", group="hall").group_key == "hall"
    assert Row(image="a.jpg").group_key == "a.jpg"


GOOD = "good.jpg,,,,door,open"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,,,,door", "has 5 columns, the header has 6"),
        ("a.jpg,,,,door,open,", "has 7 columns, the header has 6"),
        (",,,,door,open", "image is empty"),
        ("/etc/passwd,,,,door,open", "must be a path below the data set's folder, got '/etc/passw"),
        ("../a.jpg,,,,door,open", "must be a path below the data set's folder, got '../a.jpg'"),
        ("a/../../b.jpg,,,,door,open", "must be a path below the data set's folder"),
        ("a\0.jpg,,,,door,open", "must be a path below the data set's folder"),
        ("a.jpg,,,training,door,open", "split must be train, val, test or empty, got 'training'"),
        ("a.jpg,,,,gate,open", "task 'kind' has no class 'gate', only door, window"),
        ("a.jpg,,,,door,Open", "task 'state' has no class 'Open', only closed, ajar, open"),
        ("a.jpg,,,,door,unknown", "task 'state' has no class 'unknown'"),
        ("a.jpg,1 2 3,,,door,open", "a zone must be 8 numbers x1 y1 … x4 y4 or empty, got '1 2 3'"),
        ("a.jpg,0 0 2 0 2 1 0 1,,,door,open", "zone point (2, 0) is outside the frame"),
        ("a.jpg,0 0 0 0 0 0 0 0,,,door,open", "zone covers 0 of the frame"),
        ("a.jpg,0 1 1 1 1 0 0 0,,,door,open", "clockwise from the top left"),
        ('"a"b.jpg,,,,door,open', "is not CSV: ',' expected after '\"'"),
    ],
)
def test_a_bad_row_is_named_and_costs_only_itself(folder: Path, row: str, message: str) -> None:
    dataset = read(folder, f"{HEADER}\n{GOOD}\n{row}\n{GOOD}\n")
    (mistake,) = dataset.mistakes
    assert str(mistake).startswith(f"{folder}/labels.csv:3: ")
    assert message in mistake.what
    assert mistake.is_error
    assert [r.line for r in dataset.rows] == [2, 4]


def test_every_bad_row_is_named(folder: Path) -> None:
    bad = ",,,,door,open\na.jpg,,,x,door,open\na.jpg,,,,x,open\n"
    dataset = read(folder, f"{HEADER}\n{bad}{GOOD}\n")
    assert [mistake.line for mistake in dataset.mistakes] == [2, 3, 4]
    assert [r.line for r in dataset.rows] == [5]


def test_a_quote_that_never_ends_is_named_where_it_begins(folder: Path) -> None:
    dataset = read(folder, f'{HEADER}\n{GOOD}\n"a.jpg,,,,door,open\n{GOOD}\n')
    (mistake,) = dataset.mistakes
    assert (mistake.line, "is not CSV" in mistake.what) == (3, True)
    assert len(dataset.rows) == 1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_any_editor_may_have_written_the_file(folder: Path, mark: bytes, ending: bytes) -> None:
    lines = [HEADER.encode(), b"", b'"a, ""b"".jpg",,,,door,open', b",,,,,", b"c.jpg,,,,,ajar"]
    dataset = read(folder, mark + ending.join(lines))
    assert dataset.mistakes == ()
    assert [(r.image, r.line) for r in dataset.rows] == [('a, "b".jpg', 3), ("c.jpg", 5)]


def test_any_editor_may_have_written_the_description(folder: Path) -> None:
    windows = DESCRIPTION.replace("\n", "\r\n").encode()
    (folder / "dataset.toml").write_bytes(b"\xef\xbb\xbf" + windows)
    assert read_dataset(folder).tasks == TASKS


def test_a_row_over_several_lines_is_named_by_its_first(folder: Path) -> None:
    dataset = read(
        folder, f'{HEADER},note\n{GOOD},"two\nlines"\nx.jpg,,,,gate,open,"a\nb"\n{GOOD},\n'
    )
    assert [r.line for r in dataset.rows] == [2, 6]
    assert [m.line for m in dataset.mistakes] == [4]
    assert dataset.rows[0].extra == {"note": "two\nlines"}


def test_further_columns_are_carried_along(folder: Path) -> None:
    dataset = read(folder, f"weather,{HEADER},lux\nrain,{GOOD},12\n")
    assert dataset.rows[0].extra == {"weather": "rain", "lux": "12"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("zone,state", "labels.csv:1: the header must have a column image, got zone, state"),
        ("image;zone;state", "got image;zone;state; columns are separated by commas"),
        ("image,state,state", "labels.csv:1: the header names state twice"),
        ("image,state,,", "labels.csv:1: column 3 of the header has no name"),
        ("image,zone", r"labels.csv:1: no column for any task of dataset.toml \(kind, state\)"),
        ("\n\nimage,zone", "labels.csv:3: no column for any task"),
        ('"image"x,state', "labels.csv:1: the header is not CSV"),
        ("", "labels.csv: is empty; its first line must be a header: image,zone,…"),
        ("\n\n", "labels.csv: is empty"),
    ],
)
def test_refuses_a_header_that_says_too_little(folder: Path, header: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(folder, header + "\n")


def test_text_that_is_not_utf8_is_named_by_its_line(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"labels.csv:3: must be UTF-8 text, has byte 0xfc; sav"):
        read(folder, HEADER.encode() + b"\na.jpg,,,,,\nT\xfcr.jpg,,,,door,open\n")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("name = ", "is not TOML"),
        (b"name = '\xff'", "is not TOML"),
        ("x=" + "[" * 5000, "is not TOML"),
        ("x=1" + "0" * 5000, "is not TOML"),
        ("[tasks.state]\nclasses = ['a', 'b']", "missing required field `name`"),
        ("name = ''\n[tasks.state]\nclasses = ['a', 'b']", r"length >= 1 - at `\$.name`"),
        ("name = 3\n[tasks.state]\nclasses = ['a', 'b']", r"got `int` - at `\$.name`"),
        ("name = 'x'", "missing required field `tasks`"),
        ("name = 'x'\n[tasks]", "must describe at least one task"),
        ("name = 'x'\n[tasks.state]\nclases = ['a', 'b']", "unknown field `clases`"),
        ("name = 'x'\n[tasks.state]\nclasses = ['a']", "needs at least 2 classes"),
        ("name = 'x'\n[tasks.zone]\nclasses = ['a', 'b']", "must not be named 'zone'"),
        ("name = 'x'\n[tasks.S]\nclasses = ['a', 'b']", "task name must match .* got 'S'"),
        ("name = 'x'\n[tasks.s]\nclasses = ['a', 'unknown']", "leave such pictures unlabelled"),
    ],
)
def test_refuses_a_description_that_breaks_the_rules(
    folder: Path, description: str | bytes, message: str
) -> None:
    data = description if isinstance(description, bytes) else description.encode()
    (folder / "dataset.toml").write_bytes(data)
    with pytest.raises(DatasetError, match=f"dataset.toml: .*{message}"):
        read_dataset(folder)


@pytest.mark.parametrize("name", ["dataset.toml", "labels.csv"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}: no such file; "):
        read_dataset(folder)


@pytest.mark.parametrize("name", ["dataset.toml", "labels.csv"])
def test_a_folder_in_the_place_of_a_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(DatasetError, match=f"{name}: cannot be read: Is a directory"):
        read_dataset(folder)


def test_a_mistake_about_a_file_has_no_line() -> None:
    assert str(Mistake("labels.csv", 0, "is odd")) == "labels.csv: is odd"


words = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12).map(str.strip)
paths = words.filter(lambda p: p and not p.startswith("/") and ".." not in p.split("/"))
corner = st.floats(0.0, 0.3)
zones = st.builds(
    lambda a, b, c, d: Zone(((a, b), (1 - c, d), (1 - a, 1 - b), (c, 1 - d))),
    corner,
    corner,
    corner,
    corner,
)
rows = st.builds(
    Row,
    image=paths,
    zone=zones | st.just(Zone.whole()),
    group=words,
    split=st.sampled_from(["", *SPLITS]),
    labels=st.fixed_dictionaries({}, optional={t.name: st.sampled_from(t.classes) for t in TASKS}),
    extra=st.fixed_dictionaries({"note": words, "Uhr, zeit": words}),
)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.lists(rows, max_size=5))
@settings(deadline=None, max_examples=30)
def test_what_is_written_is_read_again(name: str, written: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), name=name, tasks=TASKS, rows=written)
        dataset = read_dataset(Path(folder))
        assert sorted(path.name for path in Path(folder).iterdir()) == [
            "dataset.toml",
            "labels.csv",
        ]
    assert dataset.mistakes == ()
    assert (dataset.name, dataset.tasks) == (name, TASKS)
    for before, after in zip(written, dataset.rows, strict=True):
        unplaced = Row(after.image, after.zone, after.group, after.split, after.labels, after.extra)
        assert unplaced == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("a.jpg", labels={"size": "big"}), "there is no task 'size', only kind, state"),
        (Row("a.jpg", labels={"state": "shut"}), "has no class 'shut'"),
        (Row("../a.jpg"), "must be a path below the data set's folder"),
        (Row(""), "image is empty"),
        (Row("a.jpg", split="dev"), "split must be train, val, test or empty"),
        (Row("a.jpg", extra={"zone": "1"}), "a further column must not be called zone"),
        (Row("a.jpg", extra={"state": "1"}), "a further column must not be called state"),
        (Row("a.jpg", extra={"": "1"}), "a further column must have a name"),
        (Row("a.jpg", group=" hall"), "without spaces at its ends"),
        (Row("a.jpg", group="a\rb"), "without carriage returns"),
        (Row(os.fsdecode(b"T\xfcr.jpg")), "must be Unicode"),
    ],
)
def test_refuses_to_write_a_row_that_would_not_come_back(
    tmp_path: Path, row: Row, message: str
) -> None:
    with pytest.raises(DatasetError, match=f"row .*: .*{message}"):
        write_dataset(tmp_path, name="home", tasks=TASKS, rows=[Row("good.jpg"), row])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "tasks"), [("", TASKS), ("\ud800", TASKS), ("x", TaskSet([]))])
def test_refuses_to_write_a_data_set_without_name_or_task(
    tmp_path: Path, name: str, tasks: TaskSet
) -> None:
    with pytest.raises(DatasetError, match="must have a name and a task"):
        write_dataset(tmp_path, name=name, tasks=tasks, rows=[])
