"""Golden files: what was reviewed once and must not change unseen.

`TRANSOM_UPDATE_GOLDEN=1 pytest …` writes them anew; the difference is then reviewed.
"""

import os
from pathlib import Path

_FOLDER = Path(__file__).parent.parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """Compare `text` with the golden file `name`, or write it where that was asked for."""
    path = _FOLDER / name
    if os.environ.get("TRANSOM_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.exists(), f"{path} is missing; write it with TRANSOM_UPDATE_GOLDEN=1"
    assert text == path.read_text("utf-8"), f"{path} differs; see TRANSOM_UPDATE_GOLDEN"
