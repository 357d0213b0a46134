"""Measure the daemon's start, in turns with that of another checkout.

    python -m benchmarks.start                       # this one alone
    python -m benchmarks.start --before ../transom-0 # and another, in turns

From the process to the first state with a class at a subscriber: `transom run` with a real
mosquitto on loopback, a drawn clip of 640 x 480 in H.264 and a bundle, each time with an empty
state directory. As where Transom is installed, Python's byte code is there; it is written by a
first turn that does not count. On a machine that others use durations say little, so that what
counts is the ratio of two neighbouring turns, and beside it the processor time that main process
and camera had used by then.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.daemon_clip import (
    CONFIG,
    WATCHED_FPS,
    ZONE,
    draw_clip,
    first_state,
    make_tiny_bundle,
    processor_s,
)
from tests.edge_runtime.broker import Broker

PATIENCE_S = 120.0
HERE = Path(__file__).parent.parent


def start_once(checkout: Path, folder: Path, bundle: str, keys: Path, clip: Path) -> dict[str, Any]:
    """Return how long one start takes, and the processor time of it, seconds."""
    folder.mkdir()
    config_file = folder / "transom.toml"
    with Broker(folder / "broker") as broker:
        config_file.write_text(
            CONFIG.format(folder=folder, port=broker.port, keys=keys, bundle=bundle, clip=clip,
                          fps=WATCHED_FPS, zone=ZONE)
        )  # fmt: skip
        seen = first_state(broker.port)
        began_s = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "transom", "run", "--config", str(config_file)],
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(checkout, folder.parent / "bytecode"),
        ) as daemon:
            has_state = seen.wait(PATIENCE_S)
            took_s = time.monotonic() - began_s
            children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
            used_s = processor_s(daemon.pid) + sum(processor_s(int(child)) for child in children)
            daemon.terminate()
    if not has_state:
        sys.exit(f"{checkout}: no state within {PATIENCE_S:.0f} s")
    return {"start_s": took_s, "processor_s": used_s}


def _environment(checkout: Path, bytecode: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(bytecode / checkout.name)}
    without = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return without | own


def measure(checkouts: dict[str, Path], turns: int, bundle: str | None) -> dict[str, Any]:
    """Return the figures of each checkout, and the ratio of neighbouring turns."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_clip(folder / "clip.mp4", "still")
        tiny, keys = make_tiny_bundle(folder)
        for turn in range(turns + 1):
            for name, checkout in checkouts.items():
                its = folder / f"{name}-{turn}"
                once = start_once(checkout, its, bundle or str(tiny), keys, folder / "clip.mp4")
                if turn:
                    found[name].append(once)
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "turns": turns}
    for name, turns_of in found.items():
        for key in ("start_s", "processor_s"):
            values = [once[key] for once in turns_of]
            figures[f"{name}_{key}"] = [round(f(values), 2) for f in (statistics.median, min, max)]
    if "before" in found:
        for key in ("start_s", "processor_s"):
            pairs = zip(found["now"], found["before"], strict=True)
            ratios = [now[key] / before[key] for now, before in pairs]
            values = (statistics.median(ratios), min(ratios), max(ratios))
            figures[f"now_to_before_{key}"] = [round(value, 2) for value in values]
    return figures


def main() -> None:
    """Print the figures as one JSON object: median, least and most over the turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout, started in turns")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--bundle", help="a bundle, or the word starter; default: a tiny one")
    arguments = parser.parse_args()
    checkouts = {"now": HERE}
    if arguments.before is not None:
        checkouts["before"] = arguments.before.resolve()
    print(json.dumps(measure(checkouts, arguments.turns, arguments.bundle), indent=1))


if __name__ == "__main__":
    main()
