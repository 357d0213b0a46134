"""What the process no longer needs goes back to the system."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FRAGMENTED = """
import os
from pathlib import Path
import numpy as np

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def fragmented(count):
    '''Return small arrays that lie between gaps as large as a crop.'''
    kept = [(np.ones(100_000, np.uint8), np.ones(2_000, np.uint8)) for _ in range(count)]
    return [small for _, small in kept]
"""


def printed(code: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", FRAGMENTED + code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return [float(value) for value in done.stdout.split()]


def test_gaps_between_what_is_held_go_back_to_the_system() -> None:
    kept, given_back = printed(
        """
from edge_runtime.memory import give_back_free
before = resident_mib()
held = fragmented(400)
kept = resident_mib() - before
give_back_free()
print(kept, resident_mib() - before)
"""
    )
    assert kept > 30.0, "the C library keeps what lies between; nothing to show else"
    assert given_back < 5.0


def test_a_daemon_gives_back_what_it_freed_whenever_it_tells_how_it_is(tiny_bundle: Any) -> None:
    before, after = printed(
        f"""
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.test_daemon import Play, config_of
from transom.bundle import read_bundle
play = Play(read_bundle(Path({str(tiny_bundle.path)!r}), None), config_of(), PlayListCamera, [])
play.turn(1)
held = fragmented(400)
before = resident_mib()
play.turn(31)
assert play.payloads("diagnostics")
print(before, resident_mib())
"""
    )
    assert after < before - 25.0
