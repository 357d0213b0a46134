"""What comes to the thread of updates: messages, looks that were judged, a verdict, the end."""

import logging
import queue
from collections.abc import Callable
from weakref import WeakMethod

from edge_runtime.link import Received
from edge_runtime.probation import Verdict
from edge_runtime.shadow import SharedLooks

_log = logging.getLogger(__name__)

_SIZE = 64
"""Things that may wait; more than a download's window and what an honest broker sends at once."""

_WAITING_LOOKS = 4
"""Looks of the shadow are dropped beyond: a few crops a zone each, and more would only age."""

_END = object()

Thing = Received | SharedLooks | Verdict


class Stopped(Exception):  # noqa: N818 - no error
    """The daemon ends."""


class UpdateInbox:
    """Others put things in and never wait; the thread takes them out, one at a time.

    Args:
        meet: A method, called in the thread with each thing that is taken out. What it raises ends
            the wait, and whatever waited.
    """

    def __init__(self, meet: Callable[[Thing], None]) -> None:
        # Or the updater, and the network that it has opened, would stay until cycles are collected.
        self._meet = WeakMethod(meet)
        self._queue: queue.Queue[Thing | object] = queue.Queue(_SIZE)

    def offer(self, thing: Thing) -> bool:
        """Put a thing in; return whether there was room."""
        try:
            self._queue.put_nowait(thing)
        except queue.Full:
            return False
        return True

    def put_aside(self, thing: Thing) -> None:
        """Put a thing in, or drop it where there is no room."""
        if not self.offer(thing):
            _log.debug("update inbox is full; dropped what came")

    def put_looks(self, looks: SharedLooks) -> None:
        """Put looks for the network in trial in, or drop them where it does not keep up."""
        if self._queue.qsize() < _WAITING_LOOKS:
            self.put_aside(looks)

    def end(self, timeout_s: float) -> bool:
        """Have `wait` raise `Stopped` after what is in; return whether there was room in time."""
        try:
            self._queue.put(_END, timeout=timeout_s)
        except queue.Full:
            return False
        return True

    def wait(self, seconds: float | None) -> Thing | None:
        """Return the next thing, which `meet` has met; None = nothing within the time.

        Args:
            seconds: How long; None = for ever.

        Raises:
            Stopped: The daemon ends.
        """
        try:
            thing = self._queue.get(timeout=seconds)
        except queue.Empty:
            return None
        if not isinstance(thing, Thing):
            raise Stopped
        meet = self._meet()
        if meet is not None:
            meet(thing)
        return thing

    def next_message(self, seconds: float) -> Received | None:
        """Return the next thing if it is a message; with 0 seconds only what is in already."""
        if not seconds and self._queue.empty():
            return None
        thing = self.wait(seconds or None)
        return thing if isinstance(thing, Received) else None

    def next_looks(self, seconds: float) -> SharedLooks | None:
        """Return the next thing if it is looks."""
        thing = self.wait(seconds)
        return thing if isinstance(thing, SharedLooks) else None
