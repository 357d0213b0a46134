"""The store of events that the broker has not yet acknowledged.

One SQLite file, write-ahead log, synchronous=FULL: what `put` accepted is on the disk when it
returns, and is removed only when the broker has acknowledged it. A kill at any moment loses
nothing and may deliver again what was in flight; the event's id tells a copy from a new event.

Beside an event, in the same transaction, a few bytes can be kept that outlive the process: what a
zone must still know after a restart.

The store is bounded in events and in bytes. Beyond either the oldest is dropped and counted. On a
disk that others have filled, deleting needs room too, so a ballast file gives some back; where
even that is not enough, or the disk has become read-only or fails, events wait in memory, and say
so, until it takes them again.

References:
    https://sqlite.org/pragma.html#pragma_synchronous
"""

import errno
import itertools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.sqlite_file import (
    Ballast,
    error_code,
    is_full,
    set_aside,
    touch_private,
    transact,
)
from transom.atomic import sync_folder
from transom.config import OutboxConfig
from transom.errors import OutboxError
from transom.messages import Message

_log = logging.getLogger(__name__)

FILE_NAME = "outbox.sqlite3"
MAX_HELD_EVENTS = 1000
"""Events kept in memory while the disk takes none."""

_BATCH = 100
_IDS_PER_S_BITS = 20
_CHECKPOINT_PAGES = 256
_RESERVED_PAGES = 16
"""Pages that a transaction may need beside the payload's own: tree nodes, counters, free list."""
_DAMAGED = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    qos INTEGER NOT NULL, retain INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refused (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    qos INTEGER NOT NULL, retain INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memory (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "id, event_id, topic, payload, qos, retain"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that waits.

    Attributes:
        id: Order of arrival; grows as long as the store is open.
        message: What to publish.
        event_id: The event's own id, the same in every copy.
    """

    id: int
    message: Message
    event_id: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the broker refused, and its words."""

    message: Message
    event_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """What the store holds and what it lost.

    Attributes:
        queued: Events that wait, on the disk and in memory.
        held: Those of them that are in memory only, because the disk takes none.
        dropped: Events ever dropped because the store was full.
        refused: Events ever refused by the broker.
    """

    queued: int
    held: int
    dropped: int
    refused: int


class Outbox:
    """Events on their way to the broker. Safe to use from several threads.

    Args:
        path: The store's file; its folder is made if it is missing.
        config: The bounds.

    Raises:
        OutboxError: The folder cannot be written, or another process has the store open. A damaged
            file is no error: it is kept as `<name>.damaged` and a new one is made.
    """

    def __init__(self, path: Path, config: OutboxConfig) -> None:
        self._path = path
        self._config = config
        self._ballast = Ballast(path)
        self._lock = threading.RLock()
        self._held: dict[int, Entry] = {}
        self._finished: dict[int, str | None] = {}  # why refused, None = delivered; still stored
        self._refused: dict[int, tuple[Entry, str]] = {}  # and why; in memory only
        self._queued = 0
        self._counters = {"dropped": 0, "refused": 0}
        self._unsaved = {"dropped": 0, "refused": 0}
        self._unsaved_memory: dict[str, bytes] = {}
        self._ids = itertools.count(1)
        self._in_trouble = False
        self._store: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{path.parent}: cannot be made: {error.strerror}") from error
        self._open_or_wait()
        if self._store is None:
            # The ids in the file cannot be seen. These come after them, as no store counts so far.
            self._ids = itertools.count(int(time.time()) << _IDS_PER_S_BITS)
        self._ballast.lay()

    def put(
        self, message: Message, event_id: str, memory: Mapping[str, bytes] | None = None
    ) -> None:
        """Accept an event; it is on the disk when this returns.

        On a disk that takes nothing it waits in memory instead, counted as `held`.

        Args:
            message: The event.
            event_id: The same in every copy of it.
            memory: Values to keep for `recall`, written with the event or not at all.

        Raises:
            ValueError: The message is larger than a quarter of the store.
        """
        if len(message.payload) > self._config.max_bytes // 4:
            raise ValueError(
                f"{message.topic}: payload must be at most {self._config.max_bytes // 4:,} bytes, "
                f"got {len(message.payload):,}"
            )
        with self._lock:
            self.settle()
            self._unsaved_memory |= memory or {}
            entry = Entry(next(self._ids), message, event_id)
            if not self._attempt(lambda store: self._insert(store, entry)):
                self._hold(entry)

    def recall(self, key: str) -> bytes | None:
        """Return what was kept last under a key, by this process or one before it."""
        with self._lock:
            if key in self._unsaved_memory or self._store is None:
                return self._unsaved_memory.get(key)
            try:
                row = self._store.execute(
                    "SELECT value FROM memory WHERE key = ?", (key,)
                ).fetchone()
            except sqlite3.Error as error:
                self._meet(error)
                return None
            return None if row is None else bytes(row[0])

    def pending(self, limit: int, after: int = 0) -> list[Entry]:
        """Return the oldest events with an id greater than `after`, at most `limit`."""
        with self._lock:
            found = [entry for entry in self._held.values() if entry.id > after]
            try:
                found += self._read_pending(limit, after)
            except sqlite3.Error as error:
                self._meet(error)
            return sorted(found, key=lambda entry: entry.id)[:limit]

    def done(self, *ids: int) -> None:
        """Remove events that the broker has acknowledged; several cost one write."""
        with self._lock:
            stored = [id_ for id_ in ids if self._held.pop(id_, None) is None]
            if stored and not self._attempt(lambda store: _delete(store, stored)):
                self._finished |= dict.fromkeys(stored)

    def refuse(self, id_: int, reason: str) -> None:
        """Set an event aside that the broker refused; it is not sent again."""
        with self._lock:
            held = self._held.pop(id_, None)
            if self._attempt(lambda store: self._bury(store, id_, held, reason)):
                return
            if held is None:
                self._finished[id_] = reason
                return
            self._refused[id_] = held, reason
            if len(self._refused) > self._config.max_events // 10:
                del self._refused[next(iter(self._refused))]
                self._unsaved["refused"] += 1

    def dead_letters(self) -> list[DeadLetter]:
        """Return the refused events that are still kept, oldest first."""
        with self._lock:
            kept = []
            if self._store is not None:
                rows = self._store.execute(f"SELECT {_COLUMNS}, reason FROM refused ORDER BY id")  # noqa: S608
                kept = [DeadLetter(_entry(row).message, row[1], row[6]) for row in rows]
            held = self._refused.values()
            return kept + [DeadLetter(entry.message, entry.event_id, why) for entry, why in held]

    def counts(self) -> OutboxCounts:
        """Return what waits and what was lost."""
        with self._lock:
            queued = self._queued - len(self._finished) + len(self._held)
            lost = {name: self._counters[name] + self._unsaved[name] for name in self._counters}
            lost["refused"] += sum(reason is not None for reason in self._finished.values())
            lost["refused"] += len(self._refused)
            return OutboxCounts(queued, len(self._held), **lost)

    def settle(self) -> None:
        """Bring to the disk what could not be written before; costs nothing otherwise."""
        with self._lock:
            if (self._finished or self._refused) and self._attempt(self._finish):
                self._finished.clear()
                self._refused.clear()
            while self._held:
                batch = list(itertools.islice(self._held.values(), _BATCH))
                if not self._attempt(lambda store, batch=batch: self._insert(store, *batch)):  # type: ignore[misc]
                    return
                for entry in batch:
                    del self._held[entry.id]

    def close(self) -> None:
        """Close the file; what is in memory only is lost, and counted as dropped."""
        with self._lock:
            self.settle()
            if self._held:
                _log.warning("events lost in memory count=%d", len(self._held))
            self._forget_store()

    # ---------------------------------------------------------------- transactions

    def _attempt(self, work: Callable[[sqlite3.Connection], int]) -> bool:
        """Run `work` in one transaction; give back the ballast and try again on a full disk.

        `work` returns by how many the stored events grow.
        """
        for _ in range(2):
            try:
                store = self._store or self._open()
                self._queued += transact(store, lambda store: work(store) + self._save(store))
                self._counters |= dict(store.execute("SELECT name, value FROM counters"))
            except (sqlite3.Error, OSError) as error:
                if not self._meet(error):
                    return False
                continue
            self._unsaved = dict.fromkeys(self._unsaved, 0)
            self._unsaved_memory.clear()
            self._leave_trouble()
            return True
        return False

    def _save(self, store: sqlite3.Connection) -> int:
        for name, more in self._unsaved.items():
            _count(store, name, more)
        store.executemany(
            "INSERT OR REPLACE INTO memory VALUES (?, ?)", list(self._unsaved_memory.items())
        )
        return 0

    def _insert(self, store: sqlite3.Connection, *entries: Entry) -> int:
        grown = 0
        for entry in entries:
            dropped = self._make_room(store, self._queued + grown, len(entry.message.payload))
            store.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", _row(entry))
            _count(store, "dropped", dropped)
            grown += 1 - dropped
        return grown

    def _make_room(self, store: sqlite3.Connection, stored: int, payload_bytes: int) -> int:
        """Delete the oldest until one more fits; return how many events that cost."""
        dropped = 0
        surplus = stored + 1 - self._config.max_events
        if surplus > 0:
            dropped += _drop_oldest(store, "events", surplus)
        needed = payload_bytes // 4096 + 1 + _RESERVED_PAGES
        while _free_pages(store) < needed:
            if _drop_oldest(store, "refused", 64):
                continue
            fewer = _drop_oldest(store, "events", 16)
            if not fewer:
                break
            dropped += fewer
        return dropped

    def _bury(self, store: sqlite3.Connection, id_: int, held: Entry | None, reason: str) -> int:
        grown = self._insert(store, held) if held is not None else 0
        store.execute(
            "INSERT INTO refused SELECT (SELECT coalesce(max(id), 0) + 1 FROM refused),"
            " event_id, topic, payload, qos, retain, ? FROM events WHERE id = ?",
            (reason, id_),
        )
        surplus = _scalar(store, "SELECT count(*) FROM refused") - self._config.max_events // 10
        _drop_oldest(store, "refused", max(surplus, 0))
        _count(store, "refused", 1)
        return grown + _delete(store, [id_])

    def _finish(self, store: sqlite3.Connection) -> int:
        grown = _delete(store, [id_ for id_, reason in self._finished.items() if reason is None])
        for id_, reason in self._finished.items():
            grown += self._bury(store, id_, None, reason) if reason is not None else 0
        for id_, (entry, reason) in self._refused.items():
            grown += self._bury(store, id_, entry, reason)
        return grown

    def _read_pending(self, limit: int, after: int) -> list[Entry]:
        if self._store is None:
            return []
        rows = self._store.execute(
            f"SELECT {_COLUMNS} FROM events WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
            (after, limit + len(self._finished)),
        )
        return [entry for entry in map(_entry, rows) if entry.id not in self._finished]

    def _hold(self, entry: Entry) -> None:
        self._held[entry.id] = entry
        while len(self._held) > min(MAX_HELD_EVENTS, self._config.max_events):
            del self._held[next(iter(self._held))]
            self._unsaved["dropped"] += 1

    # ---------------------------------------------------------------- the file

    def _open_or_wait(self) -> None:
        """Open the store; on a disk that is full, read-only or failing go on without, in memory."""
        for _ in range(2):
            try:
                self._open()
            except (sqlite3.Error, OSError) as error:
                if self._meet(error):
                    continue
                if self._is_of_the_disk(error):
                    return
                raise OutboxError(self._why_unusable(error)) from error
            else:
                return

    def _is_of_the_disk(self, error: sqlite3.Error | OSError) -> bool:
        """Return whether the disk is at fault, which may pass, and not how the store is set up."""
        if isinstance(error, OSError):
            return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
        code = error_code(error) & 0xFF
        if code == sqlite3.SQLITE_CANTOPEN:  # its log beside it
            return os.access(self._path.parent, os.W_OK)
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)

    def _why_unusable(self, error: sqlite3.Error | OSError) -> str:
        if error_code(error) & 0xFF == sqlite3.SQLITE_BUSY:
            return f"{self._path}: another process has it open; stop the other transom run first"
        return f"{self._path}: cannot be opened: {error}; its folder must be writable"

    def _open(self) -> sqlite3.Connection:
        touch_private(self._path)
        store = sqlite3.connect(
            self._path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(store)
            self._queued, last = store.execute(
                "SELECT count(*), coalesce(max(id), 0) FROM events"
            ).fetchone()
            self._counters |= dict(store.execute("SELECT name, value FROM counters"))
            sync_folder(self._path.parent)
        except BaseException:
            store.close()  # or its lock would keep the next attempt out
            raise
        self._store = store
        self._ids = itertools.count(max(last + 1, next(self._ids)))
        return store

    def _prepare(self, store: sqlite3.Connection) -> None:
        # Exclusive: no second daemon on one store, and no shared-memory file beside it.
        store.execute("PRAGMA locking_mode = EXCLUSIVE")
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = FULL")
        store.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        store.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT_PAGES * 4096}")
        verdict = store.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _damage(verdict)
        store.executescript(_SCHEMA)
        pages = self._config.max_bytes // _scalar(store, "PRAGMA page_size")
        store.execute(f"PRAGMA max_page_count = {pages}")
        store.execute("BEGIN IMMEDIATE")
        store.execute("COMMIT")

    def _meet(self, error: sqlite3.Error | OSError) -> bool:
        """Do what can be done about a failure; return whether trying again makes sense."""
        code = error_code(error)
        if code in _DAMAGED or code & 0xFF == sqlite3.SQLITE_CORRUPT:
            return self._set_aside(error)
        if not self._in_trouble:
            _log.warning("outbox cannot be written path=%s error=%s", self._path, error)
        self._in_trouble = True
        # The file stays open: this connection undoes what failed, a new one would find it in the
        # log and take it for done.
        return is_full(error) and self._ballast.drop()

    def _set_aside(self, error: sqlite3.Error | OSError) -> bool:
        self._forget_store()
        try:
            aside = set_aside(self._path)
        except OSError as obstacle:
            _log.warning("outbox is damaged and cannot be moved error=%s", obstacle)
            return False
        self._queued = 0
        self._finished.clear()
        _log.warning("outbox was damaged and is new kept=%s error=%s", aside, error)
        return True

    def _forget_store(self) -> None:
        """Close the file; the next attempt opens it anew."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _leave_trouble(self) -> None:
        # What the ballast gave back is no sign of room: only where it fits again, all is well.
        if self._in_trouble and self._ballast.lay():
            self._in_trouble = False
            _log.info("outbox can be written again path=%s", self._path)


def _row(entry: Entry) -> tuple[int, str, str, bytes, int, bool]:
    message = entry.message
    return (entry.id, entry.event_id, message.topic, message.payload, message.qos, message.retain)


def _entry(row: Any) -> Entry:
    message = Message(row[2], bytes(row[3]), qos=1 if row[4] else 0, retain=bool(row[5]))
    return Entry(row[0], message, row[1])


def _scalar(store: sqlite3.Connection, query: str) -> int:
    return int(store.execute(query).fetchone()[0])


def _free_pages(store: sqlite3.Connection) -> int:
    used = _scalar(store, "PRAGMA page_count") - _scalar(store, "PRAGMA freelist_count")
    return _scalar(store, "PRAGMA max_page_count") - used


def _drop_oldest(store: sqlite3.Connection, table: str, count: int) -> int:
    return store.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608
        (count,),
    ).rowcount


def _count(store: sqlite3.Connection, name: str, more: int) -> None:
    if more:
        store.execute(
            "INSERT INTO counters VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, more),
        )


def _delete(store: sqlite3.Connection, ids: Iterable[int]) -> int:
    return -store.executemany("DELETE FROM events WHERE id = ?", [(id_,) for id_ in ids]).rowcount


def _damage(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
