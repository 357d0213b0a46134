"""Cut the power of a booted machine again and again while its daemon works; look what is left.

Usage: python -m tools.power_cuts [--work build/vm] [--cuts 50] [--lanes 2] [--minutes 60]
           [--seed 0] [--record [--beside]]

The machine is the one of `make vm`; a clip of a door that never rests is its camera. QEMU is killed
(SIGKILL) at a moment that chance picks: what the machine had in memory is lost, what it had given
to its disk stays, for this computer goes on (a disk that lies about its own cache is not tried). In
every second boot the broker is away and events pile up; in the others they go out while the device
fetches, tries and takes over the other of two bundles. Each boot is from the disk of the last cut:

- SQLite finds the outbox whole, and every event that was on the disk is there, or was heard, or may
  have been acknowledged by the broker that went down with the machine;
- every bundle in the store is verified, one of them serves, the ledger of bundles can be read;
- the unit is ready, unless the next cut comes before it can be.

At the end the machine is left alone: all events must come, it must stop in good order, and `e2fsck`
must find its file system clean. With `--lanes` several such machines are at work side by side, each
with a disk and an account of its own; each keeps a core busy, and the cuts are shared out.

Exits 1 where anything of it does not hold. `--record` keeps the finding in docs/reliability.json
and writes docs/reliability.md; `--beside` adds it to what is kept there of earlier sittings, made
with another `--seed`. Needs root; see `make powercuts`.
"""

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path

from tools.power_cuts.account import CutError
from tools.power_cuts.findings import FULL, beside, records, report, total
from tools.power_cuts.image import ROOT, make_disk
from tools.power_cuts.machine import Machine
from tools.power_cuts.plan import Plan, work_side_by_side
from tools.reliability.records import merge, read_records, write_records


def main() -> None:
    """Make the machine, cut its power, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "vm")
    parser.add_argument("--cuts", type=int, default=FULL)
    parser.add_argument("--lanes", type=int, default=1, help="machines side by side, a core each")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no cut begins later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--beside", action="store_true", help="add it to what is kept")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("power cuts: must be run by root, who may make a Debian")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without switching it off
    work: Path = arguments.work.resolve()
    disk = make_disk(work)
    machines = [Machine(work, disk, lane) for lane in range(arguments.lanes)]
    plan = Plan(arguments.cuts, time.monotonic() + arguments.minutes * 60.0)
    try:
        work_side_by_side(machines, plan, arguments.seed)
    except CutError as error:
        raise SystemExit(f"power cuts: FAILED after {plan.begun} had begun: {error}") from error
    print(report([machine.account for machine in machines], total(machines)))
    if arguments.record:
        found = records([machine.account for machine in machines], total(machines))
        kept = read_records()
        write_records(merge(kept, beside(kept, found) if arguments.beside else found))


if __name__ == "__main__":
    main()
