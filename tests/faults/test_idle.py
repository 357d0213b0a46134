"""What a network costs between two looks."""

import threading
import time
from collections.abc import Callable

import numpy as np
import onnxruntime

from edge_runtime.classifier import Classifier
from tests.faults.proof import Proof
from transom.bundle import read_bundle
from transom.crop import Image
from transom.starter import STARTER, bundle_path

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
