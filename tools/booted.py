"""Keep what `make vm` has found in docs/reliability.json, and write docs/reliability.md.

Usage: python -m tools.booted build/vm/log
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from tools.reliability.records import Record, merge, read_records, write_records

HUNG = "is exposed by at most 1.5 of 10"
KILLED = "is killed by the watchdog when it hangs"
AGAIN = "says online again"


def main(log: Path) -> None:
    """Read the log and record it."""
    ended = datetime.fromtimestamp(log.stat().st_mtime, UTC)
    found = record(log.read_text("utf-8", errors="replace"), ended.date().isoformat())
    write_records(merge(read_records(), [found]))


def record(log: str, date: str) -> Record:
    """Return what the log of a boot says of the unit.

    Args:
        log: The machine's console; each line begins with the seconds of its clock.
        date: Of the boot.

    Raises:
        SystemExit: The machine did not come to its end, or the log lacks something.
    """
    exposure = _found(r"Overall exposure level for transom.service: ([\d.]+)", log)
    return Record(
        promise=14,
        method="the unit as it is, in a booted machine (QEMU) with a camera made of software",
        unit="boots",
        runs=1,
        fast=0,
        full=1,
        result="exposure {exposure} of 10; ready {ready_s} s after its start, its camera "
        "delivering; made to hang, killed {killed_s} s later and online again after {again_s} s",
        values={
            "exposure": float(exposure),
            "ready_s": int(_found(r"transom-check: ready (\d+) s after its start", log)),
            "killed_s": round(_second(KILLED, log) - _second(HUNG, log)),
            "again_s": round(_second(AGAIN, log) - _second(KILLED, log)),
        },
        has_passed="transom-check: all well" in log,
        date=date,
        test="tools/booted.py",
    )


def _second(words: str, log: str) -> float:
    return float(_found(rf"\[ *([\d.]+)\] \S+ transom-check: ok   {re.escape(words)}", log))


def _found(pattern: str, log: str) -> str:
    match = re.search(pattern, log)
    if match is None:
        raise SystemExit(
            f"tools/booted.py: the log has no {pattern!r}; did the machine stop early?"
        )
    return match[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
