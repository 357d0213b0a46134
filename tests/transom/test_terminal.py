import io
import os
import pty

import pytest

from transom.terminal import LiveTable, aligned, fitted


def test_cells_stand_below_each_other_and_move_no_cursor() -> None:
    lines = aligned([("device", "runs"), ("hall-pi", "home\x1b[2J 7"), ("a", "b")])
    assert lines == ["device   runs", "hall-pi  home\\x1b[2J 7", "a        b"]


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("front_door", 5, "front"),
        ("戸口", 3, "戸"),
        ("e\u0301te\u0301", 2, "e\u0301t"),
        ("ab", 0, ""),
    ],
)
def test_a_line_ends_where_the_terminal_does(text: str, columns: int, expected: str) -> None:
    assert fitted(text, columns) == expected


def test_a_table_is_written_over_the_one_before() -> None:
    stream = io.StringIO()
    table = LiveTable(stream)
    table.show(["one", "two"])
    table.show(["three"])

    assert stream.getvalue() == "\rone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[2A\rthree\x1b[K\n\x1b[J"


def test_what_does_not_fit_into_the_terminal_is_left_out() -> None:
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream:
            os.set_blocking(ours, False)
            LiveTable(stream).show([f"line {number}" for number in range(100)])
            written = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
    assert written.count("line") == 23  # a new pseudo terminal says 0 x 0: 80 x 24 is taken
