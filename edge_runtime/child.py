"""What a process of the daemon does first: leave no core, and a child end and go first."""

import ctypes
import math
import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 500  # of 1000: the kernel's choice where memory runs out


def die_with(parent: int) -> None:
    """End when the parent does, however it ends, and never leave a picture of memory on disk."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        os._exit(0)
    leave_no_core()


def leave_no_core() -> None:
    """Have no crash of this process, or of one that it starts, write its memory to the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_after(cpu_s: float | None) -> None:
    """End when so many more seconds of processor time are used; None = no longer.

    A busy board makes a process wait, which is no fault of it; computing without end is.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    used_s = time.process_time()
    soft = most if cpu_s is None else math.ceil(used_s + cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, most))


def go_first(memory_bytes: int) -> None:
    """Let a leak end this process before it takes the daemon's memory or the board's."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with suppress(OSError):  # /proc may be closed
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), "ascii")
