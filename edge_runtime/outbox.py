"""The store of events that the broker has not yet acknowledged.

What `put` accepted is on the disk when it returns, and is removed only when the broker has
acknowledged it. A kill at any moment loses nothing and may deliver again what was in flight; the
event's id tells a copy from a new event.

Beside an event, in the same transaction, a few bytes can be kept that outlive the process: what a
zone must still know after a restart.

The store is bounded in events and in bytes. Beyond either the oldest is dropped and counted. On a
disk that others have filled, deleting needs room too, so a ballast file gives some back; where
even that is not enough, or the disk has become read-only or fails, events wait in memory, and say
so, until it takes them again.
"""

import errno
import itertools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.outbox_file import DeadLetter, Entry, OutboxFile, is_damage
from edge_runtime.sqlite_file import Ballast, error_code, is_full, is_in_use, is_unread, set_aside
from transom.config import OutboxConfig
from transom.errors import OutboxError
from transom.messages import Message

_log = logging.getLogger(__name__)

FILE_NAME = "outbox.sqlite3"
MAX_HELD_EVENTS = 1000
"""Events kept in memory while the disk takes none."""

_BATCH = 100
_OPEN_AGAIN_S = 2.0
_UNREAD_S, _UNREAD_TIMES = 60.0, 3
"""A disk that fails to give the file for so long, so often in a row, has lost it. One failure says
nothing: a card that was reset while it was asked gives all of it the next time."""
_IDS_PER_S_BITS = 20


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
        self._queued = 0  # in the file
        self._counters = {"dropped": 0, "refused": 0}
        self._unsaved = {"dropped": 0, "refused": 0}
        self._unsaved_memory: dict[str, bytes] = {}
        self._ids = itertools.count(1)
        self._in_trouble = False
        self._unread: dict[str, tuple[float, int]] = {}  # since when, how often; by what was done
        self._file: OutboxFile | None = None
        self._open_at_s = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{path.parent}: cannot be made: {error.strerror}") from error
        self._open_or_wait()
        if self._file is None:
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
            if not self._attempt(lambda file: file.insert(entry)):
                self._hold(entry)

    def recall(self, key: str) -> bytes | None:
        """Return what was kept last under a key, by this process or one before it."""
        with self._lock:
            if key in self._unsaved_memory or self._file is None:
                return self._unsaved_memory.get(key)
            try:
                return self._file.recall(key)
            except sqlite3.Error as error:
                self._meet(error, "recall")
                return None

    def pending(self, limit: int, after: int = 0) -> list[Entry]:
        """Return the oldest events with an id greater than `after`, at most `limit`."""
        with self._lock:
            found = [entry for entry in self._held.values() if entry.id > after]
            try:
                found += self._read_pending(limit, after)
            except sqlite3.Error as error:
                self._meet(error, "pending")
            else:
                self._unread.pop("pending", None)
            return sorted(found, key=lambda entry: entry.id)[:limit]

    def done(self, *ids: int) -> None:
        """Remove events that the broker has acknowledged; several cost one write."""
        with self._lock:
            stored = [id_ for id_ in ids if self._held.pop(id_, None) is None]
            if stored and not self._attempt(lambda file: file.delete(stored)):
                self._finished |= dict.fromkeys(stored)

    def refuse(self, id_: int, reason: str) -> None:
        """Set an event aside that the broker refused; it is not sent again."""
        with self._lock:
            held = self._held.pop(id_, None)
            if self._attempt(lambda file: file.bury(id_, held, reason)):
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
            kept = self._file.dead_letters() if self._file is not None else []
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
                if not self._attempt(lambda file, batch=batch: file.insert(*batch)):  # type: ignore[misc]
                    return
                for entry in batch:
                    del self._held[entry.id]
            if self._file is None and time.monotonic() >= self._open_at_s:
                self._attempt(lambda _file: 0)  # events of before may be in it

    def close(self) -> None:
        """Close the file; what is in memory only is lost, and counted as dropped."""
        with self._lock:
            self.settle()
            if self._held:
                _log.warning("events lost in memory count=%d", len(self._held))
            self._forget_file()

    # ---------------------------------------------------------------- transactions

    def _attempt(self, work: Callable[[OutboxFile], int]) -> bool:
        """Run `work` in one transaction; give back the ballast and try again on a full disk.

        `work` returns by how many the stored events grow.
        """
        for _ in range(2):
            try:
                file = self._file or self._open()
                file.write(lambda file: work(file) + self._save(file))
                self._take_in(file)
            except (sqlite3.Error, OSError) as error:
                if not self._meet(error):
                    return False
                continue
            self._unread.pop("write", None)
            self._unsaved = dict.fromkeys(self._unsaved, 0)
            self._unsaved_memory.clear()
            self._leave_trouble()
            return True
        return False

    def _save(self, file: OutboxFile) -> int:
        for name, more in self._unsaved.items():
            file.count(name, more)
        file.remember(self._unsaved_memory)
        return 0

    def _finish(self, file: OutboxFile) -> int:
        grown = file.delete(id_ for id_, reason in self._finished.items() if reason is None)
        for id_, reason in self._finished.items():
            grown += file.bury(id_, None, reason) if reason is not None else 0
        for id_, (entry, reason) in self._refused.items():
            grown += file.bury(id_, entry, reason)
        return grown

    def _read_pending(self, limit: int, after: int) -> list[Entry]:
        if self._file is None:
            return []
        entries = self._file.pending(limit + len(self._finished), after)
        return [entry for entry in entries if entry.id not in self._finished]

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
                raise OutboxError(why_unusable(self._path, error)) from error
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

    def _open(self) -> OutboxFile:
        self._open_at_s = time.monotonic() + _OPEN_AGAIN_S
        file = self._file = OutboxFile(self._path, self._config)
        self._take_in(file)
        self._ids = itertools.count(max(file.last_id + 1, next(self._ids)))
        return file

    def _take_in(self, file: OutboxFile) -> None:
        self._queued = file.queued
        self._counters |= file.counters

    def _meet(self, error: sqlite3.Error | OSError, doing: str = "write") -> bool:
        """Do what can be done about a failure; return whether trying again makes sense."""
        if is_damage(error) or self._stays_unread(error, doing):
            return self._set_aside(error)
        if not self._in_trouble:
            _log.warning("outbox cannot be written path=%s error=%s", self._path, error)
        self._in_trouble = True
        # The file stays open: this connection undoes what failed, a new one would find it in the
        # log and take it for done.
        return is_full(error) and self._ballast.drop()

    def _stays_unread(self, error: sqlite3.Error | OSError, doing: str) -> bool:
        if not is_unread(error):
            return False
        since_s, times = self._unread.get(doing, (time.monotonic(), 0))
        self._unread[doing] = since_s, times + 1
        return times + 1 >= _UNREAD_TIMES and time.monotonic() - since_s >= _UNREAD_S

    def _set_aside(self, error: sqlite3.Error | OSError) -> bool:
        self._forget_file()
        try:
            aside = set_aside(self._path)
        except OSError as obstacle:
            _log.warning("outbox is damaged and cannot be moved error=%s", obstacle)
            return False
        self._queued = 0
        self._finished.clear()
        self._unread.clear()
        _log.warning("outbox was damaged and is new kept=%s error=%s", aside, error)
        return True

    def _forget_file(self) -> None:
        """Close the file; the next attempt opens it anew."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _leave_trouble(self) -> None:
        # What the ballast gave back is no sign of room: only where it fits again, all is well.
        if self._in_trouble and self._ballast.lay():
            self._in_trouble = False
            _log.info("outbox can be written again path=%s", self._path)


def why_unusable(path: Path, error: sqlite3.Error | OSError) -> str:
    """Say of a store's file why it cannot be opened."""
    if is_in_use(error):
        return f"{path}: another process has it open; stop the other transom run first"
    return f"{path}: cannot be opened: {error}; its folder must be writable"
