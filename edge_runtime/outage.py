"""Whether a camera is there, how it is told, and when to try again after it went."""

import logging
import random
from typing import Literal

_log = logging.getLogger(__name__)

CameraStatus = Literal["starting", "online", "gone"]

RETRY_FIRST_S = 1.5
"""First pause, before its share is drawn: no attempt comes sooner than a second."""
RETRY_SOON_S = 4.0
"""Longest pause between two attempts in an outage younger than `SOON_S`: so that a camera is seen
within ten seconds of its return, though a process must start and a key frame come first."""
SOON_S = 600.0
RETRY_LAST_S = 30.0

_LEAST_SHARE = 0.7


class Presence:
    """Keeps one camera's status and the pauses between attempts to open it.

    Args:
        name: The camera's name in the log.

    Attributes:
        status: `starting` until the first frame, then `online`, or `gone` while no frames come.
        detail: Why it has that status, for people; without any secret.
        failures: Attempts that have failed.
    """

    def __init__(self, name: str) -> None:
        self.status: CameraStatus = "starting"
        self.detail = "not started"
        self.failures = 0
        self._name = name
        self._gone_ns: int | None = None
        self._retry_ns = 0
        self._pause_s = RETRY_FIRST_S
        self._is_waiting = False

    def opening(self, shown: str) -> None:
        """Take in that a first attempt is under way; `shown` is the source without secrets."""
        self.status, self.detail = "starting", f"opening {shown}"

    def came(self, shown: str, now_ns: int) -> None:
        """Take in that the first frame of an attempt came."""
        if self._gone_ns is not None:
            away_s = (now_ns - self._gone_ns) / 1e9
            _log.info("camera back camera=%s away_s=%.1f", self._name, away_s)
        self.status, self.detail = "online", shown
        self._gone_ns = None
        self._is_waiting = False

    def waits(self, why: str) -> None:
        """Take in what keeps the next attempt off, beside what ended the one before."""
        if not self.detail.endswith(why):
            self.detail = f"{self.detail}; {why}"
        if not self._is_waiting:
            _log.warning("camera is not opened again camera=%s reason=%s", self._name, why)
        self._is_waiting = True

    def went(self, fault: str, now_ns: int, *, had_come: bool) -> None:
        """Take in that an attempt has ended.

        Args:
            fault: Why, redacted.
            now_ns: Monotonic nanoseconds.
            had_come: Whether the attempt had given frames, so that a new outage begins.
        """
        if had_come or self._gone_ns is None:
            self._gone_ns = now_ns
            self._pause_s = RETRY_FIRST_S
        level = logging.DEBUG if self.status == "gone" else logging.WARNING
        _log.log(level, "camera gone camera=%s reason=%s", self._name, fault)
        self.status, self.detail = "gone", fault
        self.failures += 1
        # Jitter, so that cameras which went together do not all come back at once.
        pause_s = self._pause_s * random.uniform(_LEAST_SHARE, 1.0)  # noqa: S311
        self._retry_ns = now_ns + int(pause_s * 1e9)
        is_young = now_ns - self._gone_ns < SOON_S * 1e9
        self._pause_s = min(self._pause_s * 2.0, RETRY_SOON_S if is_young else RETRY_LAST_S)

    def ended(self, why: str) -> None:
        """Take in that there is nothing to try again."""
        self.status, self.detail = "gone", why
        _log.info("camera has ended camera=%s reason=%s", self._name, why)

    def is_retry_due(self, now_ns: int) -> bool:
        """Return whether to try again."""
        return self.pause_left_s(now_ns) <= 0.0

    def pause_left_s(self, now_ns: int) -> float:
        """Return the seconds until the next attempt; 0 or less when it is due."""
        return (self._retry_ns - now_ns) / 1e9
