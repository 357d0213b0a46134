"""Fuzz every target for some minutes each: `python -m tests.faults.fuzzing --minutes 10`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.fuzzing.runner import fuzz, make_material
from tests.faults.fuzzing.targets import CORPUS


def main() -> int:
    """Fuzz; return 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="Of each target.")
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"), help="What is kept.")
    parser.add_argument("target", nargs="*", help="Only these.")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="transom-fuzz-"))
    crashes = []
    try:
        there = make_material(folder)
        unknown = set(arguments.target) - set(there)
        if unknown:
            parser.error(f"no target {', '.join(unknown)}; there are {', '.join(there)}")
        for name in arguments.target or there:
            found = fuzz(
                name, folder, arguments.work, f"-max_total_time={arguments.minutes * 60:.0f}"
            )
            print(
                f"{name:14} {found.runs:>12,} inputs  {found.crash or 'nothing found'}", flush=True
            )
            if found.crash is not None:
                print(found.said)
                print(f"mend it, and keep the input: cp {found.crash} {CORPUS / name}/")
                crashes.append(found.crash)
    finally:
        shutil.rmtree(folder)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
