"""Entries of a cache folder: made once, found by the digest of what went in, removed when old.

An entry is a folder, filled under another name and renamed, so that one that is there is whole.
"""

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

Index = TypeVar("Index", bound=msgspec.Struct)
Values = TypeVar("Values", npt.NDArray[np.uint8], npt.NDArray[np.float32])
Rows = npt.NDArray[np.int64]

INDEX = "index.json"
"""The file that makes a folder an entry."""

_ABANDONED_S = 24 * 3600


def default_cache() -> Path:
    """Return `$TRANSOM_CACHE`, or `~/.cache/transom`."""
    return Path(os.environ.get("TRANSOM_CACHE") or Path.home() / ".cache" / "transom")


def fill_entry(folder: Path, fill: Callable[[Path], Index]) -> Index:
    """Make an entry and return its index; one that another process has finished meanwhile will do.

    Args:
        folder: Of the entry; its parents are made where missing.
        fill: Writes the entry's files into the folder that it is given, and returns its index.

    Raises:
        OSError: The cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
    try:
        index = fill(temporary)
        (temporary / INDEX).write_bytes(msgspec.json.encode(index))
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return index


def take(mapped: Values, which: Rows | slice) -> Values:
    """Copy some rows of an array that may be memory-mapped, and let go of the pages read.

    They stay in the kernel's cache as long as there is room, but no longer count as this process's
    memory: however large the file, what is read of it does not add up.

    Args:
        mapped: (N, …).
        which: Of the N.
    """
    taken = np.array(mapped[which])
    origin: object = mapped
    while isinstance(origin, np.ndarray):
        origin = origin.base
    if isinstance(origin, mmap.mmap):
        origin.madvise(mmap.MADV_DONTNEED)
    return taken


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes that are there: on a full disk a mapped write ends the process.

    Raises:
        OSError: There is no room.
    """
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


def mark_used(entry: Path) -> None:
    """Let an entry stay longer than those that nobody has used since (see `prune_cache`).

    Only where it may be marked: a cache that somebody else fills is read all the same.
    """
    with suppress(OSError):
        os.utime(entry)


def prune_cache(folder: Path, keep: Path, limit: int) -> None:
    """Remove the entries of a folder that were not used for longest, down to a number of bytes.

    What a program that was killed has left half filled goes too, after a day.

    Args:
        folder: Holds the entries.
        keep: An entry that stays.
        limit: Bytes that may stay.
    """
    used = 0
    for changed, entry in sorted(_by_change(folder), reverse=True):
        if entry.name.startswith("."):
            if time.time() - changed > _ABANDONED_S:
                shutil.rmtree(entry, ignore_errors=True)
            continue
        used += _size(entry)
        if used > limit and entry != keep:
            shutil.rmtree(entry, ignore_errors=True)


def _by_change(folder: Path) -> list[tuple[float, Path]]:
    found = []
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):  # another process prunes too
            found.append((entry.stat().st_mtime, entry))
    return found


def _size(entry: Path) -> int:
    try:
        return sum(file.stat().st_size for file in entry.iterdir())
    except FileNotFoundError:
        return 0


def _publish(temporary: Path, folder: Path) -> None:
    """Give the whole entry its name."""
    names = sorted((file.name for file in temporary.iterdir()), key=lambda name: name == INDEX)
    for name in names:
        with (temporary / name).open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists() and not (folder / INDEX).exists():
        shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / INDEX).exists():
            raise
        # Same key, same content: replace file by file what was damaged.
        for name in names:
            (temporary / name).replace(folder / name)
