import contextlib
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.outbox import MAX_HELD_EVENTS, Outbox
from tests.edge_runtime.disk import SmallDisk, disk
from tests.faults.proof import Proof
from transom.config import OutboxConfig
from transom.errors import OutboxError
from transom.messages import Message

__all__ = ["disk"]


def message(number: int, size: int = 100) -> Message:
    return Message(f"transom/hall-pi/zone_{number}/event", b"%d " % number + b"x" * size)


def numbers(outbox: Outbox) -> list[int]:
    return [int(entry.event_id) for entry in outbox.pending(100_000)]


def fill(outbox: Outbox, *wanted: int, size: int = 100) -> None:
    for number in wanted:
        outbox.put(message(number, size), str(number))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite3"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    store = Outbox(path, OutboxConfig())
    yield store
    store.close()


def test_gives_back_what_was_put_in_order(outbox: Outbox) -> None:
    fill(outbox, 1, 2, 3)
    assert [entry.message for entry in outbox.pending(2)] == [message(1), message(2)]
    last = outbox.pending(2)[-1].id
    assert [entry.message for entry in outbox.pending(2, after=last)] == [message(3)]


def test_done_events_are_gone(outbox: Outbox) -> None:
    fill(outbox, *range(5))
    ids = [entry.id for entry in outbox.pending(10)]
    outbox.done(ids[0], ids[2])
    outbox.done(ids[0])
    assert numbers(outbox) == [1, 3, 4]
    assert outbox.counts().queued == 3


def test_events_outlive_the_process_that_accepted_them(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edge_runtime.outbox import Outbox\n"
        "from transom.config import OutboxConfig; from transom.messages import Message\n"
        "outbox = Outbox(Path(sys.argv[1]), OutboxConfig())\n"
        "for n in range(20): outbox.put(Message('t', b'x'), str(n))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -9
    outbox = Outbox(path, OutboxConfig())
    assert numbers(outbox) == list(range(20))
    outbox.close()


def test_ids_go_on_growing_after_everything_was_delivered(outbox: Outbox) -> None:
    fill(outbox, 1)
    first = outbox.pending(1)[0].id
    outbox.done(first)
    fill(outbox, 2)
    assert outbox.pending(1, after=first)[0].event_id == "2"


def test_beyond_its_count_the_oldest_is_dropped_and_counted(path: Path) -> None:
    outbox = Outbox(path, OutboxConfig(max_events=100))
    fill(outbox, *range(103))
    assert numbers(outbox) == list(range(3, 103))
    outbox.close()
    again = Outbox(path, OutboxConfig(max_events=100))
    assert again.counts().dropped == 3
    again.close()


def test_beyond_its_bytes_the_oldest_are_dropped_and_the_file_stays_bounded(path: Path) -> None:
    config = OutboxConfig(max_bytes=1_048_576)
    outbox = Outbox(path, config)
    fill(outbox, *range(300), size=8000)
    kept = numbers(outbox)
    assert kept == list(range(kept[0], 300))
    assert 60 < len(kept) < 130
    counts = outbox.counts()
    assert (counts.queued, counts.dropped) == (len(kept), kept[0])
    assert counts.held == 0
    outbox.close()
    assert path.stat().st_size <= config.max_bytes


def test_refuses_a_message_that_would_push_out_everything_else(outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="payload must be at most"):
        outbox.put(message(1, OutboxConfig().max_bytes // 2), "1")


def test_refused_events_are_kept_apart_and_not_sent_again(outbox: Outbox, path: Path) -> None:
    fill(outbox, 1, 2)
    outbox.refuse(outbox.pending(1)[0].id, "Not authorized")
    assert numbers(outbox) == [2]
    assert (outbox.counts().queued, outbox.counts().refused) == (1, 1)
    letter = outbox.dead_letters()[0]
    assert (letter.event_id, letter.message, letter.reason) == ("1", message(1), "Not authorized")


def test_dead_letters_are_bounded_and_the_newest_are_kept(path: Path) -> None:
    outbox = Outbox(path, OutboxConfig(max_events=100))
    for number in range(30):
        fill(outbox, number)
        outbox.refuse(outbox.pending(1)[0].id, "no")
    assert [int(letter.event_id) for letter in outbox.dead_letters()] == list(range(20, 30))
    assert outbox.counts().refused == 30
    outbox.close()


def test_only_one_process_may_have_it_open(outbox: Outbox, path: Path) -> None:
    with pytest.raises(OutboxError, match="another process has it open"):
        Outbox(path, OutboxConfig())
    fill(outbox, 1)
    assert outbox.counts().held == 0


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match="cannot be made"):
        Outbox(tmp_path / "file" / "outbox.sqlite3", OutboxConfig())


def test_nobody_else_may_read_the_files(outbox: Outbox, path: Path) -> None:
    fill(outbox, 1)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("damage", ["not a database", "a page overwritten", "cut short"])
def test_a_damaged_file_is_kept_aside_and_a_new_one_made(
    damage: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path, OutboxConfig())
    fill(outbox, *range(200))
    outbox.close()
    data = bytearray(path.read_bytes())
    if damage == "not a database":
        data[:100] = b"x" * 100
    elif damage == "a page overwritten":
        data[4096 * 6 : 4096 * 7] = os.urandom(4096)
    else:
        del data[len(data) // 2 :]
    path.write_bytes(data)
    outbox = Outbox(path, OutboxConfig())
    fill(outbox, 1)
    assert numbers(outbox) == [1]
    outbox.close()
    assert (path.parent / "outbox.sqlite3.damaged").read_bytes()[4096:] == data[4096:]
    assert "outbox was damaged" in caplog.text


def test_damage_while_it_runs_costs_the_old_events_and_not_the_daemon(
    outbox: Outbox, path: Path
) -> None:
    fill(outbox, *range(300), size=8000)
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    fill(outbox, *range(300, 700), size=8000)
    outbox.done(*(entry.id for entry in outbox.pending(10)))
    fill(outbox, 9999)
    assert numbers(outbox)[-1] == 9999


def test_goes_on_while_the_disk_is_full_and_recovers(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = disk.folder / "outbox.sqlite3"
    outbox = Outbox(path, OutboxConfig())
    fill(outbox, *range(20))
    disk.fill()
    fill(outbox, *range(20, 900))
    assert outbox.counts().held > 0
    assert numbers(outbox) == list(range(900))
    outbox.done(*(entry.id for entry in outbox.pending(10)))
    assert numbers(outbox) == list(range(10, 900))
    disk.free()
    outbox.settle()
    assert outbox.counts().held == 0
    assert numbers(outbox) == list(range(10, 900))
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = Outbox(path, OutboxConfig())
    assert numbers(again) == list(range(10, 900))
    again.close()
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


def test_starts_on_a_full_disk(disk: SmallDisk) -> None:
    disk.fill()
    outbox = Outbox(disk.folder / "outbox.sqlite3", OutboxConfig())
    fill(outbox, *range(MAX_HELD_EVENTS + 5))
    assert numbers(outbox) == list(range(5, MAX_HELD_EVENTS + 5))
    assert outbox.counts().dropped == 5
    disk.free()
    fill(outbox, 5000)
    assert outbox.counts().held == 0
    assert outbox.counts().dropped == 5
    assert numbers(outbox)[-1] == 5000
    outbox.close()


def test_an_event_that_is_refused_while_the_disk_is_full_is_kept_as_a_dead_letter(
    disk: SmallDisk,
) -> None:
    path = disk.folder / "outbox.sqlite3"
    disk.fill()
    outbox = Outbox(path, OutboxConfig(max_events=100))
    fill(outbox, *range(14))
    for entry in outbox.pending(12):
        outbox.refuse(entry.id, "Not authorized")
    kept = list(range(2, 12))  # a tenth of the events that may wait

    def letters(outbox: Outbox) -> list[int]:
        return [int(letter.event_id) for letter in outbox.dead_letters()]

    assert (letters(outbox), outbox.counts().refused) == (kept, 12)
    disk.free()
    outbox.settle()
    assert (letters(outbox), outbox.counts().refused) == (kept, 12)
    outbox.close()
    again = Outbox(path, OutboxConfig(max_events=100))
    assert (letters(again), again.counts().refused, numbers(again)) == (kept, 12, [12, 13])
    again.close()


def test_a_store_that_can_be_opened_only_later_keeps_the_events_of_before_and_of_meanwhile(
    disk: SmallDisk,
) -> None:
    path = disk.folder / "outbox.sqlite3"
    before = Outbox(path, OutboxConfig())
    fill(before, *range(3))
    before.close()
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("DROP TABLE memory")  # opening it must write, and there is no room
        store.execute("PRAGMA journal_mode = DELETE")
    (disk.folder / "outbox.sqlite3.ballast").unlink()
    disk.fill()
    outbox = Outbox(path, OutboxConfig())
    fill(outbox, 3)
    assert numbers(outbox) == [3], "the disk must be too full to open the store"
    sent = outbox.pending(1)[0]
    disk.free()
    fill(outbox, 4)
    assert outbox.counts().held == 0
    assert numbers(outbox) == list(range(5))
    outbox.done(sent.id)
    assert numbers(outbox) == [0, 1, 2, 4]
    outbox.close()


def test_what_was_remembered_with_an_event_outlives_the_process(path: Path) -> None:
    outbox = Outbox(path, OutboxConfig())
    assert outbox.recall("zone/door") is None
    for number in range(3):
        outbox.put(message(number), str(number), {"zone/door": b"state %d" % number})
    fill(outbox, 3)
    outbox.done(*(entry.id for entry in outbox.pending(10)))
    outbox.close()
    again = Outbox(path, OutboxConfig())
    assert again.recall("zone/door") == b"state 2"
    assert again.recall("zone/gate") is None
    again.close()


def test_what_is_remembered_on_a_full_disk_is_known_and_written_later(disk: SmallDisk) -> None:
    path = disk.folder / "outbox.sqlite3"
    outbox = Outbox(path, OutboxConfig())
    fill(outbox, *range(20))
    disk.fill()
    fill(outbox, *range(20, 900))
    outbox.put(message(900), "900", {"zone/door": b"open"})
    assert outbox.counts().held > 0
    assert outbox.recall("zone/door") == b"open"
    disk.free()
    outbox.settle()
    outbox.close()
    again = Outbox(path, OutboxConfig())
    assert again.recall("zone/door") == b"open"
    again.close()


def test_writes_nothing_while_nothing_happens(outbox: Outbox, proof: Proof) -> None:
    claim = proof(4, "outbox read, counted and settled", fast=100, full=100, unit="turns")
    fill(outbox, 1)
    before = _bytes_written()
    for _ in range(100):
        outbox.pending(15)
        outbox.counts()
        outbox.settle()
    assert _bytes_written() == before
    claim.found("{written} bytes written (/proc/self/io)", written=_bytes_written() - before)


def test_an_event_costs_at_most_24_kib_of_writing(outbox: Outbox, proof: Proof) -> None:
    claim = proof(4, "events of 450 bytes, stored and removed", fast=100, full=100, unit="events")
    before = _bytes_written()
    for number in range(100):
        outbox.put(message(number, 450), str(number), {"zone/front_door": b"x" * 200})
        outbox.done(outbox.pending(1)[0].id)
    kib = (_bytes_written() - before) / 100 / 1024
    assert kib <= 24
    claim.found("{kib} KiB written an event (/proc/self/io)", kib=kib)


def _bytes_written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["put", "done", "refuse", "reopen"]), max_size=25))
def test_never_loses_nor_invents_an_event(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str]
) -> None:
    path = tmp_path_factory.mktemp("model") / "outbox.sqlite3"
    outbox, waiting, refused, number = Outbox(path, OutboxConfig()), list[int](), 0, 0
    for action in actions:
        if action == "put":
            fill(outbox, number)
            waiting.append(number)
            number += 1
        elif action == "reopen":
            outbox.close()
            outbox = Outbox(path, OutboxConfig())
        elif waiting:
            entry = outbox.pending(1)[0]
            assert int(entry.event_id) == waiting.pop(0)
            if action == "done":
                outbox.done(entry.id)
            else:
                outbox.refuse(entry.id, "no")
                refused += 1
        counts = outbox.counts()
        assert (counts.queued, counts.held, counts.dropped) == (len(waiting), 0, 0)
        assert counts.refused == refused
    assert numbers(outbox) == waiting
    outbox.close()
