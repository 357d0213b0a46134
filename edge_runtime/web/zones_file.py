"""The zones of a camera, written back into the configuration file: nothing else in it changes.

What is written is checked as `transom check` does it, before it is written. Where the file is not
the daemon's to write (a service may not write below /etc), the lines to put into it come back.
"""

import codecs
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Array, Table

from edge_runtime.web.answers import Saved
from edge_runtime.web.asked import DrawnZone
from transom.atomic import write_file
from transom.config import Config
from transom.errors import PageError
from transom.mistakes import find_mistakes

_DIGITS = 4


def save_zones(path: Path, camera: str, zones: Sequence[DrawnZone]) -> Saved:
    """Put all zones of a camera into the configuration file; those that are not named go.

    Args:
        path: The configuration file.
        camera: The camera's name.
        zones: Its zones, all of them.

    Raises:
        PageError: The file would no longer be a good configuration, or is none now.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
        document = tomlkit.parse(text)
        table = _camera(document.unwrap(), document, camera)
    except (OSError, ValueError, tomlkit.exceptions.ParseError) as error:
        raise PageError(f"{path}: cannot be read: {error}", status=409) from error
    if table is None:
        raise PageError(
            f"{path}: has no camera {camera}; it was changed since the daemon started: restart it",
            status=409,
        )
    _put(table, zones)
    new = tomlkit.dumps(document)
    mistakes = find_mistakes(tomllib.loads(new), Config)
    if mistakes:
        raise PageError("; ".join(mistakes), status=422)
    lines = _lines(table)
    try:
        _check_writable(path)
        # What a link leads to: a link itself would be replaced by a file.
        write_file(path.resolve(), _as_written(data, new))
    except OSError as error:
        why = f"{path} cannot be written by the daemon: {error.strerror}"
        return Saved(saved=False, file=str(path.absolute()), toml=lines, why=why)
    return Saved(saved=True, file=str(path.absolute()), toml=lines)


def _as_written(before: bytes, text: str) -> bytes:
    """Return a file's new text with the line ends, and the mark at its head, that it had."""
    lines = before.count(b"\n")
    if lines and before.count(b"\r\n") == lines:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    mark = codecs.BOM_UTF8 if before.startswith(codecs.BOM_UTF8) else b""
    return mark + text.encode()


def _check_writable(path: Path) -> None:
    """Refuse a file that was made read-only, which a folder's owner could replace all the same.

    Raises:
        OSError: It is not to be written.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def _camera(plain: Mapping[str, Any], document: tomlkit.TOMLDocument, camera: str) -> Any:
    for index, found in enumerate(plain.get("cameras", [])):
        if isinstance(found, dict) and found.get("name") == camera:
            return document["cameras"][index]
    return None


def _put(camera: Any, zones: Sequence[DrawnZone]) -> None:
    """Change the polygons of a camera's zones in place, add new ones, take others out."""
    old = camera["zones"]
    names = [zone.name for zone in zones]
    for index in reversed(range(len(old))):
        if old[index].get("name") not in names:
            del old[index]
    there = {table.get("name"): table for table in old}
    for zone in zones:
        table = there.get(zone.name)
        if table is None:
            table = tomlkit.table() if isinstance(old, AoT) else tomlkit.inline_table()
            table["name"] = zone.name
            table["device_class"] = zone.device_class or "door"
            table["polygon"] = _polygon(zone)
            if isinstance(table, Table):
                table.add(tomlkit.nl())
            old.append(table)
            continue
        if zone.device_class is not None and table.get("device_class", "door") != zone.device_class:
            table["device_class"] = zone.device_class
        drawn = _rounded(zone)
        if [list(map(float, corner)) for corner in table["polygon"]] != drawn:
            comment = table["polygon"].trivia
            table["polygon"] = _polygon(zone)
            table["polygon"].trivia.comment_ws = comment.comment_ws
            table["polygon"].trivia.comment = comment.comment


def _rounded(zone: DrawnZone) -> list[list[float]]:
    return [[round(x, _DIGITS), round(y, _DIGITS)] for x, y in zone.polygon]


def _polygon(zone: DrawnZone) -> Array:
    array = tomlkit.array()
    for corner in _rounded(zone):
        array.append(corner)
    return array


def _lines(camera: Any) -> str:
    """Return the zones of a camera as they stand in a file."""
    tables = tomlkit.aot()
    for zone in camera["zones"].unwrap():
        table: Table = tomlkit.table()
        for key, value in zone.items():
            table[key] = value
        tables.append(table)
    holder = tomlkit.document()
    holder["cameras"] = tomlkit.table(is_super_table=True)
    holder["cameras"]["zones"] = tables
    return tomlkit.dumps(holder).strip() + "\n"
