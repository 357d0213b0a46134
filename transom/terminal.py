"""A table in a terminal, written again in place."""

import os
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from transom.printable import printable

_FALLBACK = (80, 24)


def fitted(text: str, columns: int) -> str:
    """Return text as far as it fits into columns of a terminal, with nothing that moves a cursor.

    Examples:
        >>> fitted("front door", 7)
        'front d'
        >>> fitted("戸口", 3)
        '戸'
    """
    shown, used = [], 0
    for one in printable(text):
        used += _cells(one)
        if used > columns:
            break
        shown.append(one)
    return "".join(shown)


def aligned(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Return rows of cells as lines whose columns stand below each other.

    Examples:
        >>> aligned([("zone", "state"), ("front_door", "open")])
        ['zone        state', 'front_door  open']
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*safe, strict=True)]
    return [
        gap.join(
            cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True)
        ).rstrip()
        for row in safe
    ]


class LiveTable:
    """Lines that take the place of those before them.

    Args:
        stream: A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = 0

    def show(self, lines: Sequence[str]) -> None:
        """Write lines over the last ones: what fits into the terminal."""
        columns, height = self._size()
        kept = [fitted(line, columns) for line in lines[: height - 1]]
        up = f"\x1b[{self._shown}A" if self._shown else ""
        text = "".join(f"{line}\x1b[K\n" for line in kept)
        self._stream.write(f"{up}\r{text}\x1b[J")
        self._stream.flush()
        self._shown = len(kept)

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return _FALLBACK
        # A terminal that does not know its size says 0.
        return size.columns or _FALLBACK[0], max(size.lines or _FALLBACK[1], 2)


def _width(text: str) -> int:
    return sum(map(_cells, text))


def _cells(one: str) -> int:
    if unicodedata.combining(one):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1
