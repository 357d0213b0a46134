"""Look where the links of the documentation lead, without a network; part of `make docs`.

Usage: python -m tools.links

Every Markdown file of the repository: a link to a file must lead to one that is there, a link to a
heading to a heading as GitHub names it. The built site is looked at by Sphinx. Addresses on the
web are listed, each with the pages that name it, and not asked. Exits 1 where a link leads nowhere.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_CODE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2 *$|(`+)(?!`).*?(?<!`)\3(?!`)", re.M | re.S)
_IMAGE = re.compile(r"!\[[^\[\]]*\]\(([^\s)]+)\)")
_LINK = re.compile(
    r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\](?:\([^)]*\))?)*\]\(\s*<?([^\s)>]+)>?(?:\s+\"[^\"]*\")?\s*\)"
)
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.M)
_HTML = re.compile(r"<(?:a|img)\b[^>]*\b(?:href|src)=\"([^\"]+)\"")
_BARE = re.compile(r"<(https?://[^>\s]+)>")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.M)


@dataclass(frozen=True)
class Link:
    """A link of a page.

    Attributes:
        page: Where it stands, from the root.
        line: Its line there.
        target: As the page has it.
    """

    page: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.target}"


def pages(root: Path) -> list[str]:
    """Return the Markdown files that git has, or would take, from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(set(said.splitlines()))


def links(text: str, page: str) -> Iterator[Link]:
    """Yield the links of a page's text; what stands in code is none.

    Examples:
        >>> [link.target for link in links("[a](b.md#c), `[no](d)`, <https://e.f>", "x.md")]
        ['b.md#c', 'https://e.f']
    """
    plain = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code.group()), text)
    for pattern in (_IMAGE, _LINK, _REFERENCE, _HTML, _BARE):
        for found in pattern.finditer(plain):
            yield Link(page, plain.count("\n", 0, found.start()) + 1, found[1])


def anchors(text: str) -> set[str]:
    """Return what a page's headings are called in links, as GitHub does it.

    Examples:
        >>> sorted(anchors("# The `[mqtt]` table: why?\\n## Again\\n## Again\\n"))
        ['again', 'again-1', 'the-mqtt-table-why']
    """
    seen: dict[str, int] = {}
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in _HEADING.findall(re.sub(r"^( *)```.*?^\1```", "", text, flags=re.M | re.S)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = seen.get(name, -1) + 1
        seen[name] = number
        found.add(f"{name}-{number}" if number else name)
    return found


def is_external(target: str) -> bool:
    """Return whether a target is an address on the web, or of mail."""
    return re.match(r"[a-z][a-z0-9+.-]*:", target) is not None


def what_is_wrong(link: Link, root: Path) -> str:
    """Return what is wrong with a link within the repository; nothing = it leads somewhere."""
    path, _, anchor = link.target.partition("#")
    target = (root / link.page).parent / path if path else root / link.page
    if not target.exists():
        return f"{link}: there is no such file"
    if not target.resolve().is_relative_to(root.resolve()):
        return f"{link}: leads out of the repository"
    if anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8")):
        return f"{link}: there is no such heading"
    return ""


def main() -> None:
    """Look at all links, say what is wrong, list what leads out."""
    names = pages(ROOT)
    found = [link for page in names for link in links((ROOT / page).read_text("utf-8"), page)]
    outside = [link for link in found if is_external(link.target)]
    inside = [link for link in found if not is_external(link.target)]
    wrong = [why for link in inside if (why := what_is_wrong(link, ROOT))]
    where: dict[str, set[str]] = {}
    for link in outside:
        where.setdefault(link.target.partition("#")[0], set()).add(link.page)
    for address in sorted(where):
        print(f"  {address}  ({', '.join(sorted(where[address]))})")
    to_headings = sum("#" in link.target for link in inside)
    print(
        f"links: {len(names)} pages; {len(inside)} links within, {to_headings} of them to a "
        f"heading, {len(wrong)} lead nowhere; {len(where)} addresses outside, not asked"
    )
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
