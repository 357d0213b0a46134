"""The recordings are what a person sees: of commands that there are, in lines that fit."""

import re

import pytest

from tests.docs.blocks import ROOT, command_lines, wrong_in_command
from tools.recordings import COLUMNS, without_help
from tools.screen import Screen

PAGE = (ROOT / "docs" / "recordings.md").read_text("utf-8")
SCREENS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)
TYPED = [screen.partition("\n")[0] for screen in SCREENS if screen.startswith("$ ")]


def test_every_command_that_was_asked_for_is_recorded() -> None:
    commands = [line.split()[2] for line in TYPED]
    assert commands == ["setup", "check", "doctor", "watch", "fleet", "evaluate", "bench"]


@pytest.mark.parametrize("line", TYPED)
def test_a_recorded_command_can_still_be_given_so(line: str) -> None:
    (words,) = command_lines(line.removeprefix("$ "))
    assert wrong_in_command(words[1:]) == ""


def test_a_recording_is_text_that_fits_the_terminal() -> None:
    assert [one for one in PAGE if ord(one) < 32 and one != "\n"] == []
    lines = [line for screen in SCREENS for line in screen.splitlines()]
    assert [line for line in lines if len(line) > COLUMNS and not line.startswith("$ ")] == []
    assert not re.search(r"Traceback|\btoken=", PAGE)
    assert set(re.findall(r"(?<![\w./~-])/(\w+)/", PAGE)) == {"etc", "tmp", "var"}


def test_no_bar_of_progress_is_left_behind() -> None:
    assert re.findall(r"\[[#-]*-[#-]*\] .*%", PAGE) == []


def test_the_door_is_seen_to_open_to_be_left_open_and_to_shut() -> None:
    for alert in ("front_door opened (", "front_door left open for 1 min", "front_door closed ("):
        assert alert in PAGE


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("a\r\nb\r\n", "a\nb"),
        ("10 %\r100 %\r\n", "100 %"),
        ("bundle 100%\r\x1b[K1 asked\r\n", "1 asked"),
        ("one\r\ntwo\r\n\x1b[2A\rthree\x1b[K\r\n\x1b[J", "three"),
        ("a\r\n\x1b[1A\rb\x1b[K\r\n\x1b[J", "b"),
        ("\x1b[32mok\x1b[0m  fine", "ok  fine"),
        ("abcdefgh", "abcde\nfgh"),
        ("abc\x08\x08X", "aXc"),
        ("a\x1b[3Cb", "a   b"),
        ("\x1b[?25lx\x1b[?25h", "x"),
    ],
)
def test_a_screen_shows_what_a_terminal_does(written: str, seen: str) -> None:
    screen = Screen(12 if len(written) > 8 or "\x1b" in written else 5)
    screen.write(written)
    assert screen.text() == seen


def test_a_line_as_long_as_the_screen_does_not_wrap() -> None:
    screen = Screen(5)
    screen.write("abcde\r\nfg")
    assert screen.text() == "abcde\nfg"


def test_the_explanations_of_setup_are_left_out() -> None:
    ask = "zones: Enter, add, move, name, class, drop, again or ?: "
    shown = f"drawn\n  Enter     take them\n  add     one more\n{ask}name 1 a\n{ask}\n"
    assert without_help(shown) == f"drawn\n…\n{ask}name 1 a\n{ask}\n"
