"""What tests found out about promises, and the page that shows it.

`python -m tools.reliability.records` writes docs/reliability.md from docs/reliability.json again;
`python -m tools.reliability.records FILE...` merges the records of other runs into it first.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tools.reliability.promises import BY_NUMBER, PROMISES, Promise

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What one test found out about one promise.

    Attributes:
        promise: Its number.
        method: What was done.
        unit: What a run is, in the plural.
        runs: How many there were.
        fast: How many a run of all tests has.
        full: How many `make faults` has.
        result: The finding, with `{name}` where a value goes.
        values: Measured values by name.
        has_passed: Whether the promise held.
        date: Of the run.
        test: The file and the function that did it.
        seconds: What that function took, all that it tries together; None = not known.
    """

    promise: int
    method: str
    unit: str
    runs: int
    fast: int
    full: int
    result: str
    values: dict[str, float | int | str]
    has_passed: bool
    date: str
    test: str
    seconds: float | None = None

    @property
    def key(self) -> tuple[int, str]:
        """What a later record replaces."""
        return self.promise, self.method

    @property
    def lane(self) -> str:
        """Which numbers the run had."""
        if self.fast == self.full:
            return "every test run"
        if self.runs >= self.full:
            return "full"
        return "fast only" if self.runs <= self.fast else "part of full"

    @property
    def finding(self) -> str:
        """The result in words."""
        if not self.has_passed:
            return "**FAILED**"
        return self.result.format_map({name: _shown(v) for name, v in self.values.items()})


def read_records(path: Path = STORE) -> list[Record]:
    """Return what earlier runs found out."""
    return msgspec.json.decode(path.read_bytes(), type=list[Record]) if path.exists() else []


def write_records(records: Iterable[Record], store: Path = STORE, page: Path = PAGE) -> None:
    """Keep records and write their page."""
    ordered = sorted(records, key=lambda record: record.key)
    store.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
    page.write_text(render(ordered), "utf-8")


def merge(kept: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Replace what was found out earlier, but no success of many runs by one of fewer."""
    merged = {record.key: record for record in kept}
    for record in new:
        before = merged.get(record.key)
        is_weaker = (
            before is not None
            and before.has_passed
            and record.has_passed
            and before.full == record.full
            and before.runs > record.runs
        )
        if not is_weaker:
            merged[record.key] = record
    return list(merged.values())


_HEAD = """# What was tried

Each promise, what was done to break it, how often, and what came of it. Tests wrote this page:
`make test` tries each with a few runs; `make faults` does with the full number, and keeps what it
found in [reliability.json](reliability.json), with the test that found it; `make vm`,
`make powercuts` and `python -m benchmarks.soak --minutes 120 --record` add what they find. The
lane is "every test run" where the full number is so small that `make test` has it too. "Fast only"
says that the full number has not been run yet, "part of full" how much of it. A kill is `kill -9`.
Of a promise only what a row tries is shown. When the power is cut, what the machine has in memory
is lost and what it has given to its disk stays; a disk that lies about its own cache is not tried.

| promise | what was done | runs | what came of it | peers | date | lane |
|---|---|---|---|---|---|---|
"""


_DURATIONS = """
## How long it takes

Minutes of `make faults` by file, as the runs above that had their full numbers took on a busy
machine of two cores; `pytest FILE --faults full --faults-record` runs one alone. Where it is not
here, its full numbers were not run yet, or before their time was kept.

| tests | minutes |
|---|---|
"""


def render(records: Iterable[Record]) -> str:
    """Return the page."""
    records = list(records)
    by_promise: dict[int, list[Record]] = {promise.number: [] for promise in PROMISES}
    for record in sorted(records, key=lambda record: record.key):
        by_promise[BY_NUMBER[record.promise].number].append(record)
    rows = [row for promise in PROMISES for row in _rows(promise, by_promise[promise.number])]
    return _HEAD + "".join(_line(*row) for row in rows) + _durations(records)


def _durations(records: Iterable[Record]) -> str:
    """Return how long the files of tests took with their full numbers, the longest first."""
    took = {r.test: r.seconds for r in records if r.seconds is not None and r.runs >= r.full}
    by_file: dict[str, float] = {}
    for test, seconds in took.items():
        file = test.partition("::")[0]
        by_file[file] = by_file.get(file, 0.0) + seconds
    longest_first = sorted(by_file.items(), key=lambda item: (-round(item[1] / 60.0, 1), item[0]))
    rows = [_line(f"`{file}`", f"{seconds / 60.0:.1f}") for file, seconds in longest_first]
    return _DURATIONS + "".join(rows) if rows else ""


def _rows(promise: Promise, records: list[Record]) -> list[tuple[str, ...]]:
    name, peer = f"{promise.number}. {promise.text}", promise.peer or "none known"
    if not records:
        return [(name, "not tried yet", "", "", peer, "", "")]
    return [
        (
            name if record is records[0] else "",
            record.method,
            _runs(record),
            record.finding,
            peer if record is records[0] else "",
            record.date,
            record.lane,
        )
        for record in records
    ]


def _runs(record: Record) -> str:
    of = f" of {record.full:,}" if record.runs < record.full else ""
    return f"{record.runs:,}{of} {record.unit}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _shown(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


if __name__ == "__main__":
    records = read_records()
    for name in sys.argv[1:]:
        records = merge(records, read_records(Path(name)))
    write_records(records)
