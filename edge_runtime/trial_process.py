"""The process in which a bundle is tried before it may serve.

It is started as `python -m edge_runtime.trial_process`. A network can kill its process (an
instruction that the processor does not have), hang it, or take all memory: here that ends a trial
and nothing else. The order is the one line on standard input; then, for every batch to judge, a
line with its size and its pixels. Every answer is a JSON line on standard output.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from edge_runtime.child import die_with, end_after, go_first
from edge_runtime.classifier import Answers, Classifier
from edge_runtime.memory import give_back_memory
from edge_runtime.precision import Chosen, Measured, choose, measure, median_ms
from transom.bundle import Bundle, parse_bundle
from transom.config import WantedPrecision
from transom.crop import Image
from transom.errors import BundleError, ClassifierError
from transom.prediction import UNKNOWN_INDEX
from transom.tasks import UNKNOWN

_NETWORK_CPU_S = 8.0
_TIMES_THE_START = 10.0
"""Processor time for loading the network, its golden vectors and looks at it in each precision: so
much, or so many times what Python and its libraries took to start on this board, whichever is more.
The starter takes less than twice that start; threads share the same work, and have no more."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent wants.

    Attributes:
        path: The bundle's file, verified by the parent.
        digest: SHA-256 of what was verified.
        threads: Threads of the network.
        precision: In which it is to run, as the configuration has it.
        parent: Process with which this one ends.
        memory_bytes: Most memory of its own, beyond which an allocation fails.
    """

    path: str
    digest: str
    threads: int
    precision: WantedPrecision
    parent: int
    memory_bytes: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What loading the network and its golden vectors gave.

    Attributes:
        failed: Why the bundle must not serve; None = its answers are right.
        inference_ms: Median time for one crop, in the precision chosen.
        chosen: In which precision it runs here.
        measured: What was found of both precisions; None = only one was looked at.
    """

    failed: str | None = None
    inference_ms: float | None = None
    chosen: Chosen | None = None
    measured: Measured | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """N crops to judge; their N S S 3 bytes follow the line."""

    count: int


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """By task, what the network says of each crop of a batch: a class or `unknown`."""

    said: dict[str, list[str]]


def main() -> int:
    """Read the order, try the bundle, then judge batches until there are no more."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    answers = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not speak to the parent
    die_with(order.parent)
    go_first(order.memory_bytes)
    end_after(max(_NETWORK_CPU_S, _TIMES_THE_START * time.process_time()))
    try:
        bundle = _load(order)
        classifier = Classifier(bundle, threads=order.threads)
        classifier.check_goldens()
        outcome = _try(bundle, classifier, order)
        give_back_memory()
        _say(answers, outcome)
        end_after(None)  # from here on each answer has its own time
        while line := sys.stdin.buffer.readline():
            crops = _read_crops(msgspec.json.decode(line, type=Batch), bundle)
            _say(answers, Verdicts(said=said_of(classifier.classify(crops), classifier)))
    except (BundleError, ClassifierError) as error:
        _say(answers, Outcome(failed=str(error)))
        return 1
    except MemoryError:
        why = f"network needs more than {order.memory_bytes >> 20} MiB"
        _say(answers, Outcome(failed=why))
        return 1
    return 0


def said_of(answers: Answers, classifier: Classifier) -> dict[str, list[str]]:
    """Return, by task, the class or `unknown` that answers give for each crop."""
    said = {}
    for spec in classifier.manifest.tasks:
        indices = answers.predictions[spec.name].classes.tolist()
        said[spec.name] = [UNKNOWN if i == UNKNOWN_INDEX else spec.classes[i] for i in indices]
    return said


def _load(order: Order) -> Bundle:
    data = Path(order.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != order.digest:
        raise BundleError(f"{order.path}: has changed since it was verified")
    return parse_bundle(data, order.path, None)


def _try(bundle: Bundle, classifier: Classifier, order: Order) -> Outcome:
    """Time the network, and let it run in the precision that is chosen by that."""
    own, crops = classifier.precision, bundle.goldens.crops
    if order.precision == own or len(bundle.precisions) == 1:
        chosen = choose(bundle, order.precision, None)
        return Outcome(inference_ms=median_ms(classifier, crops), chosen=chosen)
    measured = measure(bundle, classifier, threads=order.threads)
    chosen = choose(bundle, order.precision, measured)
    if chosen.precision == own or measured.float32_ms is None:
        return Outcome(inference_ms=measured.int8_ms, chosen=chosen, measured=measured)
    other = Classifier(bundle, threads=order.threads, precision=chosen.precision)
    classifier.become(other)
    return Outcome(inference_ms=measured.float32_ms, chosen=chosen, measured=measured)


def _read_crops(batch: Batch, bundle: Bundle) -> Image:
    side = bundle.manifest.input.size
    data = sys.stdin.buffer.read(batch.count * side * side * 3)
    return np.frombuffer(data, np.uint8).reshape(batch.count, side, side, 3)


def _say(answers: int, answer: msgspec.Struct) -> None:
    os.write(answers, msgspec.json.encode(answer) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
