"""Text that strangers chose, fit for a terminal and for a log."""


def printable(text: str) -> str:
    """Return text with its control characters, line ends among them, written out.

    A name or a payload of somebody else could otherwise move a terminal's cursor, or look like a
    line of the log.

    Examples:
        >>> print(printable("door\\x1b[2J"))
        door\\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def printable_lines(text: str) -> str:
    """Return text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))
