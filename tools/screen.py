"""What stands on a terminal's screen after a program has written to it."""

import re

_PARTS = re.compile(
    r"\x1b\[([0-9;?]*)([@-~])|\x1b[=>()][A-Z0-9]?|([\x00-\x1f])|([^\x00-\x1f\x1b]+)"
)


class Screen:
    """Takes in what a program writes; keeps the lines that scrolled away, too.

    Knows what line editors, progress lines and tables written in place use: the cursor up, down,
    left and right, the rest of a line or of the screen cleared. Colours are left out.

    Args:
        columns: A line that is longer goes on in the next one.

    Examples:
        >>> screen = Screen(80)
        >>> screen.write("1 %\\r100 %\\r\\nwindow\\r\\n\\x1b[1Adoor\\x1b[K\\r\\n")
        >>> screen.text()
        '100 %\\ndoor'
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """Take in what was written."""
        for found in _PARTS.finditer(text):
            numbers, command, control, plain = found.groups()
            if plain:
                for one in plain:
                    self._put(one)
            elif control:
                self._control(control)
            elif command:
                self._command(command, int(re.sub(r"\D.*", "", numbers or "") or 0))

    def text(self) -> str:
        """Return all lines, without spaces at their ends and empty lines at the end."""
        return "\n".join("".join(line).rstrip() for line in self._lines).rstrip("\n")

    def _put(self, one: str) -> None:
        if self._column >= self._columns:
            self._row, self._column = self._row + 1, 0
        self._reach()
        line = self._lines[self._row]
        line.extend(" " * (self._column + 1 - len(line)))
        line[self._column] = one
        self._column += 1

    def _control(self, one: str) -> None:
        if one == "\n":
            self._row += 1
            self._reach()
        elif one == "\r":
            self._column = 0
        elif one == "\b":
            self._column = max(self._column - 1, 0)
        elif one == "\t":
            self._column += 8 - self._column % 8

    def _command(self, command: str, number: int) -> None:
        if command == "A":
            self._row = max(self._row - max(number, 1), 0)
        elif command == "B":
            self._row += max(number, 1)
        elif command == "C":
            self._column += max(number, 1)
        elif command == "D":
            self._column = max(self._column - max(number, 1), 0)
        elif command in "JK":
            self._reach()
            self._clear(whole=command == "J", part=number)

    def _clear(self, *, whole: bool, part: int) -> None:
        line = self._lines[self._row]
        if part == 0:
            del line[self._column :]
            if whole:
                del self._lines[self._row + 1 :]
        elif part == 1:
            line[: self._column] = " " * min(self._column, len(line))
        elif part == 2:
            line.clear()

    def _reach(self) -> None:
        """Have the line that the cursor is in."""
        self._lines.extend([] for _ in range(self._row + 1 - len(self._lines)))
