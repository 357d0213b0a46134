"""Who keeps count of events: what a device accepted, what came to a subscriber."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

WINDOW = 15
"""Messages that a device sends without an acknowledgement: what a kill can make come twice."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the events.

    Attributes:
        accepted: How many the device had said to be safe.
        lost: Those of them that never came.
        copies: Arrivals of an event that had come before.
        longest_repeat: The most copies that came one after the other.
        strangers: What came without having been offered to the device.
        out_of_order: First arrivals of an event after one that was offered later.
    """

    accepted: int
    lost: tuple[str, ...]
    copies: int
    longest_repeat: int
    strangers: tuple[str, ...]
    out_of_order: int

    def check(self, interruptions: int) -> None:
        """Assert that nothing was lost and that copies are no more than interruptions explain.

        Args:
            interruptions: How often the device was killed or its connection ended.
        """
        assert not self.lost, f"{len(self.lost)} of {self.accepted} lost, first {self.lost[:5]}"
        assert not self.strangers, f"nobody offered {self.strangers[:5]}"
        assert self.out_of_order == 0, f"{self.out_of_order} events overtook others"
        allowed = WINDOW * interruptions
        assert self.copies <= allowed, f"{self.copies} copies, {allowed} explained"


class Ledger:
    """Offered, accepted and arrived events, by their `event_id`.

    An event is offered before the device is asked to store it and accepted when the device has
    said that it did. A device that is killed in between may or may not deliver it.
    """

    def __init__(self) -> None:
        self._offered: dict[str, int] = {}
        self._accepted: set[str] = set()

    def offer(self, event_id: str) -> None:
        """Note that the device is asked to store an event."""
        assert event_id not in self._offered, f"{event_id} was offered before"
        self._offered[event_id] = len(self._offered)

    def accept(self, event_id: str) -> None:
        """Note that the device says that an event is safe."""
        if event_id not in self._offered:
            self.offer(event_id)
        self._accepted.add(event_id)

    @property
    def accepted(self) -> frozenset[str]:
        """The events that must arrive."""
        return frozenset(self._accepted)

    def judge(self, arrivals: Iterable[str]) -> Verdict:
        """Compare with what a subscriber got, in its order."""
        seen: Counter[str] = Counter()
        strangers, copies, repeat, longest, out_of_order, last = [], 0, 0, 0, 0, -1
        for event_id in arrivals:
            place = self._offered.get(event_id)
            if place is None:
                strangers.append(event_id)
                continue
            seen[event_id] += 1
            if seen[event_id] > 1:
                copies += 1
                repeat += 1
                longest = max(longest, repeat)
                continue
            repeat = 0
            out_of_order += place < last
            last = max(last, place)
        lost = sorted(self._accepted - seen.keys(), key=self._offered.__getitem__)
        return Verdict(
            len(self._accepted), tuple(lost), copies, longest, tuple(strangers), out_of_order
        )
