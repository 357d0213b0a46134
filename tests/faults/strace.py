"""Every step that a program takes on a folder's files, and the program with one of them failing.

Only the calls of the program's first thread count; it must do the same each time.
"""

import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CALLS = (
    "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink",
    "unlinkat", "ftruncate", "fallocate", "fchmod", "mkdir", "openat",
)  # fmt: skip
READS = ("pread64", "read")
KILL = "signal=KILL"
FAULTS = (KILL, "error=EIO", "error=ENOSPC")
ONCE, FROM_THEN_ON = "", "+"
_QUICK = ("--seccomp-bpf",)
"""Stop at the calls of interest only; strace 6.1 sends no signal then."""


@dataclass(frozen=True, slots=True)
class Step:
    """The `number`th time that a program makes a call, as strace showed it."""

    call: str
    number: int
    shown: str


def require_strace() -> None:
    """Skip where there is no strace; in CI that is a failure."""
    if shutil.which("strace") is None:
        text = "strace is not installed: apt-get install strace"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)


def steps_of(
    command: Sequence[str], folder: Path, log: Path, calls: Sequence[str] = CALLS
) -> list[Step]:
    """Run a program unharmed and return its steps on the files of a folder."""
    _trace(
        [*_QUICK, "-y", "-e", f"trace={','.join(calls)}", "-o", str(log)], command
    ).check_returncode()
    counts: Counter[str] = Counter()
    found = []
    lines = log.read_text("utf-8", "replace").splitlines()
    thread = lines[0].split()[0]
    for line in lines:
        call = re.match(rf"{thread} +(\w+)\(", line)
        if call is None:
            continue
        counts[call[1]] += 1
        if str(folder) in line:
            found.append(Step(call[1], counts[call[1]], line))
    return found


def sample(steps: Sequence[Step], runs: int, dice: random.Random) -> list[tuple[Step, str, str]]:
    """Return steps with what goes wrong there: all of them, or some of each kind of call.

    Nothing fails from then on at `openat`: where no file opens, no program starts.
    """
    wanted = [(step, fault, ONCE) for step in steps for fault in FAULTS]
    lasting = [step for step in steps if step.call != "openat"]
    wanted += [(step, fault, FROM_THEN_ON) for step in lasting for fault in FAULTS[1:]]
    dice.shuffle(wanted)
    seen: dict[tuple[str, str, str], int] = {}

    def turn(item: tuple[Step, str, str]) -> int:
        kind = (item[0].call, item[1], item[2])
        seen[kind] = seen.get(kind, 0) + 1
        return seen[kind]

    return sorted(wanted, key=turn)[:runs]


def run_failing(
    command: Sequence[str], step: Step, fault: str, lasts: str = ONCE
) -> "subprocess.CompletedProcess[str]":
    """Run a program with a fault at one of its steps, once or at each such call from then on."""
    inject = f"inject={step.call}:{fault}:when={step.number}{lasts}"
    quick = () if fault == KILL else _QUICK
    return _trace([*quick, "-o", "/dev/null", "-e", f"trace={step.call}", "-e", inject], command)


def _trace(options: Sequence[str], command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    # Without its cached bytecode written anew, each run makes the same calls.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    return subprocess.run(
        ["strace", "-qq", "-f", *options, *command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300.0,
        check=False,
    )
