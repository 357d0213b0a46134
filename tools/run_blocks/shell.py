"""A block of a page, typed command by command into a terminal."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.blocks import Block
from tests.edge_runtime.terminal import Terminal
from tools.run_blocks.table import ends_at, typed, why_not
from tools.tutorial_typist import answer_questions

LONGEST_S = 900.0
"""A command that shows nothing new for so long has failed."""
CODES_AFTER_CTRL_C = (0, 130)


@dataclass(frozen=True)
class Outcome:
    """What came of a block.

    Attributes:
        block: Which.
        seconds: How long its commands took together.
        failed: What was typed and failed, with the end of what was shown; empty = nothing.
        left: Commands that were not typed, by the reason.
        count: How many commands were typed.
    """

    block: Block
    seconds: float
    failed: str
    left: Mapping[str, str] = field(default_factory=dict)
    count: int = 0

    def __str__(self) -> str:
        reasons = "; ".join(dict.fromkeys(self.left.values()))
        where = f"{self.block!s:32}"
        if self.failed:
            return f"{where} {self.seconds:7.1f} s  FAILED"
        if not self.count:
            return f"{where}       -    not run: {reasons}"
        more = f", {len(self.left)} not run: {reasons}" if self.left else ""
        return f"{where} {self.seconds:7.1f} s  ok, {self.count} run{more}"


def commands(code: str) -> Iterator[str]:
    """Yield the commands of a block: its lines, those put together that a backslash continues."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield re.sub(r"\s+#\s.*$", "", line).strip()


def run_block(
    block: Block,
    folder: Path,
    environment: Mapping[str, str],
    *,
    lay: Callable[[str], None] = lambda _: None,
    camera: str = "",
) -> Outcome:
    """Type a block's commands; those after one that fails are not typed.

    Args:
        block: Which.
        folder: Where.
        environment: What programs find in it, beside this one's.
        lay: Is given each command before it is typed, and lays what it needs.
        camera: The address that is answered where a command asks for a camera.
    """
    left: dict[str, str] = {}
    count, began_s = 0, time.monotonic()
    for command in commands(block.code):
        why = why_not(block.page, command)
        if why:
            left[command] = why
            continue
        words = typed(block.page, command)
        lay(words)
        failed = type_command(
            words, folder, environment, camera, shows=ends_at(block.page, command)
        )
        count += 1
        if failed:
            seconds = time.monotonic() - began_s
            return Outcome(block, seconds, f"$ {words}\n{failed}", left, count)
    return Outcome(block, time.monotonic() - began_s, "", left, count)


def type_command(
    words: str, folder: Path, environment: Mapping[str, str], camera: str, shows: str = ""
) -> str:
    """Type a command and wait for its end; return what was shown where it failed, else nothing.

    Args:
        words: What is typed.
        folder: Where.
        environment: What programs find in it, beside this one's.
        camera: The address that is answered where `transom setup` asks for a camera.
        shows: What it shows before Ctrl-C is pressed; empty = it ends by itself.
    """
    with Terminal(
        words, program=("bash", "-c"), cwd=folder, environment=environment, within_s=LONGEST_S
    ) as terminal:
        try:
            if re.fullmatch(r"(sudo )?transom setup( --overwrite)?", words):
                answer_questions(terminal, camera)
            elif "/dev/stdin" in words:
                terminal.type("secret\n\x04")
            if shows:
                terminal.wait_for(shows)
                terminal.press_ctrl_c()
            code = terminal.ended()
        except AssertionError as error:
            return str(error)
        expected = CODES_AFTER_CTRL_C if shows else (0,)
        if code in expected or ended_for_the_clock(words, code, terminal.text):
            return ""
        return f"{terminal.text[-2000:]}\nended with {code}"


def ended_for_the_clock(words: str, code: int, shown: str) -> bool:
    """Return whether it is `transom doctor` that found nothing wrong but the clock.

    Nothing sets the clock in a house without a network.
    """
    failed = re.findall(r"^FAIL +(.+?):", shown, re.M)
    return "transom doctor" in words and code == 1 and failed == ["clock"]
