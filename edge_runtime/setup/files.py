"""Writing a configuration and its passwords: all of it or nothing, and nothing old is lost."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from transom.atomic import write_file
from transom.errors import ConfigurationError
from transom.secret import read_secret

_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_SECRET_MODE = 0o600


def check_folder(path: Path) -> None:
    """Refuse a place where nothing can be written, before anything is asked.

    Raises:
        ConfigurationError: It is one.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigurationError(
            f"{folder}: there is no such folder; make it, or name another file"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{path}: cannot be written by this user; run it with sudo, or with --config FILE"
        )


def read_text(path: Path) -> str:
    """Return a configuration's text with the line ends that it has."""
    return path.read_bytes().decode("utf-8-sig")


def changed_secrets(folder: Path, secrets: Mapping[str, str]) -> list[Path]:
    """Return the files that hold another password than the one that is to be written."""
    return [
        folder / name
        for name, secret in secrets.items()
        if (folder / name).exists() and _read(folder / name) != secret
    ]


def write_all(
    path: Path, text: str, secrets: Mapping[str, str], more: Mapping[Path, str] | None = None
) -> None:
    """Write passwords, then the configuration that names them; signals wait until that is done.

    Args:
        path: The configuration file.
        text: All of it.
        secrets: Passwords by file name, beside the configuration; readable by their owner alone.
        more: Texts of further files, written before the configuration; their folders are made.

    Raises:
        OSError: A file cannot be written; the configuration is then as it was.
    """
    with _without_interruption():
        for name, secret in secrets.items():
            write_file(path.parent / name, secret.encode() + b"\n", _SECRET_MODE)
        for place, content in (more or {}).items():
            place.parent.mkdir(exist_ok=True)
            write_file(place, content.encode())
        write_file(path.resolve(), text.encode())


def _read(path: Path) -> str | None:
    with contextlib.suppress(ConfigurationError):
        return read_secret(str(path.absolute()), path)
    return None


@contextlib.contextmanager
def _without_interruption() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
