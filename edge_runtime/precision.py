"""In which precision a bundle's network runs here: measured once on a machine, then remembered.

Which is faster depends on the processor, and only the device knows its own. Both are timed turn by
turn, so that a machine that slows down does so for both, and float32 counts only where it answers
the bundle's goldens within the tolerance that the bundle gives it.
"""

import hashlib
import logging
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_runtime.classifier import RUNTIME, Classifier
from transom.atomic import write_file
from transom.bundle import Bundle
from transom.config import WantedPrecision
from transom.crop import Image
from transom.errors import ClassifierError
from transom.messages import Payload
from transom.session import Precision, faster

_log = logging.getLogger(__name__)

FILE_NAME = "precision.json"
"""In the state directory."""

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 40
_SECONDS = 2.0
"""Of time, and of processor time, which several threads take at once."""

_REMEMBERED = 16


class Measured(Payload, frozen=True, kw_only=True):
    """What a bundle's network takes here.

    Attributes:
        int8_ms: Median for one crop.
        float32_ms: The same in float32; None = it cannot be used, and `refused` says why.
        refused: Empty where it can.
    """

    int8_ms: float
    float32_ms: float | None = None
    refused: str = ""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """In which precision a network runs, and why, in words with figures."""

    precision: Precision
    why: str


def choose(bundle: Bundle, wanted: WantedPrecision, measured: Measured | None) -> Chosen:
    """Return in which precision a bundle runs on this machine.

    Args:
        bundle: What serves.
        wanted: What the configuration asks for (`models.precision`).
        measured: What is known of it here; None = nothing yet.
    """
    own = bundle.manifest.precision
    if len(bundle.precisions) == 1:
        return Chosen(precision=own, why=f"the bundle runs in {own} only")
    if measured is not None and measured.float32_ms is None:
        return Chosen(precision=own, why=f"float32 is not used: {measured.refused}")
    figures = "not measured yet" if measured is None else _figures(measured)
    if wanted != "auto":
        return Chosen(precision=wanted, why=f"models.precision; {figures}")
    if measured is None or measured.float32_ms is None:
        return Chosen(precision=own, why=figures)
    return Chosen(precision=faster(measured.int8_ms, measured.float32_ms), why=figures)


def _figures(measured: Measured) -> str:
    return f"int8 takes {measured.int8_ms:.2f} ms a crop, float32 {measured.float32_ms:.2f} ms"


@dataclass(frozen=True)
class Opened:
    """A bundle whose network is at work, its answers to the goldens right."""

    bundle: Bundle
    classifier: Classifier
    chosen: Chosen


def open_classifier(
    bundle: Bundle, wanted: WantedPrecision, measured: Measured | None, *, threads: int
) -> tuple[Classifier, Chosen]:
    """Return the network at work in the precision chosen, its answers to the goldens right.

    Where float32 does not answer rightly, the network runs in its own precision.

    Raises:
        ClassifierError: The network does not run here, or answers wrongly in its own precision.
    """
    chosen = choose(bundle, wanted, measured)
    own = bundle.manifest.precision
    if chosen.precision != own:
        try:
            return _checked(bundle, chosen.precision, threads), chosen
        except ClassifierError as error:
            _log.warning("float32 is not used reason=%s", error)
            chosen = Chosen(precision=own, why=f"float32 is not used: {error}")
    return _checked(bundle, own, threads), chosen


def _checked(bundle: Bundle, precision: Precision, threads: int) -> Classifier:
    classifier = Classifier(bundle, threads=threads, precision=precision)
    classifier.check_goldens()
    return classifier


def measure(bundle: Bundle, int8: Classifier, *, threads: int) -> Measured:
    """Time a network in both precisions, in two seconds or five rounds, whichever is more.

    Args:
        bundle: One whose network runs in both.
        int8: The network as it is stored, its goldens checked.
        threads: Threads of the network.
    """
    crops = bundle.goldens.crops
    try:
        float32 = _checked(bundle, "float32", threads)
    except ClassifierError as error:
        return Measured(int8_ms=median_ms(int8, crops), refused=str(error))
    int8_ms, float32_ms = _take_turns((int8, float32), crops)
    return Measured(int8_ms=int8_ms, float32_ms=float32_ms)


def median_ms(classifier: Classifier, crops: Image) -> float:
    """Return the median time of a network for one of some crops, milliseconds."""
    return _take_turns((classifier,), crops)[0]


def _take_turns(classifiers: tuple[Classifier, ...], crops: Image) -> list[float]:
    times_ms: list[list[float]] = [[] for _ in classifiers]
    until_s, until_cpu_s = time.perf_counter() + _SECONDS, time.process_time() + _SECONDS
    for turn in range(_MOST_ROUNDS):
        is_late = time.perf_counter() > until_s or time.process_time() > until_cpu_s
        if turn >= _LEAST_ROUNDS and is_late:
            break
        row = turn % len(crops)
        for classifier, found in zip(classifiers, times_ms, strict=True):
            began_s = time.perf_counter()
            classifier.classify(crops[row : row + 1])
            found.append(1000.0 * (time.perf_counter() - began_s))
    return [round(statistics.median(found), 3) for found in times_ms]


class PrecisionFile:
    """What was measured of bundles on this machine, in the state directory.

    Another processor, another onnxruntime or another number of threads is another machine.

    Args:
        folder: The state directory.
        threads: Threads of the network.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        self._path = folder / FILE_NAME
        self._machine = _machine(threads)

    def read(self, digest: str) -> Measured | None:
        """Return what was measured of a bundle here; None = nothing, or nothing readable."""
        return self._read().get(self._key(digest))

    def write(self, digest: str, measured: Measured) -> None:
        """Remember it; where that fails it is measured again."""
        known = self._read()
        known.pop(self._key(digest), None)
        kept = dict(list(known.items())[1 - _REMEMBERED :])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            data = msgspec.json.encode({**kept, self._key(digest): measured})
            write_file(self._path, data, mode=0o600)
        except OSError as error:
            _log.warning("precision cannot be remembered file=%s reason=%s", self._path, error)

    def _read(self) -> dict[str, Measured]:
        try:
            data = self._path.read_bytes()
            return msgspec.json.decode(data, type=dict[str, Measured])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("precision is measured anew file=%s reason=%s", self._path, error)
            return {}

    def _key(self, digest: str) -> str:
        return f"{digest} {self._machine}"


def _machine(threads: int) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    # Lines that vary from moment to moment, such as the clock's, are left out.
    of_core = ("model name", "flags", "Features", "CPU implementer", "CPU part", "Hardware")
    seen = sorted({line for line in lines if line.startswith(of_core)})
    text = "\n".join((platform.machine(), RUNTIME, str(threads), *seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
