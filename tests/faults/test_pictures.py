"""Streams that come but show nothing true: no class is taken from them."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.edge_runtime.conftest import tiny_bundle
from tests.faults.cameras import Watched, servers, write_pictures
from tests.faults.proof import Proof
from transom.bundle import read_bundle

__all__ = ["tiny_bundle"]

KINDS = ("grey", "green", "half", "cut", "repeated")
UNKNOWN_S = 10.0


def test_no_class_is_taken_from_grey_green_half_cut_or_repeated_pictures(
    tmp_path: Path, tiny_bundle: Any, proof: Proof
) -> None:
    """The door is open; each of these pictures would be judged closed, ajar or open."""
    claim = proof(
        6,
        "five cameras at real MJPEG servers under one daemon, whose streams become grey, green, "
        "half grey, cut off in each picture, or the same picture again and again; then right",
        fast=5,
        full=100,
        unit="streams",
    )
    write_pictures(tmp_path / "pictures")
    slowest_s, false_classes = 0.0, 0
    with ExitStack() as stack:
        cameras = stack.enter_context(servers(len(KINDS), tmp_path / "pictures"))
        bundle = read_bundle(tiny_bundle.path, None)
        watched = stack.enter_context(Watched(bundle, [camera.url for camera in cameras]))
        for _ in range(claim.runs // len(KINDS)):
            for number in range(len(KINDS)):
                watched.wait_for(number, "open", time.monotonic(), 60.0)
            began_s = time.monotonic()
            for kind, camera in zip(KINDS, cameras, strict=True):
                camera.show(kind)
            for number in range(len(KINDS)):
                took_s = watched.wait_for(number, "unknown", began_s, 30.0)
                slowest_s = max(slowest_s, took_s)
            for number, camera in enumerate(cameras):
                told = [said.state for said in watched.states(number) if said.at_s > began_s]
                false_classes += sum(state != "unknown" for state in told)
                camera.show("open")
    assert false_classes == 0
    assert slowest_s <= UNKNOWN_S
    claim.found(
        "{false} false classes, `unknown` after at most {slowest} s",
        false=false_classes,
        slowest=slowest_s,
    )
