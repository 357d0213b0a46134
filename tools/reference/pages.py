"""Where a page holds what is made from code: between two comments, which name what it is."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

Part = Callable[[], str]

_PART = re.compile(
    r"(?P<begin><!-- from code: (?P<name>[\w.-]+) -->\n).*?(?P<end>\n<!-- end -->)", re.S
)


def rewritten(text: str, parts: Mapping[str, Part]) -> str:
    """Return a page's text with each of its parts made anew.

    Args:
        text: Of the page; a part stands between `<!-- from code: NAME -->` and `<!-- end -->`.
        parts: Makes a part, by name.

    Raises:
        ValueError: The page names a part that there is not.
    """

    def make(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in parts:
            raise ValueError(f"no part is named {name}; there are {', '.join(sorted(parts))}")
        return f"{found['begin']}\n{parts[name]().strip()}\n{found['end']}"

    return _PART.sub(make, text)


def named_parts(text: str) -> list[str]:
    """Return the names of the parts that a page holds."""
    return [found["name"] for found in _PART.finditer(text)]


def stale_pages(root: Path, parts: Mapping[str, Part]) -> dict[Path, str]:
    """Return the pages that are not as the code has it, each with what it should be.

    Raises:
        ValueError: A page names a part that there is not; the message names the page.
    """
    stale = {}
    for page in sorted((root / "docs").rglob("*.md")):
        text = page.read_text("utf-8")
        try:
            now = rewritten(text, parts)
        except ValueError as error:
            raise ValueError(f"{page.relative_to(root)}: {error}") from error
        if now != text:
            stale[page] = now
    return stale


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown.

    Examples:
        >>> print(table(("key", "meaning"), [("`a`", "One | two.")]))
        | key | meaning |
        |---|---|
        | `a` | One \\| two. |
    """
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [" | ".join(row) for row in [list(head), *escaped]]
    lines.insert(1, "---|" * len(head))
    return "\n".join(f"|{line}" if line.startswith("---") else f"| {line} |" for line in lines)
