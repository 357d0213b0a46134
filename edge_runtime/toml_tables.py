"""A TOML file as the lines of its tables, so that some can go or come and all else stays as it is.

A parser takes a comment above a table for the end of the table before. Here it goes with the table
that it stands above; a comment right below a table's last line stays with that one.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableLines:
    """The lines of one table, from the blank line and the comment above it to its last value.

    Attributes:
        key: Of its head, like ("cameras", "zones"); empty = what comes before the first table, and
            the blank lines and comments at the end of the file.
        lines: Without line feeds.
    """

    key: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines as a text that can be parsed by itself."""
        return "".join(f"{line}\n" for line in self.lines)


def split_tables(text: str) -> list[TableLines]:
    """Return the tables of a file in its order; `join_tables` gives the file again.

    Args:
        text: A file that can be parsed.

    Examples:
        >>> [table.key for table in split_tables("a = 1\\n# the broker\\n[mqtt]\\nhost = 'x'\\n")]
        [(), ('mqtt',), ()]
    """
    lines = text.split("\n")
    heads = _heads(lines)
    begins = [_begin(lines, number) for number, _ in heads]
    end = _begin(lines, len(lines))
    edges = [0, *begins, end, len(lines)]
    keys = [(), *(key for _, key in heads), ()]
    return [
        TableLines(key, tuple(lines[begin:until]))
        for key, begin, until in zip(keys, edges[:-1], edges[1:], strict=True)
    ]


def join_tables(tables: Iterable[TableLines]) -> str:
    """Return the file that these tables make."""
    return "\n".join(line for table in tables for line in table.lines)


def with_table(
    tables: Sequence[TableLines], behind: int, key: tuple[str, ...], text: str
) -> list[TableLines]:
    """Return tables with a new one, between blank lines.

    Args:
        tables: Of a file, all of them.
        behind: The number of the one that it goes behind.
        key: Of its head.
        text: Of it and of tables within it.
    """
    following = tables[behind + 1].lines
    below = ("",) if following and following[0].strip() else ()
    new = TableLines(key, ("", *text.strip().split("\n"), *below))
    return [*tables[: behind + 1], new, *tables[behind + 1 :]]


def uses_crlf(text: str) -> bool:
    """Return whether every line of a text ends as on Windows."""
    return text.count("\n") == text.count("\r\n") > 0


def _heads(lines: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the numbers of the lines that are heads of tables, and their keys."""
    found: list[tuple[int, tuple[str, ...]]] = []
    for number, line in enumerate(lines):
        key = _key(line)
        if key is None:
            continue
        before = found[-1][0] if found else 0
        try:
            tomllib.loads("\n".join(lines[before:number]) + "\n")
        except tomllib.TOMLDecodeError:
            continue  # within a value of several lines
        found.append((number, key))
    return found


def _key(line: str) -> tuple[str, ...] | None:
    """Return the key of a line that looks like a table's head; None where it does not."""
    if not line.lstrip().startswith("["):
        return None
    try:
        inner: object = tomllib.loads(line.strip())
    except tomllib.TOMLDecodeError:
        return None
    key = []
    while isinstance(inner, dict) and inner:
        ((name, inner),) = inner.items()
        key.append(name)
    return tuple(key)


def _begin(lines: Sequence[str], head: int) -> int:
    """Return from which line on what stands above a head, or above the end, goes with it."""
    begin = head
    while begin > 0 and _is_between(lines[begin - 1]):
        begin -= 1
    blank = next((n for n in range(begin, head) if not lines[n].strip()), None)
    if blank is not None:
        return blank
    return begin if head < len(lines) else head


def _is_between(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
