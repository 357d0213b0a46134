"""Cells written into a data set's `labels.csv`: those of one column, and nothing else.

Rows that cannot be read, further columns, quotes, line ends, a byte order mark and the order stay
as they are.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transom.atomic import write_file

_BOM = "\ufeff"
_CELL = re.compile(r'"(?:[^"]|"")*"|[^,]*')


@dataclass(frozen=True)
class _Record:
    """One record: its lines as they stand, and its cells; None where it is no CSV."""

    line: int
    text: str
    cells: list[str] | None

    @property
    def end(self) -> str:
        """Its line end."""
        return self.text[len(self.text.rstrip("\r\n")) :]


def write_cells(folder: Path, column: str, cells: Mapping[int, str]) -> None:
    """Write some cells of a column of `labels.csv`; the column is added where there is none.

    The file is replaced whole or not at all.

    Args:
        folder: Of a data set that `read_dataset` reads.
        column: Its name.
        cells: By the line of a row (see `Row`); nothing in them needs quotes.

    Raises:
        OSError: The file cannot be read or written.
    """
    path = (folder / "labels.csv").resolve()  # a link itself would be replaced by a file
    data = path.read_bytes()
    records = _records(data.decode("utf-8-sig"))
    header = next(
        record for record in records if record.cells and any(map(str.strip, record.cells))
    )
    columns = [cell.strip() for cell in header.cells or []]
    if column not in columns:
        columns.append(column)
        records = [_with_a_cell(record, column if record is header else "") for record in records]
    place = columns.index(column)
    new = "".join(
        _with_cell(record, place, cells[record.line]) if record.line in cells else record.text
        for record in records
    )
    bom = _BOM if data.startswith(_BOM.encode()) else ""
    write_file(path, (bom + new).encode())


def _records(text: str) -> list[_Record]:
    """Return the records of a file, in the way of `transom.dataset`, with the lines of each."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(iter(lines), strict=True)
    found: list[_Record] = []
    while True:
        start = reader.line_num
        cells: list[str] | None = None
        try:
            cells = next(reader)
        except csv.Error:
            pass
        except StopIteration:
            return found
        found.append(_Record(start + 1, "".join(lines[start : reader.line_num]), cells))


def _with_a_cell(record: _Record, cell: str) -> _Record:
    if not record.cells:
        return record
    text = record.text[: len(record.text) - len(record.end)]
    return _Record(record.line, f"{text},{cell}{record.end}", [*record.cells, cell])


def _with_cell(record: _Record, place: int, cell: str) -> str:
    if (record.cells or [])[place].strip() == cell:
        return record.text
    cells = list(_cells_as_written(record.text.removesuffix(record.end)))
    cells[place] = cell
    return ",".join(cells) + record.end


def _cells_as_written(text: str) -> Iterator[str]:
    """Yield the cells of a record with their quotes.

    Examples:
        >>> list(_cells_as_written('a, "b","c ""d"", e",'))
        ['a', ' "b"', '"c ""d"", e"', '']
    """
    at = 0
    while at <= len(text) and (cell := _CELL.match(text, at)):
        yield cell.group()
        at = cell.end() + 1
