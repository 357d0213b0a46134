"""Measure what loading one network after another costs in memory.

    python -m benchmarks.daemon_swaps                 # the starter, 200 times
    python -m benchmarks.daemon_swaps --swaps 50 --bundle home.bundle

A swap is what the daemon does when another bundle is to serve: load the network from the verified
bytes, ask it the golden crops, use it instead of the one before, give memory back to the system.
Memory is the process' resident set; growth is counted from the tenth swap, when what is loaded once
has been loaded.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from edge_runtime.classifier import Classifier
from edge_runtime.memory import give_back_memory
from transom.bundle import read_bundle
from transom.starter import STARTER, bundle_path

BOUND_MIB = 5.0
_SETTLED = 10


def resident_mib() -> float:
    """Return the resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the starter")
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--keep", action="store_true", help="do not give memory back")
    arguments = parser.parse_args()
    bundle = read_bundle(arguments.bundle or bundle_path(STARTER), None)
    size = bundle.manifest.input.size
    crops = np.full((1, size, size, 3), 127, np.uint8)
    memory_mib, times_s = [], []
    classifier = None
    for _ in range(arguments.swaps):
        began_s = time.perf_counter()
        following = Classifier(bundle)
        following.check_goldens()
        classifier = following
        del following
        if not arguments.keep:
            give_back_memory()
        times_s.append(time.perf_counter() - began_s)
        classifier.classify(crops)
        memory_mib.append(resident_mib())
    settled = memory_mib[min(_SETTLED, len(memory_mib) - 1)]
    growth_mib = max(memory_mib[-_SETTLED:]) - settled
    figures = {
        "swaps": arguments.swaps,
        "resident_mib": {
            "first": round(memory_mib[0], 1),
            "settled": round(settled, 1),
            "most": round(max(memory_mib), 1),
            "last": round(memory_mib[-1], 1),
        },
        "growth_mib": round(growth_mib, 1),
        "median_swap_s": round(float(np.median(times_s)), 3),
        "beyond_bounds": [f"growth_mib > {BOUND_MIB}"] if growth_mib > BOUND_MIB else [],
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
