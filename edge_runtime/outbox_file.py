"""The outbox's file: the events, those that were refused, the counters, and what zones remember.

SQLite with a write-ahead log and synchronous=FULL: what `write` did is on the disk when it returns.
The file is bounded in events and in bytes. What does not fit costs the oldest refused ones first,
then the oldest events.

References:
    https://sqlite.org/pragma.html#pragma_synchronous
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.sqlite_file import error_code, quick_check, touch_private, transact
from transom.atomic import sync_folder
from transom.config import OutboxConfig
from transom.messages import Message

_CHECKPOINT_PAGES = 256
_RESERVED_PAGES = 16
"""Pages that a transaction may need beside the payload's own: tree nodes, counters, free list."""
_DAMAGED = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_SHORT_READ,
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


class OutboxFile:
    """The file, open; no other process may open it meanwhile. Any method may raise `sqlite3.Error`.

    Args:
        path: Where it is, or is made; its folder is there.
        config: The bounds.

    Attributes:
        queued: Events in it.
        last_id: Greatest id of an event when it was opened; 0 = there was none.
        counters: What was ever counted, by name; of a new file nothing.

    Raises:
        sqlite3.Error: It is no such file, damaged, in use, or cannot be written.
        OSError: It cannot be made.
    """

    def __init__(self, path: Path, config: OutboxConfig) -> None:
        self._max_events = config.max_events
        touch_private(path)
        self._store = sqlite3.connect(
            path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(config.max_bytes)
            self.queued, self.last_id = self._store.execute(
                "SELECT count(*), coalesce(max(id), 0) FROM events"
            ).fetchone()
            self.counters = self._read_counters()
            sync_folder(path.parent)
        except BaseException:
            self._store.close()  # or its lock would keep the next attempt out
            raise

    def _prepare(self, max_bytes: int) -> None:
        store = self._store
        # Exclusive: no second daemon on one store, and no shared-memory file beside it.
        store.execute("PRAGMA locking_mode = EXCLUSIVE")
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = FULL")
        store.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        store.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT_PAGES * 4096}")
        quick_check(store)
        store.executescript(_SCHEMA)
        store.execute(f"PRAGMA max_page_count = {max_bytes // self._scalar('PRAGMA page_size')}")
        store.execute("BEGIN IMMEDIATE")
        store.execute("COMMIT")

    def close(self) -> None:
        """Close it, and let others open it."""
        self._store.close()

    def write(self, work: Callable[["OutboxFile"], int]) -> None:
        """Do all of some work or nothing of it; durable when this returns.

        Args:
            work: Given this file, changes it by its methods, and returns by how many the events
                grow.
        """
        self.queued += transact(self._store, lambda _store: work(self))
        self.counters = self._read_counters()

    # ---------------------------------------------------------------- what is there

    def recall(self, key: str) -> bytes | None:
        """Return what was remembered last under a key."""
        row = self._store.execute("SELECT value FROM memory WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def pending(self, limit: int, after: int) -> list[Entry]:
        """Return the oldest events with an id greater than `after`, at most `limit`."""
        rows = self._store.execute(
            f"SELECT {_COLUMNS} FROM events WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
            (after, limit),
        )
        return [_entry(row) for row in rows]

    def dead_letters(self) -> list[DeadLetter]:
        """Return the refused events that are still kept, oldest first."""
        rows = self._store.execute(f"SELECT {_COLUMNS}, reason FROM refused ORDER BY id")  # noqa: S608
        return [DeadLetter(_entry(row).message, row[1], row[6]) for row in rows]

    # ---------------------------------------------------------------- what changes it, in `write`

    def insert(self, *entries: Entry) -> int:
        """Add events; return by how many there are more, those left out that had to go for them."""
        grown = 0
        for entry in entries:
            dropped = self._make_room(self.queued + grown, len(entry.message.payload))
            self._store.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", _row(entry))
            self.count("dropped", dropped)
            grown += 1 - dropped
        return grown

    def delete(self, ids: Iterable[int]) -> int:
        """Remove events; return by how many there are more: 0 or less."""
        rows = [(id_,) for id_ in ids]
        return -self._store.executemany("DELETE FROM events WHERE id = ?", rows).rowcount

    def bury(self, id_: int, held: Entry | None, reason: str) -> int:
        """Set an event aside as refused; return by how many there are more.

        Args:
            id_: The event's.
            held: The event, where it is not in the file yet.
            reason: The broker's words.
        """
        grown = self.insert(held) if held is not None else 0
        self._store.execute(
            "INSERT INTO refused SELECT (SELECT coalesce(max(id), 0) + 1 FROM refused),"
            " event_id, topic, payload, qos, retain, ? FROM events WHERE id = ?",
            (reason, id_),
        )
        surplus = self._scalar("SELECT count(*) FROM refused") - self._max_events // 10
        self._drop_oldest("refused", max(surplus, 0))
        self.count("refused", 1)
        return grown + self.delete([id_])

    def count(self, name: str, more: int) -> None:
        """Add to a counter."""
        if more:
            self._store.execute(
                "INSERT INTO counters VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, more),
            )

    def remember(self, memory: Mapping[str, bytes]) -> None:
        """Keep values for `recall`, each in place of the one before of its key."""
        self._store.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?)", list(memory.items()))

    def _make_room(self, stored: int, payload_bytes: int) -> int:
        """Delete the oldest until one more fits; return how many events that cost."""
        dropped = 0
        surplus = stored + 1 - self._max_events
        if surplus > 0:
            dropped += self._drop_oldest("events", surplus)
        needed = payload_bytes // 4096 + 1 + _RESERVED_PAGES
        while self._free_pages() < needed:
            if self._drop_oldest("refused", 64):
                continue
            fewer = self._drop_oldest("events", 16)
            if not fewer:
                break
            dropped += fewer
        return dropped

    def _drop_oldest(self, table: str, count: int) -> int:
        return self._store.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608
            (count,),
        ).rowcount

    def _read_counters(self) -> dict[str, int]:
        return dict(self._store.execute("SELECT name, value FROM counters"))

    def _free_pages(self) -> int:
        used = self._scalar("PRAGMA page_count") - self._scalar("PRAGMA freelist_count")
        return self._scalar("PRAGMA max_page_count") - used

    def _scalar(self, query: str) -> int:
        return int(self._store.execute(query).fetchone()[0])


def is_damage(error: sqlite3.Error | OSError) -> bool:
    """Return whether what an `OutboxFile` raised says that the file is damaged, or is no such."""
    code = error_code(error)
    return code in _DAMAGED or code & 0xFF == sqlite3.SQLITE_CORRUPT


def _row(entry: Entry) -> tuple[int, str, str, bytes, int, bool]:
    message = entry.message
    return (entry.id, entry.event_id, message.topic, message.payload, message.qos, message.retain)


def _entry(row: Any) -> Entry:
    message = Message(row[2], bytes(row[3]), qos=1 if row[4] else 0, retain=bool(row[5]))
    return Entry(row[0], message, row[1])
