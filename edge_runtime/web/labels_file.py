"""Labels written into a data set's `labels.csv`: the cells of one task, and nothing else.

Rows that cannot be read, further columns, quotes, line ends and the order stay as they are. The
file is read anew before each change, so what another program wrote meanwhile stays too; it is
replaced whole or not at all, and not written where its header or its text is damaged.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transom.atomic import write_file
from transom.dataset import Dataset, Row, read_dataset

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


def named_rows(rows: Iterable[Row]) -> dict[str, Row]:
    """Return rows by a name that stays when others are added, taken out or put in another order."""
    seen: Counter[str] = Counter()
    named = {}
    for row in rows:
        said = f"{row.image}\0{row.zone.to_text()}"
        seen[said] += 1
        named[hashlib.sha256(f"{said}\0{seen[said]}".encode()).hexdigest()[:16]] = row
    return named


def write_labels(folder: Path, task: str, labels: Mapping[str, str | None]) -> Dataset:
    """Write labels of one task; return the data set as it is then.

    Args:
        folder: The data set's.
        task: One of its tasks.
        labels: Class by the name of the row (`named_rows`); None takes a label out. A name that
            is no longer there is left out.

    Raises:
        DatasetError: The file cannot be read as a data set's; it is left as it is.
        OSError: It cannot be written.
    """
    path = (folder / "labels.csv").resolve()  # a link itself would be replaced by a file
    data = path.read_bytes()
    rows = named_rows(read_dataset(folder).rows)
    by_line = {rows[name].line: label for name, label in labels.items() if name in rows}
    text = data.decode("utf-8-sig")
    records = _records(text)
    header = next(
        record for record in records if record.cells and any(map(str.strip, record.cells))
    )
    columns = [cell.strip() for cell in header.cells or []]
    if task not in columns:
        columns.append(task)
        records = [_with_a_cell(record, task if record is header else "") for record in records]
    place = columns.index(task)
    new = "".join(
        _with_label(record, place, by_line[record.line] or "")
        if record.line in by_line
        else record.text
        for record in records
    )
    bom = _BOM if data.startswith(_BOM.encode()) else ""
    write_file(path, (bom + new).encode())
    return read_dataset(folder)


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


def _with_label(record: _Record, place: int, label: str) -> str:
    if (record.cells or [])[place].strip() == label:
        return record.text
    cells = list(_cells_as_written(record.text.removesuffix(record.end)))
    cells[place] = label  # a class: nothing in it needs quotes
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
