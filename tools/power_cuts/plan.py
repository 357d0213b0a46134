"""How cuts are shared out among machines that work side by side."""

import itertools
import math
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from tools.power_cuts.machine import Machine


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


def work_side_by_side(machines: Sequence[Machine], plan: Plan, seed: int) -> None:
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


def work_through(machine: Machine, plan: Plan, seed: int) -> None:
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
