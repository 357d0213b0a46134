"""Cut the power of a booted machine again and again while its daemon works; look what is left.

Usage: python -m tools.power_cuts [--work build/vm] [--cuts 50] [--lanes 2] [--minutes 60]
           [--seed 0] [--record]

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
and writes docs/reliability.md. Needs root; see `make powercuts`.
"""

import argparse
import datetime
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tools.reliability.records import Record, merge, read_records, write_records
from train.scenes import Move, generate_clip
from transom.bundle import read_bundle, write_bundle
from transom.signing import load_private_key, new_key
from transom.starter import STARTER, bundle_path, starter_keys

ROOT = Path(__file__).resolve().parent.parent
VM = ROOT / "systemd" / "vm"
FULL = 50
WINDOW = 15
"""Events that the daemon may have under way without an acknowledgement."""
SPAN = 60
"""Ticks of half a second of the machine's time, within which the cut comes."""
EARLY_SHARE = 0.2
"""Share of cuts that may come before the unit is ready."""
BOOT_LIMIT_S = 3600.0
"""Of this computer's time, for one boot: it may be slow and busy, but not stuck."""
CLIP_S = 32.0

Said = dict[str, Any]


class CutError(Exception):
    """A promise that a power cut broke."""


@dataclass
class Account:
    """Which events were on the disk, and what became of them.

    Attributes:
        safe: Events that were on the disk at some time.
        heard: How often each came to the subscriber.
        unheard: Events that a broker may have acknowledged just before it went down with the
            machine, and nobody heard.
    """

    safe: set[str] = field(default_factory=set)
    heard: Counter[str] = field(default_factory=Counter)
    unheard: set[str] = field(default_factory=set)

    def note(self, said: Said) -> None:
        """Take in a line from a running machine."""
        if said["what"] == "heard":
            self.heard[said["event_id"]] += 1
        self.safe.update(said.get("waiting") or ())

    def look(self, waiting: list[str], *, had_broker: bool) -> None:
        """Compare what was safe with what waits on the disk after a cut.

        Args:
            waiting: The events that are on the disk.
            had_broker: Whether the machine had a broker when it was cut.

        Raises:
            CutError: An event is lost.
        """
        missing = self.safe - set(waiting) - self.heard.keys() - self.unheard
        if missing and not had_broker:
            raise CutError(f"{len(missing)} events were on the disk and are not: {sorted(missing)}")
        if len(missing) > WINDOW:
            raise CutError(f"{len(missing)} events are gone, {WINDOW} can have been under way")
        self.unheard |= missing
        self.safe.update(waiting)

    def close(self) -> None:
        """Look whether all that was safe has come.

        Raises:
            CutError: Something has not.
        """
        missing = self.safe - self.heard.keys() - self.unheard
        if missing:
            raise CutError(f"{len(missing)} events never came: {sorted(missing)}")


def main() -> None:
    """Make the machine, cut its power, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "vm")
    parser.add_argument("--cuts", type=int, default=FULL)
    parser.add_argument("--lanes", type=int, default=1, help="machines side by side, a core each")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no cut begins later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("tools/power_cuts.py: must be run by root, who may make a Debian")
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
        write_records(merge(read_records(), found))


def make_disk(work: Path) -> Path:
    """Make the machine's disk: the one of `make vm`, with work to do.

    Returns:
        The disk's file.
    """
    subprocess.run(["sh", VM / "image.sh", work, sys.executable], check=True)
    root, offered = work / "root", work / "root" / "opt" / "offered"
    shutil.rmtree(offered, ignore_errors=True)
    offered.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "device_cut.py", root / "opt")
    shutil.copy(VM / "transom-cut.service", root / "etc" / "systemd" / "system")
    configuration = root / "etc" / "transom"
    configuration.joinpath("transom.toml").write_text(
        (VM / "cut.toml").read_text() + restless_door(configuration / "clip.mp4")
    )
    offer_two_bundles(work, offered, configuration / "trusted_keys")
    disk = work / "cut-disk"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(4 * 2**30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk], check=True)
    return disk


def restless_door(clip: Path) -> str:
    """Draw a door that opens and shuts all the time; return its zone as configuration."""
    moves = [
        Move("door", start_s, 0.5, "closed" if number % 2 else "open")
        for number, start_s in enumerate(range(3, int(CLIP_S) - 2, 4))
    ]
    truth = generate_clip(clip, seed=10_001, seconds=CLIP_S, fps=4, size=(320, 240), script=moves)
    polygon = [list(point) for point in truth.zones["door"].points]
    return f'\n[[cameras.zones]]\nname = "door"\npolygon = {polygon}\n'


def offer_two_bundles(work: Path, offered: Path, trusted: Path) -> None:
    """Sign the starter's network twice, under two names, with a key that the machine trusts."""
    key = work / "cut.pem"
    for path in (key, key.with_suffix(".pub")):
        path.unlink(missing_ok=True)
    new_key(key)
    shutil.copy(key.with_suffix(".pub"), trusted)
    starter = read_bundle(bundle_path(STARTER), starter_keys())
    for sequence, name in enumerate(("first", "second"), 1):
        write_bundle(
            offered / f"{name}.bundle",
            manifest=msgspec.structs.replace(starter.manifest, name=name, sequence=sequence),
            model=starter.model,
            goldens=starter.goldens,
            report=starter.report,
            key=load_private_key(key),
        )


class Plan:
    """How many cuts are still to be made, by all machines together.

    Args:
        cuts: All of them.
        until_s: When none begins any more, monotonic seconds.
    """

    def __init__(self, cuts: int, until_s: float) -> None:
        self.begun = 0
        self._cuts = cuts
        self._until_s = until_s
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether another cut is to be made; who asked makes it."""
        with self._lock:
            is_due = self.begun < self._cuts and time.monotonic() < self._until_s
            self.begun += is_due
            return is_due

    def stop(self) -> None:
        """Let no other cut begin."""
        self._until_s = -math.inf


def work_side_by_side(machines: Sequence["Machine"], plan: Plan, seed: int) -> None:
    """Work through a plan with several machines at once.

    Raises:
        CutError: A promise was broken; the other machines are switched off.
    """
    with ThreadPoolExecutor(len(machines)) as lanes:
        each = [lanes.submit(work_through, machine, plan, seed) for machine in machines]
        try:
            for ended in wait(each, return_when=FIRST_EXCEPTION).done:
                ended.result()
        finally:  # also where this process is asked to end
            plan.stop()
            for machine in machines:
                machine.switch_off()


def work_through(machine: "Machine", plan: Plan, seed: int) -> None:
    """Cut a machine's power as long as there are cuts to be made, then leave it alone.

    Raises:
        CutError: A promise was broken.
    """
    chance = random.Random(f"{seed}, {machine.lane}")
    for boot in itertools.count():
        if not plan.take():
            machine.finish(boot)
            return
        machine.cut(boot, "here" if boot % 2 else "away", chance)


def total(machines: Iterable["Machine"]) -> Counter[str]:
    """Return what all machines have said, and how often."""
    return sum((machine.found for machine in machines), Counter[str]())


class Machine:
    """A booted machine, over all its cuts.

    Args:
        work: Where its kernel lies, its disk is copied to, and its words are kept (`power-N.log`).
        disk: The disk that it begins with.
        lane: Its number.

    Attributes:
        account: Its events.
        found: What it said, and how often.
    """

    def __init__(self, work: Path, disk: Path, lane: int) -> None:
        self.lane = lane
        self.account = Account()
        self.found = Counter[str]()
        self._work = work
        self._disk = work / f"power-{lane}-disk"
        subprocess.run(["cp", "--sparse=always", disk, self._disk], check=True)
        self._log = work / f"power-{lane}.log"
        self._log.unlink(missing_ok=True)
        self._had_broker = False
        self._process: subprocess.Popen[bytes] | None = None

    def cut(self, boot: int, broker: str, chance: random.Random) -> None:
        """Boot, look at what the last cut left, let the machine work, and cut.

        Raises:
            CutError: The last cut broke a promise.
        """
        ticks, is_early = chance.randrange(1, SPAN), chance.random() < EARLY_SHARE
        between_ticks = chance.random()
        is_ready, ticked, last_s, pace_s = False, 0, time.monotonic(), 0.0
        with self._running(boot, broker) as machine:
            for said in self._hear(machine):
                is_ready |= said["what"] == "ready"
                if said["what"] == "tick":
                    pace_s, last_s = time.monotonic() - last_s, time.monotonic()
                    ticked += is_ready or is_early
                if ticked >= ticks:
                    break
            else:
                raise CutError(f"boot {boot}: the machine ended by itself; see {self._log}")
            time.sleep(between_ticks * min(pace_s, 30.0))
            machine.kill()
            for _ in self._hear(machine):  # what it had said before its end
                continue
        self._had_broker = broker == "here"
        self.found["cuts"] += 1
        self.found["early"] += not is_ready
        unit = "ready" if is_ready else "starting"
        print(
            f"machine {self.lane}, cut {self.found['cuts']}: broker {broker}, unit {unit}, "
            f"tick {ticked}; by now {len(self.account.safe)} events were on the disk, "
            f"{len(self.account.heard)} came",
            flush=True,
        )

    def switch_off(self) -> None:
        """Switch the machine off, where it is on."""
        if self._process is not None:
            self._process.kill()

    def finish(self, boot: int) -> None:
        """Boot once more, let everything out, and stop in good order.

        Raises:
            CutError: It does not.
        """
        words = set[str]()
        with self._running(boot, "last") as machine:
            for said in self._hear(machine):
                words.add(said["what"])
                if said["what"] == "drained" and said["waiting"] != []:
                    raise CutError(f"events still wait: {said['waiting']}")
            machine.wait()
        if not {"ready", "drained", "stopped"} <= words:
            raise CutError(f"the last boot got no further than {sorted(words)}; see {self._log}")
        self.account.close()
        check = ["e2fsck", "-f", "-n", str(self._disk)]
        checked = subprocess.run(check, capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            raise CutError(f"e2fsck: {checked.stdout}")

    @contextmanager
    def _running(self, boot: int, broker: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Switch the machine on, and off at the end or when it takes for ever."""
        command = ["sh", str(VM / "machine.sh"), str(self._work), str(self._disk)]
        words = ["transom-cut.service", f"power.boot={boot}", f"power.broker={broker}"]
        with subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as machine:
            limit = threading.Timer(BOOT_LIMIT_S, machine.kill)
            limit.start()
            self._process = machine
            try:
                yield machine
            finally:
                limit.cancel()
                machine.kill()
                self._process = None

    def _hear(self, machine: "subprocess.Popen[bytes]") -> Iterator[Said]:
        """Yield what the machine says of itself until it ends; keep all its words.

        Raises:
            CutError: It says that a promise is broken.
        """
        if machine.stdout is None:
            raise AssertionError("it was started with a pipe")
        with self._log.open("ab", buffering=0) as log:
            for line in machine.stdout:
                log.write(line)
                if line.startswith(b"power: ") and line.rstrip().endswith(b"}"):
                    said: Said = json.loads(line.removeprefix(b"power: "))
                    self._take(said)
                    yield said

    def _take(self, said: Said) -> None:
        if said["what"] == "left":
            self._judge(said)
            self.account.look(said["waiting"], had_broker=self._had_broker)
        else:
            self.account.note(said)
        if said["what"] == "ready":
            self.found["ready"] += self.found["cuts"] > 0
        elif said["what"] == "not ready":
            raise CutError("the unit does not start: " + "; ".join(said["journal"]))
        elif said["what"] == "report":
            self.found[f"bundle {said['step']}"] += 1

    def _judge(self, left: Said) -> None:
        if left["wrong"]:
            raise CutError(f"bundles: {left['wrong']}")
        if left["outbox"] != "ok" and (self.account.safe or left["outbox"] != "none"):
            raise CutError(f"outbox: {left['outbox']}")
        self.found[f"serving {left['serving']}"] += 1


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
        "test": "tools/power_cuts.py",
    }
    return [
        Record(
            promise=1,
            result="{safe} events were on the disk, 0 lost ({unheard} a broker that was cut with "
            "it may have acknowledged just before); the outbox was whole after every cut",
            values={
                "safe": sum(len(account.safe) for account in accounts),
                "unheard": sum(len(account.unheard) for account in accounts),
            },
            **common,
        ),
        Record(
            promise=9,
            result="every bundle in the store verified after every cut, one serving; "
            "{swaps} steps of a take-over in between",
            values={"swaps": swaps},
            **common,
        ),
    ]


if __name__ == "__main__":
    main()
