"""What the tutorial's typist does without a machine: what it edits, answers, leaves, and tells."""

import json
from pathlib import Path

import pytest

from tests.docs.blocks import command_lines
from tools import tutorial, tutorial_typist

LOG = """
[    3.1] python3[30]: tutorial: types  sudo apt-get update
[    5.4] python3[30]: tutorial: took    2.3 s  docs/tutorial.md:18  sudo apt-get update
[    5.5] python3[30]: tutorial: took   46.8 s  docs/tutorial.md:29  sudo sh install.sh
[    5.6] python3[30]: tutorial: found  the link of `transom page` leads to the page
"""


def lines() -> list[str]:
    return [
        line
        for block in tutorial.page_blocks()
        if block["language"] == "sh"
        for line in block["code"].splitlines()
    ]


def test_the_lines_are_those_of_the_page_in_its_order() -> None:
    assert lines()[0] == "sudo apt-get update"
    assert lines()[-1].startswith("transom watch")
    assert all(len(list(command_lines(line))) == 1 for line in lines())


@pytest.mark.parametrize(
    "start",
    [
        *tutorial_typist.ANSWERS,
        *tutorial_typist.NOT_TYPED,
        *tutorial_typist.MAY_END_WITH_1,
    ],
)
def test_what_is_treated_otherwise_is_on_the_page(start: str) -> None:
    assert any(line.startswith(start) for line in lines())


def test_the_times_become_a_table_and_a_sum() -> None:
    said = tutorial.table(LOG)
    assert "| `sudo apt-get update` (tutorial.md:18) | 2.3 |" in said
    assert "| `sudo sh install.sh` (tutorial.md:29) | 46.8 |" in said
    assert "- the link of `transom page` leads to the page" in said
    assert "49 s of commands" in said


def test_a_line_that_ends_otherwise_than_it_must_is_an_error() -> None:
    doctor = "sudo transom doctor --config /etc/transom/transom.toml"
    tutorial_typist.look_at_end(doctor, 1, "ok    python: 3.11\nFAIL  clock: not synchronised\n")
    with pytest.raises(tutorial_typist.TutorialError, match="ended with 1"):
        tutorial_typist.look_at_end(doctor, 1, "FAIL  clock: no\nFAIL  broker: refuses\n")
    with pytest.raises(tutorial_typist.TutorialError, match="ended with 2"):
        tutorial_typist.look_at_end("sudo transom check transom.toml", 2, "")
    with pytest.raises(tutorial_typist.TutorialError, match="active"):
        tutorial_typist.look_at_end("systemctl status transom", 0, "Active: failed")


def test_the_page_s_lines_are_put_where_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = [block["code"] for block in tutorial.page_blocks() if block["language"] == "toml"]
    monkeypatch.setattr(tutorial_typist, "TOML", tmp_path / "toml")
    (tmp_path / "toml").write_text(json.dumps(toml))
    file = tmp_path / "transom.toml"
    file.write_text('[[cameras.zones]]\nname = "front_door"\ndevice_class = "door"\n')
    tutorial_typist.edit(file)
    assert file.read_text() == (
        '[[cameras.zones]]\nname = "front_door"\nleft_open_after_s = 60\nsnapshot = true\n'
        'device_class = "door"\n\n[samples]\n'
    )
    file.write_text('name = "window"\n')
    with pytest.raises(SystemExit, match="stands there 0 times"):
        tutorial_typist.edit(file)
