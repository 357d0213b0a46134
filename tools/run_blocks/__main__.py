"""Type the shell blocks of the documentation, as a user would, and say what came of each.

Usage: python -m tools.run_blocks [--work build/blocks] [--data FOLDER] [PAGE[:LINE]...]

Every page begins in an empty folder, of a reference every block, with what it takes for granted
laid where a command names it: data sets that were drawn, runs, bundles, keys (`store.py`). Names,
broker, cameras, database and a device are those of a house made of software (`house.py`), in
namespaces of its own: needs root, mosquitto, ffmpeg and PostgreSQL. What is not typed and why, and
what is typed otherwise, stands in `table.py`. For each block: page and line, seconds, and ok,
FAILED or not run. Exits 1 where one fails.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.docs.blocks import ROOT, blocks
from tools.run_blocks.house import House, empty, enter
from tools.run_blocks.shell import Outcome, run_block
from tools.run_blocks.store import Store
from tools.run_blocks.table import CHANGES

NEEDS_DEVICE = ("hall-pi", "--all", "watch", "fleet", "transom page", "curl")
"""Words of a block that a device has to be there for."""

APART = ("docs/commands.md",)
"""Pages of which each block begins in an empty folder: in a reference each stands alone."""


def main() -> None:
    """Type the blocks of the pages that are named, or of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "blocks")
    data = Path(os.environ.get("TRANSOM_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="CIFAR-10 and MNIST are below it")
    parser.add_argument("pages", metavar="PAGE[:LINE]", nargs="*")
    given = parser.parse_args()
    enter([sys.executable, "-m", "tools.run_blocks", *sys.argv[1:]])
    found = [block for block in blocks() if block.language == "sh"]
    unknown = set(given.pages) - {name for block in found for name in (block.page, str(block))}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no shell block there")
    wanted = [b for b in found if not given.pages or {b.page, str(b)} & set(given.pages)]
    work = given.work.absolute()
    store = Store(work / "store", given.data)
    store.make()
    outcomes = list[Outcome]()
    with House(work, store.folder) as house:
        for page in dict.fromkeys(block.page for block in wanted):
            house.fresh(work / "page")
            for block in (block for block in wanted if block.page == page):
                if page in APART:
                    if house.is_as_it_came():
                        empty(work / "page")
                    else:
                        house.fresh(work / "page")
                if any(word in block.code for word in NEEDS_DEVICE):
                    house.start_device()
                if "transom run" in block.code:
                    house.stop_device()
                outcomes.append(
                    run_block(
                        block,
                        work / "page",
                        house.environment,
                        lay=lambda words: store.lay(words, work / "page", house.home),
                        camera=house.camera.url,
                    )
                )
                print(outcomes[-1], flush=True)
                if outcomes[-1].failed:
                    print(outcomes[-1].failed, flush=True)
    sys.exit(summarise(outcomes))


def summarise(outcomes: list[Outcome]) -> int:
    """Say what came of all blocks; return the exit code."""
    failed = [outcome for outcome in outcomes if outcome.failed]
    run = [outcome for outcome in outcomes if outcome.count and not outcome.failed]
    left = sum(len(outcome.left) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    count = sum(outcome.count for outcome in outcomes)
    print("\ntyped otherwise than the pages have it:")
    for change in CHANGES:
        print(f"  {change.pattern!r} -> {change.into!r}: {change.why}")
    print(
        f"\n{time.strftime('%Y-%m-%d')}: of {len(outcomes)} blocks {len(run)} were run and are ok, "
        f"{len(failed)} failed, {len(outcomes) - len(run) - len(failed)} were not run; "
        f"{count} commands in {seconds:.0f} s, {left} commands not run"
    )
    for outcome in failed:
        print(f"FAILED  {outcome.block}")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
