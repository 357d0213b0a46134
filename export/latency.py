"""A program of its own that times networks: request on stdin, figures on stdout.

It runs in a fresh process and imports what a device imports, so that the memory it states is that
of the network and not of torch. All settings take turns, round by round: on a machine whose speed
drifts, each meets the same drift.
"""

import gc
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

from export.energy import PowerMeter, find_meter
from transom.session import open_session

_LEAST_ROUNDS = 3
_MOST_ROUNDS = 60
_REPEATS = 5
_ENERGY_S = 1.5


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to time.

    Attributes:
        models: ONNX files by name, such as their precision; memory and load time are stated for
            the first.
        size: Side of the crops in pixels.
        sizes: By name of the model, where it is another.
        unrounded: Names of INT8 models that are run in float32.
        threads: Numbers of threads to try.
        batches: Numbers of crops to try.
        seconds: About how long to go on; each setting is run at least 15 times.
    """

    models: dict[str, bytes]
    size: int
    sizes: dict[str, int] = {}
    unrounded: tuple[str, ...] = ()
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of one setting, in milliseconds for the whole batch."""

    precision: str
    threads: int
    batch: int
    median_ms: float
    p95_ms: float


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What the first network costs in electricity, one thread, one crop at a time.

    Attributes:
        source: What told it.
        idle_w: Power of the board while nothing runs, watts.
        busy_w: While it classifies one crop after the other, watts.
        mj_per_crop: Energy that a crop costs on top of the idle board, millijoules.
    """

    source: str
    idle_w: float
    busy_w: float
    mj_per_crop: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        load_ms: From bytes to a session that is ready, milliseconds, one thread.
        rss_mb: Resident memory of a process that classified one crop, MiB.
        energy: Where the board tells.
        runs: Latencies, in the order of models, threads, batches.
    """

    load_ms: float
    rss_mb: float
    energy: Energy | None
    runs: tuple[Timing, ...]


def measure(request: Request) -> Figures:
    """Time every model with every number of threads and crops."""
    noise = {name: _noise(request, name) for name in request.models}
    name, first = next(iter(request.models.items()))
    started = time.perf_counter()
    session = open_session(onnxruntime, first, threads=1)
    load_ms = 1000 * (time.perf_counter() - started)
    session.run(None, {"image": noise[name][:1]})
    gc.collect()
    # The request and the noise are not the network's: a device holds neither.
    extra = sum(map(len, request.models.values())) + sum(crops.nbytes for crops in noise.values())
    rss_mb = (_resident_bytes() - extra) / 2**20
    energy = _energy(find_meter(), session, noise[name][:1])
    del session
    runs = _take_turns(request, noise)
    return Figures(load_ms=load_ms, rss_mb=rss_mb, energy=energy, runs=runs)


def _energy(
    meter: PowerMeter | None, session: onnxruntime.InferenceSession, crop: np.ndarray
) -> Energy | None:
    if meter is None:
        return None
    idle_w, _ = meter.mean_watts(lambda: time.sleep(0.01), _ENERGY_S)
    busy_w, done = meter.mean_watts(lambda: session.run(None, {"image": crop}), _ENERGY_S)
    return Energy(
        source=meter.source,
        idle_w=idle_w,
        busy_w=busy_w,
        mj_per_crop=1000 * (busy_w - idle_w) * _ENERGY_S / done,
    )


def _noise(request: Request, name: str) -> np.ndarray:
    size = request.sizes.get(name, request.size)
    shape = (max(request.batches), size, size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _take_turns(request: Request, noise: Mapping[str, np.ndarray]) -> tuple[Timing, ...]:
    settings = list(itertools.product(request.models, request.threads, request.batches))
    sessions = {
        (name, threads): open_session(
            onnxruntime,
            request.models[name],
            threads=threads,
            without_rounding=name in request.unrounded,
        )
        for name, threads in itertools.product(request.models, request.threads)
    }
    times: dict[tuple[str, int, int], list[float]] = {setting: [] for setting in settings}
    stop = time.perf_counter() + request.seconds
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() > stop:
            break
        for name, threads, batch in settings:
            session = sessions[name, threads]
            times[name, threads, batch] += _time(session, noise[name][:batch])
    return tuple(_timing(setting, found) for setting, found in times.items())


def _time(session: onnxruntime.InferenceSession, crops: np.ndarray) -> list[float]:
    session.run(None, {"image": crops})  # the first after a pause pays for cold caches
    found = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        session.run(None, {"image": crops})
        found.append(1000 * (time.perf_counter() - started))
    return found


def _timing(setting: tuple[str, int, int], found: Sequence[float]) -> Timing:
    precision, threads, batch = setting
    median, p95 = (float(value) for value in np.percentile(found, [50, 95]))
    return Timing(precision=precision, threads=threads, batch=batch, median_ms=median, p95_ms=p95)


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text("ascii", "replace")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    asked = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(measure(asked)))
