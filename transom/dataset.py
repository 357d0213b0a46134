"""The data set format: `dataset.toml`, `labels.csv` and images below one folder.

`read_dataset` never stops at the first mistake: every row that cannot be used is named with its
file and line, and the rows that can be used are there all the same.
"""

import csv
import fcntl
import io
import os
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from transom.atomic import write_file
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.tasks import Task, TaskSet

SPLITS = ("train", "val", "test")
_OWN_COLUMNS = ("image", "zone", "group", "split")


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled zone.

    Attributes:
        image: POSIX path below the data set's folder.
        zone: Where in the image; the whole image unless given.
        group: What must never be split; empty = the image itself.
        split: `train`, `val`, `test`, or empty = assigned by group.
        labels: Class by task name; a task that is missing here is not labelled.
        extra: Further columns, carried along.
        line: Line of `labels.csv`, from 1; 0 for a row that was not read from a file.
    """

    image: str
    zone: Zone = field(default_factory=Zone.whole)
    group: str = ""
    split: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    line: int = 0

    @property
    def group_key(self) -> str:
        """The group, or the image where no group is given."""
        return self.group or self.image


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a data set; `line` is 0 when it is not about one row."""

    file: str
    line: int
    what: str
    is_error: bool = True

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as read: usable rows, and what was wrong with the others."""

    folder: Path
    name: str
    tasks: TaskSet
    rows: tuple[Row, ...]
    mistakes: tuple[Mistake, ...] = ()

    def path(self, row: Row) -> Path:
        """Return the row's image file."""
        return self.folder / row.image


class _TaskTable(msgspec.Struct, forbid_unknown_fields=True):
    classes: tuple[str, ...]
    ordinal: bool = False


class _DatasetFile(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)]
    tasks: dict[str, _TaskTable]


def read_dataset(folder: Path) -> Dataset:
    """Read a data set's description and rows; images are not opened.

    Raises:
        DatasetError: There is no such folder, or `dataset.toml` or the header of `labels.csv`
            cannot be read. A wrong row is not an error here: it is in `mistakes`.
    """
    described = _read_description(folder / "dataset.toml")
    tasks = _read_tasks(folder / "dataset.toml", described)
    rows, mistakes = _read_rows(folder, tasks)
    return Dataset(folder, described.name, tasks, tuple(rows), tuple(mistakes))


def write_dataset(folder: Path, *, name: str, tasks: TaskSet, rows: Sequence[Row]) -> None:
    """Write `dataset.toml` and `labels.csv`; each file is replaced whole or not at all.

    Raises:
        DatasetError: A row could not be read back: it names a task or class that `tasks` does
            not have, or holds text that CSV or `read_dataset` would change.
        OSError: A file cannot be written.
    """
    if not name or not _is_unicode(name) or not len(tasks):
        raise DatasetError(f"{folder}: a data set must have a name and a task, got {name!r}")
    for row in rows:
        try:
            _check_writable(row, tasks)
        except ValueError as error:
            raise DatasetError(f"{folder}: row {row.image!r}: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    extra = list(dict.fromkeys(column for row in rows for column in row.extra))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_OWN_COLUMNS, *tasks.names, *extra])
    whole = Zone.whole()
    for row in rows:
        writer.writerow(
            [row.image, "" if row.zone == whole else row.zone.to_text(), row.group, row.split]
            + [row.labels.get(task, "") for task in tasks.names]
            + [row.extra.get(column, "") for column in extra]
        )
    write_file(folder / "dataset.toml", _describe(name, tasks).encode())
    write_file(folder / "labels.csv", text.getvalue().encode())


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Let no other process that asks for it here change a data set for as long as this lasts.

    Who reads it, changes it and writes it whole would take back what another has written between
    the two. Where the file system knows no locks, as on some network shares, it goes on without.

    Raises:
        OSError: The folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_writable(row: Row, tasks: TaskSet) -> None:
    _checked_image(row.image)
    _check_split(row.split)
    for task, label in row.labels.items():
        if task not in tasks:
            raise ValueError(f"there is no task {task!r}, only {', '.join(tasks.names)}")
        tasks[task].index(label)
    own = {*_OWN_COLUMNS, *tasks.names}
    taken = sorted(own.intersection(row.extra))
    if taken:
        raise ValueError(f"a further column must not be called {', '.join(taken)}")
    if "" in row.extra:
        raise ValueError("a further column must have a name")
    for text in (row.image, row.group, *row.extra, *row.extra.values()):
        if text != text.strip() or "\r" in text or not _is_unicode(text):
            raise ValueError(
                "text must be Unicode, without spaces at its ends and without carriage returns, "
                f"got {text!r}"
            )


def _is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8: a file name of stray bytes cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _describe(name: str, tasks: TaskSet) -> str:
    lines = [f"name = {_quoted(name)}"]
    for task in tasks:
        classes = ", ".join(f'"{c}"' for c in task.classes)
        lines += ["", f"[tasks.{task.name}]", f"classes = [{classes}]"]
        if task.ordinal:
            lines.append("ordinal = true")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def _read_description(path: Path) -> _DatasetFile:
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text("utf-8-sig"))
        return msgspec.convert(raw, _DatasetFile)
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file; a data set is a folder with dataset.toml, labels.csv and images"
        ) from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise DatasetError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise DatasetError(f"{path}: is not TOML: {error}") from error


def _read_tasks(path: Path, described: _DatasetFile) -> TaskSet:
    if not described.tasks:
        raise DatasetError(
            f"{path}: must describe at least one task, like: [tasks.state] "
            'classes = ["closed", "open"]'
        )
    try:
        return TaskSet(
            Task(name=name, classes=table.classes, ordinal=table.ordinal)
            for name, table in described.tasks.items()
        )
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def _read_rows(folder: Path, tasks: TaskSet) -> tuple[list[Row], list[Mistake]]:
    path = folder / "labels.csv"
    records = ((line, cells) for line, cells in _records(_read_text(path)) if not _is_empty(cells))
    line, cells = next(records, (1, None))
    if cells is None:
        raise DatasetError(f"{path}: is empty; its first line must be a header: image,zone,…")
    if isinstance(cells, csv.Error):
        raise DatasetError(f"{path}:{line}: the header is not CSV: {cells}")
    header = _checked_header(path, line, cells, tasks)
    rows: list[Row] = []
    mistakes = [
        Mistake(str(path), line, f"no column for task {name}: no row is labelled for it", False)
        for name in tasks.names
        if name not in header
    ]
    for line, cells in records:
        try:
            rows.append(_read_row(header, cells, tasks, line))
        except ValueError as error:
            mistakes.append(Mistake(str(path), line, str(error)))
    return rows, mistakes


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; it holds one row a zone") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}:{line}: must be UTF-8 text, has byte 0x{error.object[error.start]:02x}; "
            "save it as CSV UTF-8"
        ) from error


def _records(text: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield the first line and the cells of each record, or why it has none."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except csv.Error as error:
            yield line, error
        except StopIteration:
            return


def _is_empty(cells: list[str] | csv.Error) -> bool:
    return isinstance(cells, list) and not any(cell.strip() for cell in cells)


def _checked_header(path: Path, line: int, cells: list[str], tasks: TaskSet) -> list[str]:
    header = [cell.strip() for cell in cells]
    if "image" not in header:
        raise DatasetError(
            f"{path}:{line}: the header must have a column image, got {', '.join(header)}; "
            "columns are separated by commas"
        )
    if "" in header:
        raise DatasetError(
            f"{path}:{line}: column {header.index('') + 1} of the header has no name; "
            "name it or delete it"
        )
    twice = sorted(column for column, count in Counter(header).items() if count > 1)
    if twice:
        raise DatasetError(f"{path}:{line}: the header names {', '.join(twice)} twice")
    if not any(task.name in header for task in tasks):
        raise DatasetError(
            f"{path}:{line}: no column for any task of dataset.toml ({', '.join(tasks.names)})"
        )
    return header


def _read_row(header: list[str], cells: list[str] | csv.Error, tasks: TaskSet, line: int) -> Row:
    if isinstance(cells, csv.Error):
        raise ValueError(f"is not CSV: {cells}; a quote inside quotes is written twice")
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} columns, the header has {len(header)}")
    values = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    labels: dict[str, str] = {}
    for task in tasks:
        label = values.get(task.name, "")
        if label:
            task.index(label)
            labels[task.name] = label
    split = values.get("split", "")
    _check_split(split)
    known = {*_OWN_COLUMNS, *tasks.names}
    return Row(
        image=_checked_image(values["image"]),
        zone=Zone.from_text(values.get("zone", "")),
        group=values.get("group", ""),
        split=split,
        labels=labels,
        extra={column: value for column, value in values.items() if column not in known},
        line=line,
    )


def _check_split(split: str) -> None:
    if split and split not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS)} or empty, got {split!r}")


def _checked_image(image: str) -> str:
    if not image:
        raise ValueError("image is empty")
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or "\0" in image:
        raise ValueError(f"image must be a path below the data set's folder, got {image!r}")
    return image
