"""What ends the wait of a thread: a frame in a camera's process, a message to send, a signal."""

import os
import select
from contextlib import suppress


class Wake:
    """A wait that other threads, other processes and signal handlers end.

    Attributes:
        descriptor: Pass it to another process, and there to `Wake`.

    Args:
        descriptor: Of the process that waits; None = this one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = (
            os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if descriptor is None else descriptor
        )
        self._is_own = descriptor is None
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLIN)

    def set(self) -> None:
        """End the wait, or the next one if nobody waits."""
        with suppress(BlockingIOError):  # it has been told 2 to the 64 times
            os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_s: float) -> None:
        """Wait until `set` is called or was called since the last wait, at most `timeout_s`."""
        if self._poll.poll(timeout_s * 1000.0):
            self.clear()

    def clear(self) -> None:
        """Forget that it was set; for who waits for its descriptor beside others."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def __del__(self) -> None:
        # Not sooner: a thread that hangs in a camera's library may still call `set`.
        if self._is_own:
            os.close(self.descriptor)
