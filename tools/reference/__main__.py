"""Write what the documentation takes from code: `python -m tools.reference`."""

from pathlib import Path

from tools.reference.pages import stale_pages
from tools.reference.parts import PARTS
from tools.reference.requests import OPENAPI, openapi_text

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write every part of every page and the API's description anew, and say what that changed."""
    stale = stale_pages(ROOT, PARTS)
    if not (ROOT / OPENAPI).exists() or (ROOT / OPENAPI).read_text("utf-8") != openapi_text():
        stale[ROOT / OPENAPI] = openapi_text()
    for page, text in stale.items():
        page.write_text(text, "utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
