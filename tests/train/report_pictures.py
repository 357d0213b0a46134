"""Take the pictures of a report that the documentation shows: drawn rooms, the starter, a browser.

python -m tests.train.report_pictures docs/report
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.edge_runtime.page_pictures import chromium

SIZES = {"phone": (375, 1560), "desktop": (1280, 1500)}
"""How much of the page each shows, from its top, in pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    transom = [sys.executable, "-m", "transom"]
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        rooms, report = Path(name) / "rooms", Path(name) / "report.html"
        generate = ["data", "generate", rooms, "--groups", "60", "--pictures", "4", "--seed", "3"]
        evaluate = ["evaluate", "starter", rooms, "--split", "test", "--report", report]
        for words in (generate, evaluate):
            subprocess.run([*transom, *words], check=True, stdout=subprocess.DEVNULL)
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(report.as_uri())
            page.screenshot(path=out / f"{size}.jpg", type="jpeg", quality=80)
            sys.stdout.write(f"{out / f'{size}.jpg'}\n")


if __name__ == "__main__":
    main()
