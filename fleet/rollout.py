"""A rollout as a value: who is asked when, what was answered, and when it must end.

Nothing here speaks with anybody. Devices are asked in waves: a few canaries first, then up to each
stage's share of all. The next wave is asked when the one before has been decided. Too large a share
of failures among those that were asked ends it.

The order is fixed by the bundle and the devices' names, so that a rollout that is taken up again
asks the same devices first: they answer at once, and it goes on where it was.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from transom.updates import FINAL, Step

Standing = Literal["planned", "asked", "underway", "waiting", "away", "done", "failed"]
"""`waiting` for a person on the device's side; `away` = offline, it will find the wish later."""

DECIDED: tuple[Standing, ...] = ("waiting", "away", "done", "failed")
_STANDINGS: Mapping[Step, Standing] = {
    "waiting": "waiting",
    "committed": "done",
    "refused": "failed",
    "rolled_back": "failed",
    "withdrawn": "failed",
}


@dataclass(frozen=True)
class Plan:
    """How careful a rollout is.

    Attributes:
        canaries: Devices that are asked first.
        stages: Shares of all devices, in per cent, that each further wave goes up to.
        most_failures_percent: Share of the devices asked that may fail, per cent.
        answer_s: Within how long a device that is online must say that it has heard.
        decide_s: Within how long a device that has been asked must have decided.
    """

    canaries: int = 1
    stages: tuple[float, ...] = (10.0, 50.0, 100.0)
    most_failures_percent: float = 5.0
    answer_s: float = 60.0
    decide_s: float = 7200.0

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.stages, self.stages[1:], strict=False))
        if not self.stages or not rising or self.stages[0] <= 0.0 or self.stages[-1] != 100.0:
            raise ValueError(
                "stages must rise above 0 and end with 100, like 10,50,100; are "
                + ",".join(f"{stage:g}" for stage in self.stages)
            )


@dataclass
class Course:
    """How far one device is.

    Attributes:
        device: Its name.
        wave: The wave that it is in, from 0 for the canaries.
        standing: Where it stands.
        step: What it has reported last; "" = nothing.
        reason: Why it failed.
        agreement: With the bundle that served before, 0 to 1; None = not told.
        asked_s: When it was asked; monotonic.
    """

    device: str
    wave: int
    standing: Standing = "planned"
    step: str = ""
    reason: str = ""
    agreement: float | None = None
    asked_s: float = 0.0


class Rollout:
    """The course of every device, and what follows from it.

    Args:
        devices: Whether each is online, by name.
        digest: Of the bundle: it shuffles the devices, the same way each time.
        plan: How careful to be.
    """

    def __init__(self, devices: Mapping[str, bool], digest: str, plan: Plan) -> None:
        self._plan = plan
        order = sorted(devices, key=lambda name: (not devices[name], _shuffled(name, digest)))
        self.courses = {
            device: Course(device, wave)
            for wave, part in enumerate(waves(order, plan))
            for device in part
        }
        self._online = dict(devices)

    def due(self) -> list[Course]:
        """Return the devices to ask now: those of the next wave, once the last is decided."""
        if self.is_aborted:
            return []
        undecided = [c.wave for c in self.courses.values() if c.standing not in DECIDED]
        if not undecided:
            return []
        wave = min(undecided)
        return [c for c in self.courses.values() if c.wave == wave and c.standing == "planned"]

    def asked(self, course: Course, now_s: float) -> None:
        """Note that a device was asked."""
        course.standing = "asked" if self._online[course.device] else "away"
        course.asked_s = now_s

    def told(
        self, device: str, step: Step, reason: str = "", agreement: float | None = None
    ) -> Course | None:
        """Take in a device's report; return its course, None for a device that was not asked."""
        course = self.courses.get(device)
        if course is None or course.standing == "planned":
            return None
        course.step = step
        course.reason = reason
        course.agreement = course.agreement if agreement is None else agreement
        course.standing = _STANDINGS.get(step, "underway")
        return course

    def check_time(self, now_s: float) -> list[Course]:
        """Count devices that have not said anything, or not decided, in time as failed.

        Returns:
            The courses of those that have failed by it now.
        """
        plan = self._plan
        late = []
        for course in self.courses.values():
            passed_s = now_s - course.asked_s
            if course.standing == "asked" and passed_s > plan.answer_s:
                course.standing = "failed"
                course.reason = (
                    f"no answer within {plan.answer_s:g} s; is [updates] in its configuration?"
                )
                late.append(course)
            elif course.standing == "underway" and passed_s > plan.decide_s:
                course.standing = "failed"
                course.reason = f"not decided within {plan.decide_s:g} s"
                late.append(course)
        return late

    @property
    def failed_percent(self) -> float:
        """Share of the devices asked so far that failed, per cent."""
        asked = [c for c in self.courses.values() if c.standing not in ("planned", "away")]
        failed = sum(c.standing == "failed" for c in asked)
        return 100.0 * failed / len(asked) if asked else 0.0

    @property
    def is_aborted(self) -> bool:
        """Whether too many failed."""
        return self.failed_percent > self._plan.most_failures_percent

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.is_aborted or all(c.standing in DECIDED for c in self.courses.values())

    def undecided(self) -> Iterator[Course]:
        """Yield the devices that may and should still install what they were asked to."""
        for course in self.courses.values():
            if course.standing in ("asked", "underway", "waiting", "away") and not self.is_aborted:
                yield course

    def let_be(self) -> Iterator[Course]:
        """Yield the devices that must not install it any more, should they still be about to."""
        for course in self.courses.values():
            is_late = course.standing == "failed" and course.step not in FINAL
            # What is planned here may have been asked by a workstation that went away since.
            is_underway = course.standing in ("planned", "asked", "underway", "waiting", "away")
            if is_late or (is_underway and self.is_aborted):
                yield course

    def counts(self) -> dict[Standing, int]:
        """Return how many devices stand where."""
        standings = [course.standing for course in self.courses.values()]
        return {standing: standings.count(standing) for standing in dict.fromkeys(standings)}


def waves(order: Iterable[str], plan: Plan) -> list[list[str]]:
    """Cut devices into waves.

    Examples:
        >>> [len(part) for part in waves([f"pi-{n}" for n in range(40)], Plan())]
        [1, 3, 16, 20]
    """
    rest = list(order)
    total = len(rest)
    ends = [min(plan.canaries, total)]
    ends += [max(math.ceil(total * stage / 100.0), ends[0]) for stage in plan.stages]
    starts = [0, *ends[:-1]]
    parts = [rest[start:end] for start, end in zip(starts, ends, strict=True)]
    return [part for part in parts if part]


def _shuffled(device: str, digest: str) -> bytes:
    return hashlib.sha256(f"{digest} {device}".encode()).digest()
