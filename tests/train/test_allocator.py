import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.allocator import keep_memory

_FAULTS = """
import resource, sys
import numpy as np
from train.allocator import keep_memory

if sys.argv[1] == "keep":
    assert keep_memory()
for _ in range(2):  # the first time around, every page is new
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [np.ones(1 << 22) for _ in range(4)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):
        return False


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, how],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"},  # a huge page is one fault for 512
    )
    return int(done.stdout)


@pytest.mark.skipif(not has_glibc(), reason="the C library is not glibc")
def test_memory_that_is_kept_is_not_faulted_in_again() -> None:
    assert faults("keep") < faults("leave") / 10


def test_memory_is_left_alone_where_the_c_library_is_not_glibc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "confstr")
    assert not keep_memory()
