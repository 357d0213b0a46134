"""What a device costs while nothing happens: its processor between two looks, and its card."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from edge_runtime.classifier import Classifier
from edge_runtime.view_store import VIEWS
from tests.edge_runtime.broker import wait_until
from tests.edge_runtime.updating import TinyBundle
from tests.faults.house import House, descendants
from tests.faults.proof import Proof
from transom.bundle import read_bundle
from transom.crop import Image
from transom.starter import STARTER, bundle_path

QUIET_S = 5.0

LOOKS, FPS, THREADS = 16, 4.0, 2


def cpu_s(look: Callable[[], object]) -> float:
    """Return the processor time of this process while it looks four times a second."""
    look()
    clock = threading.Event()
    began_s = time.process_time()
    for _ in range(LOOKS):
        look()
        clock.wait(1.0 / FPS)
    return time.process_time() - began_s


def test_threads_do_not_turn_between_looks(proof: Proof) -> None:
    claim = proof(
        20,
        "the starter, two threads, four looks a second for four seconds, against the same network "
        "with onnxruntime's default",
    )
    bundle = read_bundle(bundle_path(STARTER), None)
    size = bundle.manifest.input.size
    crops: Image = np.full((1, size, size, 3), 127, np.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    classifier = Classifier(bundle, threads=THREADS)
    ours_s = cpu_s(lambda: classifier.classify(crops))
    plain = onnxruntime.InferenceSession(bundle.model, options)
    default_s = cpu_s(lambda: plain.run(None, {"image": crops}))
    assert ours_s <= 0.4 * default_s
    claim.found(
        "{share} of the default's processor time", share=f"{100.0 * ours_s / default_s:.0f} %"
    )


def bytes_written(processes: list[int]) -> int:
    """Return what processes have given to the disk since they began."""
    counts = (Path(f"/proc/{process}/io").read_text() for process in processes)
    return sum(int(re.findall(r"^write_bytes: (\d+)", text, re.M)[0]) for text in counts)


def test_a_device_at_whose_door_nothing_happens_writes_nothing(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        4, "`transom run` whose door stays as it is, and its camera's process, once they have "
        "written down what the camera looks at", fast=5, full=600, unit="seconds",
    )  # fmt: skip
    house, clock = House(tmp_path, tiny_bundle, tables="", zone=""), threading.Event()

    def grown(seconds: float) -> int:
        before = bytes_written(processes)
        clock.wait(seconds)
        return bytes_written(processes) - before

    with house.lived_in() as (_, daemon):
        processes = descendants(daemon)
        wait_until(lambda: list(house.state.glob(f"{VIEWS}/*.view")), 120.0)
        wait_until(lambda: grown(QUIET_S) == 0, 60.0)  # what it had begun to write is written
        written = grown(claim.runs)
    assert len(processes) > 1
    assert written == 0
    claim.found("{written} bytes written (/proc/PID/io)", written=written)
