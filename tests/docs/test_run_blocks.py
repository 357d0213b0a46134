"""Every command of the documentation is typed by `make blocks`, or a table says why it is not."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks
from tools.run_blocks.shell import commands, ended_for_the_clock, run_block
from tools.run_blocks.store import WRITTEN, Store, named_in
from tools.run_blocks.table import CHANGES, ENDED, NOT_TYPED, Change, Rule, typed, why_not

SHELL = [block for block in blocks() if block.language == "sh"]
COMMANDS = [(block.page, command) for block in SHELL for command in commands(block.code)]
IN_THE_HOUSE = {"transom", "torchrun", "install", "systemd-analyze", "curl", "createdb"}
"""Programs that the tool has, or requires: what is another's needs a reason not to be typed."""


STAYS = """#!/bin/sh
trap 'exit 130' INT
echo http://127.0.0.1:1/
while :; do sleep 0.1; done
"""


def block(code: str, page: str = "docs/x.md") -> Block:
    return Block(page, 1, "sh", code, "")


def program_of(command: str) -> str:
    words = shlex.split(command)
    return words[1] if words[0] == "sudo" else words[0]


def test_every_command_is_typed_or_has_a_reason() -> None:
    unheard_of = [
        f"{page}: {command}"
        for page, command in COMMANDS
        if not why_not(page, command) and program_of(typed(page, command)) not in IN_THE_HOUSE
    ]
    assert unheard_of == []


@pytest.mark.parametrize("rule", NOT_TYPED, ids=lambda rule: rule.pattern or rule.page)
def test_no_reason_is_stale(rule: Rule) -> None:
    decided = [
        next((one for one in NOT_TYPED if one.holds(page, command)), None)
        for page, command in COMMANDS
    ]
    assert rule in decided


@pytest.mark.parametrize("rule", NOT_TYPED, ids=lambda rule: rule.pattern or rule.page)
def test_a_reason_says_something(rule: Rule) -> None:
    assert len(rule.why) > 10


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.pattern)
def test_no_substitution_is_stale(change: Change) -> None:
    left = [(page, command) for page, command in COMMANDS if not why_not(page, command)]
    assert any(change.apply(page, command) != command for page, command in left)


@pytest.mark.parametrize("rule", ENDED, ids=lambda rule: rule.pattern)
def test_no_command_that_is_ended_is_stale(rule: Rule) -> None:
    assert any(rule.holds(page, command) for page, command in COMMANDS)


def test_nothing_that_is_left_out_is_typed() -> None:
    dots = [c for p, c in COMMANDS if not why_not(p, c) and "…" in typed(p, c)]
    assert dots == []


def test_a_block_is_its_commands() -> None:
    code = "a one  # why\n\n# b\nc \\\n    two\nd '#3' e#f\n"
    assert list(commands(code)) == ["a one", "c      two", "d '#3' e#f"]


def test_commands_are_typed_into_a_terminal_and_end_at_the_first_that_fails(tmp_path: Path) -> None:
    ran = run_block(block("test -t 0 && test -t 1\ntouch a\n"), tmp_path, {})
    assert (ran.failed, ran.count, (tmp_path / "a").exists()) == ("", 2, True)
    ran = run_block(block("echo what is wrong; exit 3\ntouch b\n"), tmp_path, {})
    assert "what is wrong" in ran.failed
    assert "ended with 3" in ran.failed
    assert not (tmp_path / "b").exists()
    assert "FAILED" in str(ran)


def test_a_command_that_goes_on_is_ended_when_it_has_shown_what_it_must(tmp_path: Path) -> None:
    (tmp_path / "transom").write_text(STAYS)
    (tmp_path / "transom").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert run_block(block("transom label home\n"), tmp_path, path).failed == ""


def test_what_is_not_typed_is_told_with_its_reason(tmp_path: Path) -> None:
    ran = run_block(block("ssh hall-pi\n"), tmp_path, {})
    assert (ran.count, ran.failed) == (0, "")
    assert "not run: needs another computer" in str(ran)
    both = run_block(block("ssh hall-pi\ntrue\n"), tmp_path, {})
    assert "ok, 1 run, 1 not run: needs another computer" in str(both)


def test_what_a_command_names_is_laid_and_what_it_writes_is_not(tmp_path: Path) -> None:
    store, page, home = (tmp_path / name for name in ("store", "page", "home"))
    for name in ("doors", "runs/home", "runs/first", "home/keys"):
        (store / name).mkdir(parents=True)
    (store / "home" / "keys" / "home.pem").write_text("key")
    for folder in (page, home):
        folder.mkdir()
    words = "transom train doors/ --out runs/first --start runs/home --key ~/keys/home.pem"
    Store(store, tmp_path).lay(words, page, home)
    assert sorted(str(path.relative_to(page)) for path in page.rglob("*")) == [
        "doors", "runs", "runs/home"
    ]  # fmt: skip
    assert (home / "keys" / "home.pem").read_text() == "key"
    (store / "data" / "hall").mkdir(parents=True)
    Store(store, tmp_path).lay("transom data import folders photos data/hall", page, home)
    assert not (page / "data").exists()


def test_what_is_written_is_known_by_the_words_before_it() -> None:
    def written(command: str) -> set[str]:
        return {word for found in WRITTEN.findall(command) for word in found if word}

    assert written("transom data import folders photos home --task state") == {"home"}
    assert written("transom data generate data/x --groups 3") == {"data/x"}
    assert written("transom keys new ~/keys/home.pem") == {"~/keys/home.pem"}
    assert written("transom setup --find --json") == set()
    assert "monday.mp4" in named_in("transom replay --clip hall=monday.mp4")


def test_doctor_may_find_the_clock_wrong_and_nothing_else() -> None:
    doctor = "transom doctor --config transom.toml"
    assert ended_for_the_clock(doctor, 1, "ok    a: b\nFAIL  clock: no\n")
    assert not ended_for_the_clock(doctor, 1, "FAIL  clock: no\nFAIL  disk: full\n")
    assert not ended_for_the_clock("transom check x", 1, "FAIL  clock: no\n")


def test_programs_that_the_tool_needs_are_those_of_the_tests() -> None:
    assert {
        name for name in IN_THE_HOUSE - {"transom", "torchrun"} if not shutil.which(name)
    } == set()
    assert (Path(sys.executable).parent / "torchrun").exists()
