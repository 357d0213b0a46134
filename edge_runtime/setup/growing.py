"""More cameras for a configuration that is there: its text stays as it is, comments too."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import tomlkit
from tomlkit.items import AoT

from transom.errors import ConfigurationError


def check_can_grow(text: str, path: Path) -> None:
    """Refuse a configuration that no camera can be added to.

    Args:
        text: Of a configuration that was read already.
        path: Its file, for the message.

    Raises:
        ConfigurationError: Its cameras are no tables of their own.
    """
    if not isinstance(tomlkit.parse(text).get("cameras"), AoT):
        raise ConfigurationError(
            f"{path}: cameras must be tables of their own for more to be added, is one array; "
            "write each below a [[cameras]]"
        )


def grown(text: str, cameras: str) -> str:
    """Return a configuration with more cameras behind those that it has.

    A comment right above the table that follows stays above that table, and one right below the
    last camera's lines stays there.

    Args:
        text: A configuration whose cameras are tables of their own.
        cameras: Tables of further ones.
    """
    lines = text.split("\n")
    end = "\r" if lines[0].endswith("\r") else ""
    at = _behind_cameras(lines)
    before, after = lines[:at], lines[at:]
    while before and not before[-1].strip():
        before.pop()
    before[-1] = before[-1].removesuffix("\r") + end
    new = [line + end for line in ("", *cameras.strip().split("\n"))]
    if not after:
        after = [""]
    elif after[0].strip():
        new.append(end)
    return "\n".join((*before, *new, *after))


def _behind_cameras(lines: Sequence[str]) -> int:
    """Return before which line more cameras go."""
    tables = [number for number, line in enumerate(lines) if _begins_table(lines, number, line)]
    last = max(number for number in tables if _first_key(lines[number]) == "cameras")
    following = next((number for number in tables if number > last), None)
    if following is None:
        return len(lines)
    begin = following
    while not (line := lines[begin - 1].strip()) or line.startswith("#"):
        begin -= 1
    blank = next((number for number in range(begin, following) if not lines[number].strip()), None)
    return begin if blank is None else blank


def _begins_table(lines: Sequence[str], number: int, line: str) -> bool:
    """Return whether a line is a table's head, and not a part of a value of several lines."""
    if not line.lstrip().startswith("[") or _first_key(line) is None:
        return False
    try:
        tomllib.loads("\n".join(lines[:number]) + "\n")  # fails within a value
    except tomllib.TOMLDecodeError:
        return False
    return True


def _first_key(line: str) -> str | None:
    try:
        return next(iter(tomllib.loads(line.strip())), None)
    except tomllib.TOMLDecodeError:
        return None
