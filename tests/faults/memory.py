"""How much memory this process takes at most while something is done."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FORGET_THE_PEAK = "5"  # proc_pid_clear_refs(5)


@dataclass
class Growth:
    """What a block took.

    Attributes:
        mb: MiB at the worst moment beyond those at the beginning; known when the block has ended.
    """

    mb: float = 0.0


@contextmanager
def growth() -> Iterator[Growth]:
    """Measure a block; whatever this process took before, its earlier peak hides nothing."""
    Path("/proc/self/clear_refs").write_text(_FORGET_THE_PEAK)
    before_mb, found = _peak_mb(), Growth()
    yield found
    found.mb = _peak_mb() - before_mb


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024.0
