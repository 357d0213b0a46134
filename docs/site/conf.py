"""How the documentation becomes a site (`make docs`): Sphinx reads the same Markdown as GitHub.

References:
    https://www.sphinx-doc.org/en/master/usage/configuration.html
    https://myst-parser.readthedocs.io/en/latest/configuration.html
"""

import re
from pathlib import Path

from pygments.lexers import TextLexer
from sphinx.application import Sphinx

from transom import __version__

ROOT = Path(__file__).resolve().parents[2]

project = "Transom"
version = release = __version__

# The source is the repository's root, so that a link works on GitHub and on the site alike.
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/index"
include_patterns = ["docs/**", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "systemd/README.md"]
exclude_patterns = ["docs/site/**", ".venv/**", "build/**", "dist/**", "**/.*"]

myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
nitpicky = True

html_theme = "furo"
html_title = "Transom"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["root"]  # what the site's first address leads on from
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"font-stack": "system-ui, sans-serif"},
    "footer_icons": [],
}
pygments_style = "friendly"

_HEADING = re.compile(r"^## (.+)$", re.M)
_LINK = re.compile(r"^- \[([^]]+)\]\(([^)#]+)\.md\)", re.M)


def setup(app: Sphinx) -> None:
    """Take the navigation from the lists of links in docs/index.md and docs/adr/README.md."""
    app.connect("source-read", _add_navigation)
    app.add_lexer("csv", TextLexer)  # Pygments knows no such language, GitHub does


def _add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Append a table of contents for each list of links, which GitHub shows as they are."""
    if page == root_doc:
        _before, *parts = _HEADING.split(source[0])
        for caption, part in zip(parts[::2], parts[1::2], strict=True):
            source[0] += _contents(f":caption: {caption}", _LINK.findall(part))
    elif page == "docs/adr/README":
        pages = sorted((ROOT / "docs" / "adr").glob("0*.md"))
        source[0] += _contents("", [("", file.stem) for file in pages])


def _contents(option: str, links: list[tuple[str, str]]) -> str:
    lines = [f"{title} <{page}>" if title else page for title, page in links]
    return "\n\n```{toctree}\n:hidden:\n" + "\n".join([option, "", *lines]) + "\n```\n"
