"""Cameras whose servers fail: noticed, told, healed, and no matter to other cameras."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.edge_runtime.conftest import tiny_bundle
from tests.faults.cameras import (
    CameraServer,
    RtspCameraServer,
    Watched,
    servers,
    write_pictures,
)
from tests.faults.network import Cable
from tests.faults.proof import Proof
from transom.bundle import read_bundle

__all__ = ["tiny_bundle"]

UNKNOWN_S, HEALED_S = 6.0, 10.0
GOOD_FPS = 2.0
"""Of the camera that nothing happens to: its cycle is long enough for a machine that is busy with
other tests."""


@dataclass(frozen=True)
class Kind:
    """A kind of camera, and what it can suffer: one camera each, and one more that suffers nothing.

    Attributes:
        method: What is done, in the words of the page.
        descriptors: The same of what is counted beside it.
        full: Outages with the full number.
    """

    server: type[CameraServer]
    faults: tuple[str, ...]
    method: str
    descriptors: str
    full: int


MJPEG = Kind(
    CameraServer,
    ("frozen", "dripping", "half-open", "garbage", "vanished"),
    "six cameras at real MJPEG servers under one daemon; five fail at once: frozen (SIGSTOP), "
    "a byte at a time, half-open (packets dropped), garbage, killed; then return",
    "descriptors, before and after these outages",
    full=100,
)
RTSP = Kind(
    RtspCameraServer,
    ("frozen", "half-open", "vanished"),
    "four cameras at real RTSP servers (by TCP) under one daemon; three fail at once: frozen "
    "(SIGSTOP), half-open (packets dropped), killed; then return",
    "descriptors, before and after outages of RTSP cameras",
    full=99,
)


def break_(fault: str, server: CameraServer, cable: Cable) -> None:
    match fault:
        case "frozen":
            server.freeze()
        case "dripping":
            server.show("drip")
        case "half-open":
            cable.cut(server.port)
        case "garbage":
            server.show("garbage")
        case "vanished":
            server.kill()


def repair(fault: str, server: CameraServer, cable: Cable) -> None:
    match fault:
        case "frozen":
            server.thaw()
        case "half-open":
            cable.mend(server.port)
        case "vanished":
            server.start()
        case _:
            server.show("open")


def outage(
    faults: tuple[str, ...], watched: Watched, cameras: list[CameraServer], cable: Cable
) -> Iterator[tuple[str, float]]:
    """Break all at once; yield how long each took to become unknown."""
    began_s = []
    for fault, camera in zip(faults, cameras, strict=False):
        began_s.append(time.monotonic())
        break_(fault, camera, cable)
    for number, fault in enumerate(faults):
        yield fault, watched.wait_for(number, "unknown", began_s[number], 30.0)


def recovery(
    faults: tuple[str, ...], watched: Watched, cameras: list[CameraServer], cable: Cable
) -> Iterator[tuple[str, float]]:
    """Repair all at once; yield how long each took, from its return on, to have a class again."""
    began_s = []
    with cable.at_broker():
        for fault, camera in zip(faults, cameras, strict=False):
            repair(fault, camera, cable)
            camera.wait()
            began_s.append(time.monotonic())
    for number, fault in enumerate(faults):
        yield fault, watched.wait_for(number, "open", began_s[number], 60.0)


def descriptors_open() -> int:
    """Return how many this process has; what earlier tests left to the collector is not counted."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks to cut")
@pytest.mark.parametrize("kind", [MJPEG, RTSP], ids=["mjpeg", "rtsp"])
def test_a_camera_that_fails_is_unknown_in_time_heals_in_time_and_costs_others_nothing(
    kind: Kind, tmp_path: Path, tiny_bundle: Any, proof: Proof
) -> None:
    faults, good_one = kind.faults, len(kind.faults)
    claim = proof(5, kind.method, fast=len(faults), full=kind.full, unit="outages")
    descriptors = proof(19, kind.descriptors, fast=len(faults), full=kind.full, unit="outages")
    write_pictures(tmp_path / "pictures")
    bundle = read_bundle(tiny_bundle.path, None)
    unknown_s: dict[str, list[float]] = {fault: [] for fault in faults}
    healed_s: dict[str, list[float]] = {fault: [] for fault in faults}
    with Cable() as cable, ExitStack() as stack:
        with cable.at_broker():
            pictures, host = tmp_path / "pictures", cable.broker_address
            there = servers(len(faults) + 1, pictures, host, kind.server)
            cameras = stack.enter_context(there)
        with cable.at_device():
            urls, fps = [camera.url for camera in cameras], [5.0] * len(faults) + [GOOD_FPS]
            watched = stack.enter_context(Watched(bundle, urls, fps))
        for number in range(len(cameras)):
            watched.wait_for(number, "open", time.monotonic(), 60.0)
        numbers_from = len(watched.cameras[good_one].numbers)
        open_before = descriptors_open()
        for _ in range(claim.runs // len(faults)):
            for fault, took_s in outage(faults, watched, cameras, cable):
                unknown_s[fault].append(took_s)
            for fault, took_s in recovery(faults, watched, cameras, cable):
                healed_s[fault].append(took_s)
        open_after = descriptors_open()
        good = watched.cameras[good_one].numbers[numbers_from:]
        states = [said.state for said in watched.states(good_one)]
    worst_unknown = {fault: max(times) for fault, times in unknown_s.items()}
    worst_healed = {fault: max(times) for fault, times in healed_s.items()}
    assert max(worst_unknown.values()) <= UNKNOWN_S, worst_unknown
    assert max(worst_healed.values()) <= HEALED_S, worst_healed
    assert open_after == open_before
    missed = int((np.diff(good) - 1).sum())
    assert missed == 0
    assert states == ["unknown", "open"]
    claim.found(
        "`unknown` after {median_unknown} s, at most {unknown}; a class again after "
        "{median_healed} s, at most {healed}; of {cycles} frames of the camera left alone "
        "{missed} missed",
        median_unknown=float(np.median([t for times in unknown_s.values() for t in times])),
        unknown=max(worst_unknown.values()),
        median_healed=float(np.median([t for times in healed_s.values() for t in times])),
        healed=max(worst_healed.values()),
        cycles=len(good),
        missed=missed,
    )
    descriptors.found("{before}, then {after}", before=open_before, after=open_after)
