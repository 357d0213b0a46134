"""A machine whose power is cut, over all its cuts."""

import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.power_cuts.account import Account, CutError, Said
from tools.power_cuts.image import VM

SPAN = 60
"""Ticks of half a second of the machine's time, within which the cut comes."""
EARLY_SHARE = 0.2
"""Share of cuts that may come before the unit is ready."""
BOOT_LIMIT_S = 3600.0
"""Of this computer's time, for one boot: it may be slow and busy, but not stuck."""


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
