"""Labels written into a data set's `labels.csv`: the cells of one task, and nothing else.

The file is read anew before each change, so what another program wrote meanwhile stays; it is
replaced whole or not at all, and not written where its header or its text is damaged.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from transom.dataset import Dataset, Row, read_dataset, sole_writer
from transom.label_cells import write_cells


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
    with sole_writer(folder):
        rows = named_rows(read_dataset(folder).rows)
        cells = {rows[name].line: label or "" for name, label in labels.items() if name in rows}
        write_cells(folder, task, cells)
        return read_dataset(folder)
