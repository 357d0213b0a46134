"""The unit's drop-in that loads the passwords of cameras; the unit itself loads the broker's."""

import os
from collections.abc import Iterable
from pathlib import Path

from edge_runtime.config_option import DEFAULT_CONFIG
from transom.errors import ConfigurationError

_UNITS = Path("etc/systemd/system")
_DROP_IN = Path("transom.service.d/credentials.conf")
_KEY = "LoadCredential="
_HEAD = "# Passwords that the service gets from files that only root can read; by transom setup.\n"


def drop_in_beside(config_file: Path) -> Path | None:
    """Return the drop-in of the unit that reads a configuration; None where no unit does.

    Args:
        config_file: `/etc/transom/transom.toml`, also below another root that has the folder of
            systemd's units.
    """
    path, tail = config_file.absolute(), DEFAULT_CONFIG.parts[1:]
    if path.parts[-len(tail) :] != tail:
        return None
    units = Path(*path.parts[: -len(tail)]) / _UNITS
    return units / _DROP_IN if units.is_dir() else None


def check_drop_in(config_file: Path) -> None:
    """Refuse to write a drop-in where no unit reads the configuration, or where it cannot be.

    Raises:
        ConfigurationError: It is so.
    """
    drop_in = drop_in_beside(config_file)
    if drop_in is None:
        raise ConfigurationError(
            f"{config_file}: no unit of systemd reads it, so --unit has nothing to do; Transom's "
            f"reads {DEFAULT_CONFIG}"
        )
    if not is_writable(drop_in):
        raise ConfigurationError(f"{drop_in}: cannot be written by this user; run it with sudo")


def is_writable(drop_in: Path) -> bool:
    """Return whether this user may write the drop-in, and make its folder."""
    there = next(path for path in (drop_in, *drop_in.parents) if path.exists())
    return os.access(there, os.W_OK)


def credential_line(name: str, folder: Path = DEFAULT_CONFIG.parent) -> str:
    """Return the line by which a unit loads a password that lies in a folder.

    Examples:
        >>> credential_line("hall-password")
        'LoadCredential=hall-password:/etc/transom/hall-password'
    """
    return f"{_KEY}{name}:{folder / name}"


def with_credentials(drop_in: Path, names: Iterable[str]) -> str:
    """Return a drop-in that loads these, too; what else stands in it stays.

    Raises:
        OSError: The one that is there cannot be read.
    """
    text = drop_in.read_text("utf-8") if drop_in.exists() else f"{_HEAD}[Service]\n"
    wanted = list(names)
    lines = [
        line
        for line in text.splitlines()
        if not any(line.strip().startswith(f"{_KEY}{name}:") for name in wanted)
    ]
    sections = [line.strip() for line in lines if line.strip().startswith("[")]
    head = [] if sections[-1:] == ["[Service]"] else ["[Service]"]
    return "\n".join((*lines, *head, *map(credential_line, wanted))) + "\n"
