"""How the daemon itself is: told to the service manager and to who judges a new bundle.

The watchdog is fed by progress: every camera has had a frame judged lately, or its outage has been
reported. A loop that turns without getting anywhere does not feed it.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from edge_runtime.announcer import Broker
from edge_runtime.camera_watch import CameraWatch
from edge_runtime.clock import Clock
from edge_runtime.notify import Notifier

_log = logging.getLogger(__name__)

DIAGNOSTICS_S = 30.0

_FEED_S = 1.0


class Judge(Protocol):
    """Who decides by the daemon's health whether a bundle is kept; see `updater.Updater`."""

    def note_health(self, *, is_well: bool) -> None:
        """Take in whether all cameras are accounted for and the daemon gets on; once a second."""


class Heartbeat:
    """Looks at the daemon's work once a turn, and tells of it where that is due.

    Args:
        watches: What is watched, a camera each.
        broker: Whose thread must be alive.
        clock: Whether the time is right, and the start of the first interval.
        notifier: The service manager.
        judge: Told once a second; None = no bundle is judged.

    Attributes:
        is_ready: Whether every camera has had its first verdict.
    """

    def __init__(
        self,
        watches: Sequence[CameraWatch],
        broker: Broker,
        clock: Clock,
        notifier: Notifier,
        judge: Judge | None,
    ) -> None:
        self.is_ready = False
        self._watches = watches
        self._broker = broker
        self._clock = clock
        self._notifier = notifier
        self._judge = judge
        self._fed_s = -_FEED_S
        self._diagnosed_s = clock.monotonic_s()
        self._refused = 0
        self._was_synchronised = clock.is_synchronised()

    def beat(self, now_s: float) -> float | None:
        """Look and tell.

        Args:
            now_s: Monotonic.

        Returns:
            Seconds that the diagnostics are to cover, where they are due; None = they are not.
        """
        if not self.is_ready and all(watch.has_verdict for watch in self._watches):
            self.is_ready = True
            self._notifier.ready()
            count = len(self._watches)
            self._notifier.status(f"watching {count} camera{'' if count == 1 else 's'}")
        if now_s - self._fed_s < _FEED_S:
            return None
        makes_progress = self._makes_progress(now_s)
        if makes_progress:
            self._fed_s = now_s
            self._notifier.watchdog()
        if self._judge is not None:
            self._judge.note_health(is_well=makes_progress and self.is_ready)
        self._follow_clock()
        if not self._is_diagnosis_due(now_s):
            return None
        passed_s, self._diagnosed_s = now_s - self._diagnosed_s, now_s
        return passed_s

    def _makes_progress(self, now_s: float) -> bool:
        return self._broker.alive() and all(
            watch.is_accounted_for(now_s) for watch in self._watches
        )

    def _follow_clock(self) -> None:
        """Publish the states anew once the clock is right: their times were wrong before."""
        was_synchronised = self._was_synchronised
        self._was_synchronised = self._clock.is_synchronised()
        if self._was_synchronised and not was_synchronised:
            _log.info("clock was synchronised; states are published with their right times")
            for watch in self._watches:
                for zone in watch.zones:
                    zone.tell_again()

    def _is_diagnosis_due(self, now_s: float) -> bool:
        """Whether the time has come, or the broker refuses something: that is an alarm."""
        refused, self._refused = self._refused, self._broker.counters().refused
        return self._refused > refused or now_s - self._diagnosed_s >= DIAGNOSTICS_S
