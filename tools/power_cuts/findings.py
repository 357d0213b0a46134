"""What came of the cuts: in words, and as docs/reliability.md shows it."""

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from tools.power_cuts.account import Account
from tools.power_cuts.machine import Machine
from tools.reliability.records import Record

FULL = 50


def total(machines: Iterable[Machine]) -> Counter[str]:
    """Return what all machines have said, and how often."""
    return sum((machine.found for machine in machines), Counter[str]())


def report(accounts: Sequence[Account], found: Counter[str]) -> str:
    """Return what came of it, in words."""
    safe, unheard = (sum(len(events) for events in column) for column in zip(
        *((account.safe, account.unheard) for account in accounts), strict=True))  # fmt: skip
    copies = sum(sum(account.heard.values()) - len(account.heard) for account in accounts)
    return (
        f"power cuts: {found['cuts']} cuts ({found['early']} before the unit was ready), "
        f"{found['ready']} boots after a cut with the unit ready; {safe} events were "
        f"on the disk, 0 lost, {unheard} perhaps acknowledged unheard, {copies} "
        "copies; "
        + ", ".join(f"{words} {count}" for words, count in sorted(found.items()) if " " in words)
    )


def records(accounts: Sequence[Account], found: Counter[str]) -> list[Record]:
    """Return the finding as docs/reliability.md shows it."""
    swaps = sum(found[f"bundle {step}"] for step in ("started", "committed"))
    common = {
        "method": "the power of a booted machine cut (QEMU killed) while its unit works",
        "unit": "power cuts",
        "runs": found["cuts"],
        "fast": 0,
        "full": FULL,
        "has_passed": True,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "test": "tools/power_cuts/__main__.py",
    }
    return [
        Record(
            promise=1,
            result="{safe} events were on the disk, 0 lost ({unheard} a broker that was cut with "
            "it may have acknowledged just before); the outbox was whole after every cut; "
            "sittings: {sittings}",
            values={
                "safe": sum(len(account.safe) for account in accounts),
                "unheard": sum(len(account.unheard) for account in accounts),
                "sittings": 1,
            },
            **common,
        ),
        Record(
            promise=9,
            result="every bundle in the store verified after every cut, one serving; "
            "{swaps} steps of a take-over in between; sittings: {sittings}",
            values={"swaps": swaps, "sittings": 1},
            **common,
        ),
    ]


def beside(kept: Iterable[Record], found: Iterable[Record]) -> list[Record]:
    """Return findings together with those of sittings before, each of which began with a new disk.

    Args:
        kept: What docs/reliability.json has; what did not pass there counts for nothing.
        found: Of this sitting.
    """
    before = {record.key: record for record in kept if record.has_passed}
    return [_sum(before[one.key], one) if one.key in before else one for one in found]


def _sum(before: Record, found: Record) -> Record:
    values = {"sittings": 1} | before.values
    values = {name: int(values[name]) + int(found.values[name]) for name in found.values}
    return msgspec.structs.replace(found, runs=before.runs + found.runs, values=values)
