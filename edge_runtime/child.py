"""What a child process of the daemon does first: end with its parent, and go first."""

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 500  # of 1000: the kernel's choice where memory runs out


def die_with(parent: int) -> None:
    """End when the parent does, however it ends, and never leave a picture of memory on disk."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def go_first(memory_bytes: int) -> None:
    """Let a leak end this process before it takes the daemon's memory or the board's."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with suppress(OSError):  # /proc may be closed
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), "ascii")
