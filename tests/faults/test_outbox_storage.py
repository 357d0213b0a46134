"""The outbox at every step of its work on the disk: killed there, or told that the disk fails."""

import contextlib
import random
import sqlite3
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


def command(path: Path) -> list[str]:
    return [sys.executable, "-m", "tests.faults.store_work", "outbox", str(path)]


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
