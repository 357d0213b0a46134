"""A daemon that says when it judges: `python -m tests.faults.swapped_daemon CONFIGURATION`.

For each verdict of a zone it writes a line of JSON: which watch of the zone came to it, counted
from the start (a bundle that takes the place of another has a watch of its own), and the monotonic
time.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from edge_runtime.camera_set import CameraSet
from edge_runtime.serve import serve
from edge_runtime.zone_watch import ZoneWatch
from transom.config import load_config

_watches: list[ZoneWatch] = []
_take = ZoneWatch._take


def _noted(watch: ZoneWatch, *verdict: Any) -> None:
    _take(watch, *verdict)
    if watch not in _watches:
        _watches.append(watch)
    sys.stdout.write(json.dumps([_watches.index(watch), time.monotonic()]) + "\n")
    sys.stdout.flush()


def main() -> None:
    config_file = Path(sys.argv[1])
    config = load_config(config_file)
    ZoneWatch._take = _noted  # type: ignore[method-assign]
    cameras = CameraSet(config, config_file)
    cameras.start()
    serve(config, config_file, cameras)


if __name__ == "__main__":
    main()
