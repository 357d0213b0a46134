import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from transom.printable import printable, printable_lines


@given(st.text())
def test_what_is_shown_moves_no_cursor_and_ends_no_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]


def test_what_can_be_read_stays_as_it_is() -> None:
    assert printable("Tür, дверь, 扉 — 90 %") == "Tür, дверь, 扉 — 90 %"


def test_lines_stay_lines() -> None:
    assert printable_lines("one\ntwo\x07") == "one\ntwo\\x07"
