"""An SQLite file on a card that may be full, read-only, worn out, or changed by somebody else."""

import errno
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PARTS = ("", "-wal", "-shm")
_BALLAST_BYTES = 262_144
_UNREAD_PAGE = re.compile(r"unable to get the page\. error code=(\d+)")


def transact(store: sqlite3.Connection, work: Callable[[sqlite3.Connection], int]) -> int:
    """Do some work in one transaction, all of it or nothing; return what it returns."""
    store.execute("BEGIN IMMEDIATE")
    try:
        outcome = work(store)
        store.execute("COMMIT")
    except BaseException:
        if store.in_transaction:
            store.execute("ROLLBACK")
        raise
    return outcome


def error_code(error: sqlite3.Error | OSError) -> int:
    """Return SQLite's extended code; 0 where it has none. Its last byte is the primary one."""
    return int(getattr(error, "sqlite_errorcode", 0))


def is_full(error: sqlite3.Error | OSError) -> bool:
    """Return whether the disk has no room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return error_code(error) & 0xFF == sqlite3.SQLITE_FULL


def is_in_use(error: sqlite3.Error | OSError) -> bool:
    """Return whether another process holds the file."""
    return error_code(error) & 0xFF == sqlite3.SQLITE_BUSY


def is_unread(error: sqlite3.Error | OSError) -> bool:
    """Return whether the disk did not give what is there, which it may do the next time."""
    return error_code(error) in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)


def quick_check(store: sqlite3.Connection, table: str | None = None) -> None:
    """Look whether a file is whole.

    Args:
        store: The file.
        table: Look at this one only.

    Raises:
        sqlite3.DatabaseError: It is damaged, or the disk does not give all of it: see `is_unread`.
    """
    of = "1" if table is None else table
    verdict = str(store.execute(f"PRAGMA quick_check({of})").fetchone()[0])
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        unread = _UNREAD_PAGE.search(verdict)
        error.sqlite_errorcode = int(unread[1]) if unread else sqlite3.SQLITE_CORRUPT
        raise error


def touch_private(path: Path) -> None:
    """Make a file that nobody else may read, for SQLite gives its log the file's mode.

    Raises:
        OSError: It cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def set_aside(path: Path) -> Path:
    """Move a damaged file and what belongs to it out of the way; return where it is kept.

    Raises:
        OSError: It cannot be moved.
    """
    aside = path.with_name(path.name + ".damaged")
    for suffix in _PARTS:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return aside


class Ballast:
    """Room on the disk beside a file, given back where others have filled it: deleting needs some.

    Args:
        path: The file that it is for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".ballast")

    def lay(self) -> bool:
        """Take the room; return whether there is as much."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _BALLAST_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> bool:
        """Give the room back; return whether it was taken."""
        with suppress(OSError):
            self._path.unlink()
            return True
        return False
