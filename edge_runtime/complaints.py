"""Warnings about what others send: anybody who may publish could otherwise fill the log."""

import logging
from collections import Counter

BETWEEN_S = 60.0
"""One warning a subject in this time; what comes between is a line for `--verbose`."""


class Complaints:
    """Warns of what cannot be used, and says later how often that was so.

    Args:
        log: Where to.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next_s: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def say(self, what: str, topic: str, reason: object, now_s: float) -> None:
        """Warn, or count what is left out.

        Args:
            what: Constant words.
            topic: Where it came; one of those that were subscribed to, so there are few.
            reason: Why it is of no use.
            now_s: Monotonic.
        """
        if now_s < self._next_s.get(topic, now_s):
            self._left_out[topic] += 1
            self._log.debug("%s topic=%s reason=%s", what, topic, reason)
            return
        self._next_s[topic] = now_s + BETWEEN_S
        more = self._left_out.pop(topic, 0)
        self._log.warning(
            "%s topic=%s reason=%s%s", what, topic, reason, f" more_before={more}" if more else ""
        )
