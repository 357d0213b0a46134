"""Writing a file so that a power cut leaves the old one or the new one, never a part."""

import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_NEW_MODE = 0o644
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")  # as mkstemp names it


def write_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replace `path` with `data`: write beside it, fsync, rename, fsync the folder.

    The file stays its owner's and its group's where the system permits it, whoever writes.

    Args:
        path: The file.
        data: All of it.
        mode: Its permissions; None = those of the file that is replaced, 0644 for a new one.

    Raises:
        OSError: The file cannot be written, and is the error's `filename`; what was there before is
            untouched.
    """
    try:
        _replace(path, data, mode)
    except OSError as error:
        # A full disk names no file, and a folder that cannot be written one that nobody knows.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _pass_on(path, file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def clear_unfinished(folder: Path, unused_s: float = 3600.0) -> None:
    """Remove what `write_file` began and a power cut left beside its file.

    Args:
        folder: Where files are written; it need not be there.
        unused_s: For how long nobody must have written to it, seconds: others may be at work now.
    """
    now_s = time.time()
    for path in folder.glob(".*.*"):
        with suppress(OSError):
            is_old = now_s - path.stat().st_mtime > unused_s
            if _UNFINISHED.fullmatch(path.name) and path.is_file() and is_old:
                path.unlink()


def _pass_on(path: Path, descriptor: int, mode: int | None) -> None:
    """Give a file the owner, the group and the permissions of the one that it replaces."""
    try:
        before = path.stat()
    except OSError:
        os.fchmod(descriptor, _NEW_MODE if mode is None else mode)
        return
    new = os.fstat(descriptor)
    # Not a PermissionError alone: who has no name in a namespace (the unit's PrivateUsers, a
    # container) is an invalid argument there.
    if new.st_gid != before.st_gid:
        with suppress(OSError):  # only root, or a member of the group
            os.fchown(descriptor, -1, before.st_gid)
    if new.st_uid != before.st_uid:
        with suppress(OSError):  # only root
            os.fchown(descriptor, before.st_uid, -1)
    os.fchmod(descriptor, before.st_mode & 0o777 if mode is None else mode)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
