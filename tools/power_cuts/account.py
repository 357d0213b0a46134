"""Who keeps count of events over power cuts: what was on the disk, and what came."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

WINDOW = 15
"""Events that the daemon may have under way without an acknowledgement."""

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
