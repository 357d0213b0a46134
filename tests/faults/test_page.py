"""The page of promises shows what tests recorded, of tests that are there, and nothing else."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.reliability.promises import PROMISES
from tools.reliability.records import PAGE, ROOT, STORE, Record, merge, read_records, render

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
    """Every program that records what it finds: what no run of the tests has, and takes hours."""
    kinds = ("tools/*.py", "tools/*/__main__.py", "benchmarks/*.py")
    for file in sorted(file for kind in kinds for file in ROOT.glob(kind)):
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


def test_the_page_says_how_long_each_file_takes_with_its_full_numbers() -> None:
    records = [
        with_(runs=1000, seconds=90.0),
        with_(runs=1000, seconds=90.0, method="freeze"),  # the same test found both
        with_(runs=1000, seconds=33.0, method="cut", test="tests/faults/test_page.py::test_y"),
        with_(runs=10, seconds=5.0, method="drip", test="tests/faults/test_z.py::test_z"),
    ]
    _, _, durations = render(records).partition("## How long it takes")
    assert "| `tests/faults/test_page.py` | 2.0 |" in durations
    assert "test_z.py" not in durations


_RUN = """
def test_fails(proof):
    claim = proof(1, "failing")
    claim.found("right")
    assert False

def test_holds(proof):
    proof(1, "holding", fast=1, full=7, unit="kills").found("all well")

def test_is_interrupted(proof):
    proof(1, "interrupted")
    raise KeyboardInterrupt
"""
_QUICK = """
def test_is_quick(proof):
    proof(1, "quick").found("all well")
"""


def test_a_full_run_that_fails_and_is_interrupted_keeps_what_it_found_the_quickest_first(
    tmp_path: Path,
) -> None:
    kept_in = tmp_path / "not" / "yet"
    (tmp_path / "test_a_long.py").write_text(_RUN)
    (tmp_path / "test_b_quick.py").write_text(_QUICK)
    command = [sys.executable, "-m", "pytest", "-p", "tests.faults.proof", "-p", "no:randomly",
               "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null",
               "--faults-record", "--faults-folder", str(kept_in)]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    run("test_b_quick.py", "--faults", "fast")
    done = run("--faults", "full")
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout
    kept = {record.method: record for record in read_records(kept_in / STORE.name)}
    assert {name: one.has_passed for name, one in kept.items()} == {
        "quick": True, "failing": False, "holding": True,
    }  # fmt: skip
    assert kept["holding"].runs == 7
    assert kept["holding"].seconds is not None
    assert done.stdout.index("test_b_quick.py") < done.stdout.index("test_a_long.py")
    assert "**FAILED**" in (kept_in / PAGE.name).read_text("utf-8")
