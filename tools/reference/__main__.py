"""Write what the documentation takes from code: `python -m tools.reference`."""

from pathlib import Path

from tools.reference.pages import stale_pages
from tools.reference.parts import PARTS

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write every part of every page anew, and say which pages that changed."""
    for page, text in stale_pages(ROOT, PARTS).items():
        page.write_text(text, "utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
