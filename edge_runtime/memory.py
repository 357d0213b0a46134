"""Memory that the process no longer needs, given back to the system.

The C library keeps freed blocks for later. Frames and a network's tensors are large and of many
sizes, so that over hours their gaps fit ever less well: memory grows in steps of megabytes though
nothing is held. Whole pages that are free, also between others that are not, can be given back.
"""

import ctypes
import gc
from contextlib import suppress

_LIBRARY = ctypes.CDLL(None)


def give_back_free() -> None:
    """Give back what the C library keeps free; some milliseconds, also for other threads.

    References:
        malloc_trim(3); since glibc 2.8 it releases free pages of every arena.
    """
    with suppress(AttributeError):  # another C library than glibc
        _LIBRARY.malloc_trim(0)


def give_back_memory() -> None:
    """Give back the memory of what is no longer used, such as a network: also of cycles."""
    gc.collect()
    give_back_free()
