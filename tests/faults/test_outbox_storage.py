"""The outbox at every step of its work on the disk: killed there, or told that the disk fails."""

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_runtime.outbox import Outbox
from tests.faults.proof import Proof
from tests.faults.store_work import EVENTS
from tests.faults.strace import (
    FAULTS,
    FROM_THEN_ON,
    ONCE,
    READS,
    require_strace,
    run_failing,
    sample,
    steps_of,
)
from transom.config import OutboxConfig

pytestmark = pytest.mark.timeout(400)  # many starts, on a machine that others use too
STEPS = 182
"""About as many as there are; SQLite's version may move it a little."""


@dataclass(frozen=True)
class Told:
    """What the program said before its end."""

    offered: set[str]
    accepted: set[str]
    ending: set[str]
    ended: set[str]
    counts: tuple[int, int, int, int] | None
    pending: list[str]
    has_closed: bool

    @staticmethod
    def read(text: str) -> "Told":
        said: dict[str, list[str]] = {}
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            said.setdefault(word, []).append(rest)
        counts = said.get("counts")
        queued, held, dropped, refused = map(int, counts[0].split()) if counts else (0, 0, 0, 0)
        return Told(
            set(said.get("offer", [])),
            set(said.get("accept", [])),
            set(said.get("ending", [])),
            set(said.get("ended", [])),
            (queued, held, dropped, refused) if counts else None,
            said.get("pending", [""])[0].split(),
            "closed" in said,
        )


def command(path: Path, work: str = "outbox") -> list[str]:
    return [sys.executable, "-m", "tests.faults.store_work", work, str(path)]


def check_store(path: Path, told: Told, *, was_killed: bool, is_lasting: bool) -> None:
    """Assert that the store is whole and holds what was accepted and not yet delivered."""
    assert not list(path.parent.glob("*.damaged"))
    outbox = Outbox(path, OutboxConfig())
    there = [entry.event_id for entry in outbox.pending(100)]
    buried = {letter.event_id for letter in outbox.dead_letters()}
    dropped = outbox.counts().dropped
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert there == sorted(set(there), key=int), "each once, in order"
    assert set(there) <= told.offered
    assert dropped == 0
    if is_lasting and not was_killed:
        return  # the disk took nothing to its end: what was in memory ended with the process
    assert told.accepted - told.ending <= set(there), "what was accepted must be there"
    if not was_killed:
        assert told.has_closed
        assert set(there) == told.accepted - told.ended
        assert len(buried) == 2
        assert buried <= told.ended


def check_work(told: Told) -> None:
    """Assert that the program got to its end with all that it accepted, disk or no disk."""
    assert told.counts is not None
    _, _, dropped, refused = told.counts
    assert (len(told.accepted), dropped, refused) == (EVENTS, 0, 2)
    assert set(told.pending) == told.accepted - told.ended


def test_no_step_of_the_outbox_that_fails_or_is_the_last_loses_an_event(
    tmp_path: Path, proof: Proof
) -> None:
    require_strace()
    (tmp_path / "unharmed").mkdir()
    steps = steps_of(
        command(tmp_path / "unharmed" / "outbox.sqlite3"), tmp_path / "unharmed", tmp_path / "log"
    )
    assert {"pwrite64", "fdatasync", "openat", "unlink"} <= {step.call for step in steps}
    claim = proof(
        3,
        "outbox: killed, an I/O error or a full disk (`strace -e inject`) at each write, sync, "
        "open, truncation and removal, once or from then on",
        fast=12,
        full=5 * STEPS,
        unit="runs",
    )
    runs = sample(steps, claim.runs if claim.runs < 5 * STEPS else 10**6, random.Random(3))
    for number, (step, fault, lasts) in enumerate(runs):
        path = tmp_path / str(number) / "outbox.sqlite3"
        path.parent.mkdir()
        done = run_failing(command(path), step, fault, lasts)
        told = Told.read(done.stdout)
        was_killed = fault == FAULTS[0]
        context = f"{fault}{lasts} at {step.shown}: {done.stderr[-2000:]}"
        try:
            assert (done.returncode == 0) != was_killed
            if not was_killed:
                check_work(told)
            check_store(path, told, was_killed=was_killed, is_lasting=lasts == FROM_THEN_ON)
        except Exception as error:
            error.add_note(context)
            raise
    claim.found(
        "{steps} steps; 0 events lost, 0 stores damaged, each opened again at once",
        runs=len(runs),
        steps=len(steps),
    )


READ_STEPS = 25
"""About as many reads as there are of a store that is opened again."""
WAITING = """
import os, sys
from pathlib import Path
from edge_runtime.outbox import Outbox
from transom.config import OutboxConfig
from transom.messages import Message
outbox = Outbox(Path(sys.argv[1]), OutboxConfig())
for number in range(5):
    outbox.put(Message("transom/pi/zone/event", b"x" * 500), str(number))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """The folder of a store in which five events wait, and whose program was killed."""
    folder = tmp_path / "waiting"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", WAITING, folder / "outbox.sqlite3"], check=False)
    assert done.returncode == -signal.SIGKILL
    return folder


def test_a_read_that_fails_once_costs_no_event(waiting: Path, tmp_path: Path, proof: Proof) -> None:
    """A card that was reset while it was asked for a page gives all of it the next time."""
    require_strace()
    shutil.copytree(waiting, tmp_path / "unharmed")
    store = tmp_path / "unharmed" / "outbox.sqlite3"
    steps = steps_of(command(store, "again"), store.parent, tmp_path / "log", READS)
    assert len(steps) > 10
    claim = proof(
        3,
        "outbox in which events wait, opened after a kill: an I/O error (`strace -e inject`) at "
        "each of its reads",
        fast=6,
        full=READ_STEPS,
        unit="runs",
    )
    wanted = claim.runs if claim.runs < READ_STEPS else len(steps)
    chosen = random.Random(4).sample(steps, min(wanted, len(steps)))
    everything = {str(number) for number in (*range(5), *range(EVENTS, EVENTS + 4))}
    for number, step in enumerate(chosen):
        path = tmp_path / str(number) / "outbox.sqlite3"
        shutil.copytree(waiting, path.parent)
        done = run_failing(command(path, "again"), step, FAULTS[1], ONCE)
        try:
            assert done.returncode == 0
            assert "closed" in done.stdout
            assert not list(path.parent.glob("*.damaged*"))
            outbox = Outbox(path, OutboxConfig())
            assert {entry.event_id for entry in outbox.pending(100)} == everything
            outbox.close()
        except Exception as error:
            error.add_note(f"at {step.shown}: {done.stdout} {done.stderr[-2000:]}")
            raise
    claim.found("0 of {events} events lost in each, no store taken for damaged",
                runs=len(chosen), events=len(everything))  # fmt: skip


def test_a_store_that_stays_unread_is_kept_aside_and_a_new_one_made(
    waiting: Path, tmp_path: Path
) -> None:
    """Where the card has lost a page for good, a device must not wait for it for ever."""
    require_strace()
    shutil.copytree(waiting, tmp_path / "unharmed")
    store = tmp_path / "unharmed" / "outbox.sqlite3"
    steps = steps_of(command(store, "again"), store.parent, tmp_path / "log", READS)
    first = next(step for step in steps if step.call == "pread64" and "-wal>" in step.shown)
    path = waiting / "outbox.sqlite3"
    done = run_failing(command(path, "again"), first, FAULTS[1], "..100")
    assert done.returncode == 0, done.stderr
    assert "outbox was damaged and is new" in done.stderr
    assert (waiting / "outbox.sqlite3.damaged").exists()
    told = Told.read(done.stdout)
    assert set(told.pending) == told.accepted, "what came since is told all the same"
