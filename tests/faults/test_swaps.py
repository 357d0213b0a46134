"""One network after another in one process."""

import json
import subprocess
import sys

from benchmarks.daemon_swaps import BOUND_MIB
from tests.faults.proof import Proof


def test_many_swaps_of_the_network_do_not_grow_memory(proof: Proof) -> None:
    claim = proof(
        12,
        "the starter loaded, asked its golden crops and put in the place of the one before "
        "(`benchmarks/daemon_swaps.py`); memory only, the gap is not measured",
        fast=30,
        full=200,
        unit="swaps",
    )
    command = [sys.executable, "-m", "benchmarks.daemon_swaps", "--swaps", str(claim.runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["growth_mib"] <= BOUND_MIB
    claim.found("{growth_mib} MiB from the tenth swap on", growth_mib=figures["growth_mib"])
