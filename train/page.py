"""A page that a person opens as one file: nothing beside it, light or dark as the reader likes."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from transom.atomic import write_file

_TEMPLATE = Path(__file__).with_name("page_template.html")


def write_page(path: Path, *, title: str, headline: str, basis: str, body: Sequence[str]) -> None:
    """Write a page; the file is replaced whole.

    Args:
        path: The file.
        title: What it is about, plain text.
        headline: What it says, in a sentence; HTML.
        basis: What that rests on; HTML.
        body: Sections, HTML.

    Raises:
        OSError: The file cannot be written.
    """
    page = Template(_TEMPLATE.read_text("utf-8")).substitute(
        title=escape(title), headline=headline, basis=basis, body="\n".join(body)
    )
    write_file(path, page.encode())
