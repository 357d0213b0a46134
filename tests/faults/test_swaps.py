"""One network after another in one process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.daemon_swaps import BOUND_MIB
from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.conftest import tiny_bundle
from tests.edge_runtime.updating import Offer, TinyBundle, rewrite, wait_for_step
from tests.faults.place import configuration, write_clip
from tests.faults.proof import Proof

__all__ = ["tiny_bundle"]

FPS = 5
FRAME_S = 1.0 / FPS


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


@contextmanager
def judging(config_file: Path, verdicts: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a daemon that writes down when it judges; see `swapped_daemon`."""
    command = [sys.executable, "-m", "tests.faults.swapped_daemon", str(config_file)]
    with verdicts.open("wb") as out:
        process = subprocess.Popen(command, stdout=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_verdicts(path: Path) -> list[tuple[int, float]]:
    """Return which watch of the zone judged, and when, whole lines only."""
    lines = path.read_text().rpartition("\n")[0].splitlines()
    return [(watch, at_s) for watch, at_s in map(json.loads, lines)]


def test_a_zone_is_judged_on_while_another_bundle_takes_over(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        12,
        "a bundle deployed over MQTT to a daemon that looks five times a second; from the last "
        "verdict with the one before to the first with the new one",
        fast=2,
        full=200,
        unit="swaps",
    )
    write_clip(tmp_path / "clip.avi")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
    verdicts = tmp_path / "verdicts"
    with Broker(tmp_path / "broker") as broker, broker.subscriber("transom/hall-pi/#") as heard:
        text = configuration(tmp_path, broker.port, tiny_bundle.keys, "door",
                             shadow_decisions=10, healthy_s=1, fps=FPS)  # fmt: skip
        (tmp_path / "transom.toml").write_text(text)
        offer = Offer(broker)
        with judging(tmp_path / "transom.toml", verdicts):
            wait_until(lambda: len(read_verdicts(verdicts)) > 10, 60.0)
            for number in range(claim.runs):
                new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2 + number)
                wish = offer.deploy(new)
                wait_for_step(heard, "committed", wish.request)
            was_told = heard.payloads("transom/hall-pi/status")
            states = [json.loads(text) for text in heard.payloads("transom/hall-pi/door/state")]
    steps = list(pairwise(read_verdicts(verdicts)))
    swaps_s = [later - at for (watch, at), (other, later) in steps if watch != other]
    usual_s = [later - at for (watch, at), (other, later) in steps if watch == other]
    assert len(swaps_s) == claim.runs
    assert was_told == ["online"]  # nor does the device go away for it
    known = [state["state"] != "unknown" for state in states]
    assert all(known[known.index(True) :]), states  # nor does a zone
    assert max(state["sequence"] for state in states) == 1 + claim.runs
    usual, longest = float(np.median(usual_s)), max(swaps_s)
    claim.found(
        "at most {longest_s} s, median {median_s}; between other verdicts {usual_s}, at most "
        "{most_s}",
        longest_s=longest,
        median_s=float(np.median(swaps_s)),
        usual_s=usual,
        most_s=max(usual_s),
    )
    assert longest <= max(2.0 * FRAME_S, FRAME_S + max(usual_s)), (longest, max(usual_s))
