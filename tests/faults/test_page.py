"""The page of promises shows what tests recorded, of tests that are there, and nothing else."""

import ast
from collections.abc import Iterator

import pytest

from tools.reliability.promises import PROMISES
from tools.reliability.records import PAGE, ROOT, Record, merge, read_records, render

RECORD = Record(
    promise=1,
    method="kill",
    unit="kills",
    runs=10,
    fast=10,
    full=1000,
    result="{lost} lost, {longest_s} s",
    values={"lost": 0, "longest_s": 1.23456},
    has_passed=True,
    date="2026-01-01",
    test="tests/faults/test_page.py::test_x",
)


def with_(**changes: object) -> Record:
    return Record(**({name: getattr(RECORD, name) for name in RECORD.__struct_fields__} | changes))


def functions_that_prove() -> Iterator[str]:
    """Every test function that takes the fixture `proof`, as records name it."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        name = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and "proof" in [a.arg for a in node.args.args]:
                yield f"{name}::{node.name}"


def programs_that_prove() -> Iterator[str]:
    """Every tool that records what it finds: it needs what no run of the tests has, and hours."""
    for file in sorted((ROOT / "tools").glob("*.py")):
        if "write_records(" in file.read_text("utf-8"):
            yield file.relative_to(ROOT).as_posix()


def test_the_page_is_what_its_records_say() -> None:
    assert PAGE.read_text("utf-8") == render(read_records()), (
        "docs/reliability.md was edited by hand: python -m tools.reliability.records"
    )


def test_every_record_is_of_a_test_that_is_there_and_every_such_test_has_a_record() -> None:
    recorded = {record.test for record in read_records()}
    there = set(functions_that_prove())
    assert recorded - there - set(programs_that_prove()) == set(), (
        "remove these from docs/reliability.json"
    )
    assert there - recorded == set(), "run these with --faults-record"


def test_every_promise_is_on_the_page_once() -> None:
    text = render([])
    assert [text.count(f"| {p.number}. {p.text} |") for p in PROMISES] == [1] * len(PROMISES)
    assert [p.number for p in PROMISES] == list(range(1, len(PROMISES) + 1))


def test_a_row_says_how_often_and_that_it_was_the_fast_lane_only() -> None:
    row = next(line for line in render([RECORD]).splitlines() if "| kill |" in line)
    assert "| 10 of 1,000 kills | 0 lost, 1.23 s |" in row
    assert row.endswith("| 2026-01-01 | fast only |")


@pytest.mark.parametrize(
    ("runs", "lane"), [(10, "fast only"), (200, "part of full"), (1000, "full")]
)
def test_the_lane_is_told_by_the_number_of_runs(runs: int, lane: str) -> None:
    assert with_(runs=runs).lane == lane


def test_a_failure_is_shown() -> None:
    assert "**FAILED**" in render([with_(has_passed=False)])


def test_a_short_run_does_not_replace_a_long_one_and_a_failure_replaces_any() -> None:
    long, short = with_(runs=1000), with_(date="2026-01-02")
    failed = with_(has_passed=False)
    assert merge([long], [short]) == [long]
    assert merge([short], [long]) == [long]
    assert merge([long], [failed]) == [failed]
    assert merge([failed], [short]) == [short]
    assert merge([], [short, with_(method="freeze")]) == [short, with_(method="freeze")]
