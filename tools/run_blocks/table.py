"""Which commands of the documentation are not typed and why, and what is typed otherwise.

All else is typed as it stands. `tests/docs/test_run_blocks.py` holds every line of these tables
against the pages: one that nothing on them needs any more is an error.
"""

import re
from dataclasses import dataclass

BOOTED = "needs a machine that systemd has booted: `make tutorial` types it into one"
FETCHES = "fetches PyTorch and what else is installed, gigabytes"
BLENDER = "needs Blender as a module, in an environment of its own: `make rooms`"
ANOTHER = "needs another computer"


@dataclass(frozen=True)
class Rule:
    """Commands that are treated otherwise.

    Attributes:
        pattern: Is searched in the command, as the page has it.
        why: What a reader of the report is told.
        page: Only on this page; empty = on all.
    """

    pattern: str
    why: str
    page: str = ""

    def holds(self, page: str, command: str) -> bool:
        """Return whether this speaks of a command of a page."""
        return self.page in ("", page) and re.search(self.pattern, command) is not None


NOT_TYPED = (
    Rule(r"^make (demo|test|check|dist)\b", FETCHES + ", into the environment that this runs in"),
    Rule(r"\bpip install\b", FETCHES),
    Rule(r"^python3 -m venv ~/transom", "is of use only with what is installed into it"),
    Rule(r"^pip download\b", "fetches; `make install-test` fetches the same files"),
    Rule(r"^make rooms\b", BLENDER),
    Rule(r"", BLENDER, "docs/rendered-rooms.md"),
    Rule(r"^sudo sh install\.sh", BOOTED),
    Rule(r"^sudo apt-get\b", BOOTED + ", or `make install-test`"),
    Rule(r"^(sudo )?systemctl\b", BOOTED),
    Rule(r"^sudoedit\b", "an editor; `make tutorial` has one edit the file"),
    Rule(r"^(ssh|scp) ", ANOTHER),
    Rule(r"--backbone resnet18\b", "fetches weights of ImageNet, and the house has no network"),
    Rule(r"benchmarks/multimnist\.py", "takes twenty minutes, or hours: `make bench`"),
)
"""Commands that are not typed. A later line may say so of a whole page, which an earlier one does
of a command: the first that holds counts."""


@dataclass(frozen=True)
class Change(Rule):
    """A command that is typed otherwise.

    Attributes:
        into: What takes the pattern's place.
    """

    into: str = ""

    def apply(self, page: str, command: str) -> str:
        """Return what is typed for a command of a page."""
        return re.sub(self.pattern, self.into, command) if self.holds(page, command) else command


CHANGES = (
    Change(
        r"--host (broker\.lan )?…",
        "the dots stand for the options of the line above",
        into="--host broker.lan --username me --password-file ~/.mqtt",
    ),
    Change(r"--groups 300\b", "how many are drawn is the user's choice", into="--groups 6"),
    Change(r"--trials 40\b", "how many are tried is the user's choice", into="--trials 2"),
    Change(
        r"^(transom tune (?!.*--trials).*)$",
        "how many are tried is the user's choice",
        into=r"\1 --trials 2",
    ),
    Change(
        r"^(transom compare .*?)( --seeds 3)?$",
        "how many seeds and epochs is the user's choice",
        into=r"\1 --seeds 1 --epochs 1",
    ),
    Change(
        r"^(transom pretrain .*)$",
        "how many epochs is the user's choice",
        into=r"\1 --epochs 2",
    ),
    Change(
        r"USER:PASSWORD@HOST/transom",
        "stands for a user, a password and a machine",
        into="tune:secret@db.lan/transom",
    ),
)


@dataclass(frozen=True)
class Ended(Rule):
    """A command that goes on until Ctrl-C.

    Attributes:
        shows: What it shows before Ctrl-C is pressed.
    """

    shows: str = ""


ENDED = (
    Ended(r"^transom run\b", "the daemon", shows="connected"),
    Ended(r"^transom label\b", "serves a page", shows="http://127.0.0.1"),
    Ended(r"^transom fleet --host", "a table that goes on", shows="hall-pi"),
    Ended(r"^transom fleet record\b", "records until then", shows="kept"),
    Ended(r"^transom watch (?!.*--count)", "a table that goes on", shows="front_door"),
)


def why_not(page: str, command: str) -> str:
    """Return why a command of a page is not typed; empty = it is."""
    return next((one.why for one in NOT_TYPED if one.holds(page, command)), "")


def typed(page: str, command: str) -> str:
    """Return what is typed for a command of a page."""
    for change in CHANGES:
        command = change.apply(page, command)
    return command


def ends_at(page: str, command: str) -> str:
    """Return what a command of a page shows before Ctrl-C is pressed; empty = it ends by itself."""
    return next((one.shows for one in ENDED if one.holds(page, command)), "")
