"""Latency and memory of a network on this machine, measured in a process of its own."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from export.latency import Energy, Figures, Request, Timing
from export.peak import Peak, find_peak
from train.predictor import OnnxPredictor
from transom.bundle import Bundle
from transom.errors import ClassifierError
from transom.golden_check import why_wrong
from transom.session import Precision, faster

BATCHES = (1, 4, 16)
MOST_THREADS = 4
SECONDS = 10.0


class Run(Timing, frozen=True, kw_only=True):
    """Latency of one setting.

    Attributes:
        of_limit: The least time that the cores need for its multiply-accumulates, in INT8, over
            the median: 1 would be the physical limit. None where the cores are not known, and
            for float32.
    """

    of_limit: float | None


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """What `transom bench --json` says.

    Attributes:
        machine: Architecture, processor, cores and runtime.
        name: Of the bundle.
        input_size: Side of the crops in pixels.
        macs: Multiply-accumulates for one crop.
        parameters: Weights and biases.
        bytes: Of the bundle's network file.
        load_ms: From bytes to a session that is ready, milliseconds.
        rss_mb: Resident memory of a process that has classified one crop, MiB.
        energy: What a crop costs, where the board tells.
        peak: What a core can do in 8-bit arithmetic, where that is known.
        speedup: Float32's median over INT8's, one thread and one crop; None where only one of
            them was measured.
        precision: In which a device with one thread on this machine runs the network by itself.
        precision_why: Why, with figures.
        runs: Latency by precision, threads and batch, milliseconds a batch.
    """

    machine: str
    name: str
    input_size: int
    macs: int
    parameters: int
    bytes: int
    load_ms: float
    rss_mb: float
    energy: Energy | None
    peak: Peak | None
    speedup: float | None
    precision: Precision
    precision_why: str
    runs: tuple[Run, ...]


def benchmark(
    bundle: Bundle,
    *,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = BATCHES,
    seconds: float = SECONDS,
) -> Benchmark:
    """Measure a bundle's network.

    Args:
        bundle: What to measure.
        threads: Numbers of threads; None = 1 to 4, as far as there are cores.
        batches: Numbers of crops.
        seconds: About how long the runs go on.

    Raises:
        ClassifierError: The network does not run on this machine.
    """
    size = bundle.manifest.input.size
    figures = time_models(
        _twins(bundle),
        size,
        unrounded=bundle.precisions[1:],
        threads=threads,
        batches=batches,
        seconds=seconds,
    )
    precision, why = _choice(bundle, figures.runs)
    macs, parameters = _cost(bundle)
    peak = find_peak()
    return Benchmark(
        machine=machine(),
        name=bundle.manifest.name,
        input_size=size,
        macs=macs,
        parameters=parameters,
        bytes=len(bundle.model),
        load_ms=figures.load_ms,
        rss_mb=figures.rss_mb,
        energy=figures.energy,
        peak=peak,
        speedup=_speedup(figures.runs),
        precision=precision,
        precision_why=why,
        runs=tuple(_run(timing, peak, macs) for timing in figures.runs),
    )


def _twins(bundle: Bundle) -> dict[str, bytes]:
    """Return the bundle's network by the precisions to time it in.

    One that runs in INT8 only has a float32 twin beside it, where onnx is installed to make it.
    """
    precision = bundle.manifest.precision
    if len(bundle.precisions) > 1:
        return dict.fromkeys(bundle.precisions, bundle.model)
    if precision != "int8" or find_spec("onnx") is None:
        return {precision: bundle.model}
    from export.dequantise import dequantise

    return {precision: bundle.model, "float32": dequantise(bundle.model)}


def _choice(bundle: Bundle, runs: Sequence[Timing]) -> tuple[Precision, str]:
    """Return in which precision a device runs the network on this machine, and why."""
    own = bundle.manifest.precision
    if len(bundle.precisions) == 1:
        return own, f"the bundle runs in {own} only"
    manifest, goldens = bundle.manifest, bundle.goldens
    said = OnnxPredictor(bundle.model, manifest, precision="float32")(goldens.crops)
    wrong = why_wrong(goldens, manifest.task_set(), said.logits, "float32")
    if wrong is not None:
        return own, f"float32 is not used: {wrong}"
    ms = _alone(runs)
    if len(ms) < len(bundle.precisions):
        return own, "not measured: that needs one thread and one crop"
    why = f"int8 takes {ms['int8']:.2f} ms a crop, float32 {ms['float32']:.2f} ms"
    return faster(ms["int8"], ms["float32"]), why


def _alone(runs: Sequence[Timing]) -> dict[str, float]:
    """Return the median with one thread and one crop, by precision."""
    return {run.precision: run.median_ms for run in runs if (run.threads, run.batch) == (1, 1)}


def _run(timing: Timing, peak: Peak | None, macs: int) -> Run:
    of_limit = None
    if peak is not None and timing.precision == "int8":
        of_limit = peak.least_ms(macs * timing.batch, timing.threads) / timing.median_ms
    return Run(**msgspec.structs.asdict(timing), of_limit=of_limit)


def _speedup(runs: Sequence[Timing]) -> float | None:
    alone = _alone(runs)
    return alone["float32"] / alone["int8"] if alone.keys() >= {"int8", "float32"} else None


def time_models(
    models: Mapping[str, bytes],
    size: int,
    *,
    sizes: Mapping[str, int] | None = None,
    unrounded: Sequence[str] = (),
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = BATCHES,
    seconds: float = SECONDS,
) -> Figures:
    """Time networks against each other, turn by turn, in one fresh process.

    Args:
        models: ONNX files by name, such as their precision; timings state it as `precision`.
        size: Side of their crops in pixels.
        sizes: By name of the model, where it is another.
        unrounded: Names of INT8 models that are run in float32.
        threads: Numbers of threads; None = 1 to 4, as far as there are cores.
        batches: Numbers of crops.
        seconds: About how long the runs go on.

    Raises:
        ClassifierError: A network does not run on this machine.
    """
    request = Request(
        models=dict(models),
        size=size,
        sizes=dict(sizes or {}),
        unrounded=tuple(unrounded),
        threads=tuple(threads or range(1, min(MOST_THREADS, usable_cores()) + 1)),
        batches=tuple(batches),
        seconds=seconds,
    )
    child = subprocess.run(
        [sys.executable, "-m", "export.latency"],
        input=msgspec.msgpack.encode(request),
        capture_output=True,
        check=False,
    )
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {child.returncode}"
        raise ClassifierError(f"the network does not run on this machine: {last}")
    return msgspec.json.decode(child.stdout, type=Figures)


def machine() -> str:
    """Describe this machine in one line: architecture, processor, cores, runtime."""
    parts = [platform.machine(), _processor(), f"{usable_cores()} cores"]
    parts.append(f"onnxruntime {version('onnxruntime')}")
    return ", ".join(part for part in parts if part)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _cost(bundle: Bundle) -> tuple[int, int]:
    """Read the cost that the export counted: a device has no onnx package to count it again."""
    cost: dict[str, Any] = bundle.report.get("cost", {})
    if {"macs", "parameters"} <= cost.keys():
        return int(cost["macs"]), int(cost["parameters"])
    from export.cost import count_cost  # a bundle of another writer: only here onnx is needed

    counted = count_cost(bundle.model)
    return counted.macs, counted.parameters


def _processor() -> str:
    model = Path("/proc/device-tree/model")
    if model.exists():
        return model.read_text("utf-8", "replace").strip("\0 \n")
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""
