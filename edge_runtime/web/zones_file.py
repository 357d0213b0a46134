"""The zones of a camera, written back into the configuration file: nothing else in it changes.

What is written is checked as `transom check` does it, before it is written. Where the file is not
the daemon's to write (a service may not write below /etc), the lines to put into it come back.
"""

import codecs
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from tomlkit.items import AoT, Array, Table

from edge_runtime.toml_tables import TableLines, join_tables, split_tables, uses_crlf, with_table
from edge_runtime.web.answers import Saved
from edge_runtime.web.asked import DrawnZone
from transom.atomic import write_file
from transom.config import Config
from transom.errors import PageError
from transom.mistakes import find_mistakes

_DIGITS = 4
_CAMERAS, _ZONES = ("cameras",), ("cameras", "zones")


def save_zones(
    path: Path,
    camera: str,
    zones: Sequence[DrawnZone],
    misfits: Callable[[Config], Iterable[str]] = lambda _config: (),
) -> Saved:
    """Put all zones of a camera into the configuration file; those that are not named go.

    Args:
        path: The configuration file.
        camera: The camera's name.
        zones: Its zones, all of them.
        misfits: What else keeps a configuration from being used.

    Raises:
        PageError: The file would no longer be a good configuration, or is none now.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
        document = tomlkit.parse(text)
        plain = document.unwrap()
    except (OSError, ValueError, tomlkit.exceptions.ParseError) as error:
        raise PageError(f"{path}: cannot be read: {error}", status=409) from error
    if mistakes := find_mistakes(plain, Config):
        raise PageError(f"{path}: {'; '.join(mistakes)}", status=409)
    index = _index(plain, camera)
    if index is None:
        raise PageError(
            f"{path}: has no camera {camera}; it was changed since the daemon started: restart it",
            status=409,
        )
    new = _with_zones(text, document, index, zones)
    raw = tomllib.loads(new)
    mistakes = find_mistakes(raw, Config) or list(misfits(msgspec.convert(raw, Config)))
    if mistakes:
        raise PageError("; ".join(mistakes), status=422)
    lines = _lines(raw["cameras"][index]["zones"])
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
    if uses_crlf(before.decode()):
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    mark = codecs.BOM_UTF8 if before.startswith(codecs.BOM_UTF8) else b""
    return mark + text.encode()


def _check_writable(path: Path) -> None:
    """Refuse a file that was made read-only, which a folder's owner could replace all the same.

    Raises:
        OSError: It is not to be written.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def _index(plain: Mapping[str, Any], camera: str) -> int | None:
    """Return which of the cameras has a name; None where none has."""
    names = [found["name"] for found in plain["cameras"]]
    return names.index(camera) if camera in names else None


def _with_zones(
    text: str, document: tomlkit.TOMLDocument, camera: int, zones: Sequence[DrawnZone]
) -> str:
    """Return the file with other polygons for a camera's zones, new ones, and without the others.

    Args:
        text: The file.
        document: The same, parsed; it is changed.
        camera: Which camera.
        zones: All that it is to have.
    """
    table: Any = document["cameras"][camera]
    if isinstance(document["cameras"], AoT) and isinstance(table["zones"], AoT):
        return _put_tables(text, camera, zones)
    _put_inline(table["zones"], zones)
    return tomlkit.dumps(document)


def _put_tables(text: str, camera: int, zones: Sequence[DrawnZone]) -> str:
    """Change zones that are tables of their own: each takes the comment above it along."""
    tables = split_tables(text if text.endswith("\n") else f"{text}\n")
    begins = [number for number, table in enumerate(tables) if table.key == _CAMERAS]
    first, end = begins[camera] + 1, [*begins, len(tables)][camera + 1]
    kept, last = tables[:first], first - 1
    left = list(zones)
    is_kept = False
    for table in tables[first:end]:
        if table.key == _ZONES:
            name = _name(table)
            zone = next((zone for zone in left if zone.name == name), None)
            is_kept = zone is not None
            if zone is not None:
                left.remove(zone)
                kept.append(_drawn(table, zone))
        elif is_kept or table.key[:2] != _ZONES:
            kept.append(table)
        if is_kept and table.key[:2] == _ZONES:
            last = len(kept) - 1
    kept += tables[end:]
    for zone in reversed(left):
        kept = with_table(kept, last, _ZONES, _lines([_as_table(zone)]))
    return join_tables(kept)


def _name(table: TableLines) -> str:
    name: str = tomllib.loads(table.text)["cameras"]["zones"][0]["name"]
    return name


def _drawn(table: TableLines, zone: DrawnZone) -> TableLines:
    document = tomlkit.parse(table.text)
    zones: Any = document["cameras"]["zones"]
    _draw(zones[0], zone)
    return TableLines(table.key, tuple(tomlkit.dumps(document).removesuffix("\n").split("\n")))


def _put_inline(old: Any, zones: Sequence[DrawnZone]) -> None:
    """Change the polygons of zones in place, add new ones, take others out."""
    names = [zone.name for zone in zones]
    for index in reversed(range(len(old))):
        if old[index].get("name") not in names:
            del old[index]
    there = {table.get("name"): table for table in old}
    for zone in zones:
        if zone.name in there:
            _draw(there[zone.name], zone)
        else:
            new = tomlkit.inline_table()
            new.update(_as_table(zone))
            old.append(new)


def _draw(table: Any, zone: DrawnZone) -> None:
    """Put a zone as it was drawn into the table that it has, where that says something else."""
    if zone.device_class is not None and table.get("device_class", "door") != zone.device_class:
        table["device_class"] = zone.device_class
    if [list(map(float, corner)) for corner in table["polygon"]] != _rounded(zone):
        comment = table["polygon"].trivia
        table["polygon"] = _polygon(zone)
        table["polygon"].trivia.comment_ws = comment.comment_ws
        table["polygon"].trivia.comment = comment.comment


def _as_table(zone: DrawnZone) -> dict[str, Any]:
    kind = zone.device_class or "door"
    return {"name": zone.name, "device_class": kind, "polygon": _polygon(zone)}


def _rounded(zone: DrawnZone) -> list[list[float]]:
    return [[round(x, _DIGITS), round(y, _DIGITS)] for x, y in zone.polygon]


def _polygon(zone: DrawnZone) -> Array:
    array = tomlkit.array()
    for corner in _rounded(zone):
        array.append(corner)
    return array


def _lines(zones: Sequence[Mapping[str, Any]]) -> str:
    """Return zones as they stand in a file."""
    tables = tomlkit.aot()
    for zone in zones:
        table: Table = tomlkit.table()
        for key, value in zone.items():
            table[key] = value
        tables.append(table)
    holder = tomlkit.document()
    holder["cameras"] = tomlkit.table(is_super_table=True)
    holder["cameras"]["zones"] = tables
    return tomlkit.dumps(holder).strip() + "\n"
