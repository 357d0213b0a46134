"""Latency and memory of a network on this machine, measured in a process of its own."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from export.latency import Figures, Request, Timing
from transom.bundle import Bundle
from transom.errors import ClassifierError

BATCHES = (1, 4, 16)
MOST_THREADS = 4
SECONDS = 10.0


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
    runs: tuple[Timing, ...]


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
    size, precision = bundle.manifest.input.size, bundle.manifest.precision
    figures = time_models(
        {precision: bundle.model}, size, threads=threads, batches=batches, seconds=seconds
    )
    macs, parameters = _cost(bundle)
    return Benchmark(
        machine=machine(),
        name=bundle.manifest.name,
        input_size=size,
        macs=macs,
        parameters=parameters,
        bytes=len(bundle.model),
        load_ms=figures.load_ms,
        rss_mb=figures.rss_mb,
        runs=figures.runs,
    )


def time_models(
    models: Mapping[str, bytes],
    size: int,
    *,
    sizes: Mapping[str, int] | None = None,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = BATCHES,
    seconds: float = SECONDS,
) -> Figures:
    """Time networks against each other, turn by turn, in one fresh process.

    Args:
        models: ONNX files by name, such as their precision; timings state it as `precision`.
        size: Side of their crops in pixels.
        sizes: By name of the model, where it is another.
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
