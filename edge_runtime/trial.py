"""Trying a bundle in a process of its own; see `trial_process` for the other end."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import numpy as np

from edge_runtime.precision import Chosen, Measured
from edge_runtime.trial_process import Batch, Order, Outcome, Verdicts
from transom.config import ModelsConfig
from transom.crop import Image
from transom.errors import UpdateError

START_S = 120.0
"""For Python, onnxruntime and the golden vectors, on the slowest board under load."""

ANSWER_S = 30.0
MEMORY_BYTES = 512 << 20

_PART_BYTES = 65536
_END_S = 2.0
_LAST_WORDS = 300

Answer = TypeVar("Answer", Outcome, Verdicts)


@dataclass(frozen=True)
class Tried:
    """What a trial that was passed has found.

    Attributes:
        inference_ms: Median time for one crop, in the precision chosen.
        chosen: In which precision the network runs here, and why.
        measured: What was found of both precisions; None = only one was looked at.
    """

    inference_ms: float
    chosen: Chosen
    measured: Measured | None


class Trial:
    """A bundle at work in a child process.

    Use it from one thread that lives as long as the trial: the kernel ends the process with the
    thread that made it.

    Args:
        path: A bundle's file that was verified.
        digest: SHA-256 of what was verified.
        config: Threads of the network, and its precision.
    """

    def __init__(self, path: Path, digest: str, config: ModelsConfig) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.trial_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)
        self._unread = b""
        order = Order(
            path=str(path),
            digest=digest,
            threads=config.threads,
            precision=config.precision,
            parent=os.getpid(),
            memory_bytes=MEMORY_BYTES,
        )
        self._write(msgspec.json.encode(order) + b"\n", ANSWER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._errors.close()

    @property
    def process_id(self) -> int:
        """The process in which the network works."""
        return self._process.pid

    def run(self) -> Tried:
        """Load the network, compare its answers with the golden ones, and time it.

        Raises:
            UpdateError: It cannot be loaded, answers wrongly, hangs, or ends its process.
        """
        outcome = self._answer(Outcome, START_S)
        if outcome.failed is not None or outcome.inference_ms is None or outcome.chosen is None:
            raise UpdateError(outcome.failed or "trial gave no time")
        return Tried(outcome.inference_ms, outcome.chosen, outcome.measured)

    def kill(self) -> None:
        """End the process; from any thread. Who waits for it has an `UpdateError`."""
        self._process.kill()

    def judge(self, crops: Image) -> dict[str, list[str]]:
        """Return, by task, what the network says of each of (N, S, S, 3) uint8 crops.

        Raises:
            UpdateError: It fails, hangs, or ends its process.
        """
        header = msgspec.json.encode(Batch(count=len(crops))) + b"\n"
        self._write(header + np.ascontiguousarray(crops).tobytes(), ANSWER_S)
        return self._answer(Verdicts, ANSWER_S).said

    def _write(self, data: bytes, within_s: float) -> None:
        """Write without waiting for ever: a process that hangs reads nothing."""
        until_s = time.monotonic() + within_s
        view = memoryview(data)
        while view:
            _, ready, _ = select.select([], [self._input], [], until_s - time.monotonic())
            if not ready:
                raise UpdateError(f"network does not answer within {within_s:.0f} s")
            try:
                view = view[os.write(self._input.fileno(), view[:_PART_BYTES]) :]
            except BrokenPipeError as error:
                raise UpdateError(self._how_it_ended()) from error

    def _answer(self, kind: type[Answer], within_s: float) -> Answer:
        line = self._read_line(within_s)
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError:
            raise UpdateError(_why(line)) from None

    def _read_line(self, within_s: float) -> bytes:
        until_s = time.monotonic() + within_s
        while b"\n" not in self._unread:
            left_s = max(until_s - time.monotonic(), 0.0)
            ready, _, _ = select.select([self._output], [], [], left_s)
            if not ready:
                raise UpdateError(f"network does not answer within {within_s:.0f} s")
            data = os.read(self._output.fileno(), _PART_BYTES)
            if not data:
                raise UpdateError(self._how_it_ended())
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "network closed its output"
        if code == -signal.SIGXCPU:
            return "network takes too much processor time to load and to answer its goldens"
        if code < 0:
            return f"network ends its process with signal {-code}"
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"trial ends with {code}: {lines[-1][:_LAST_WORDS] if lines else 'no word'}"


def _why(line: bytes) -> str:
    """Return why a trial has failed, where what it said is not the answer that was asked for."""
    with suppress(msgspec.DecodeError):
        if failed := msgspec.json.decode(line, type=Outcome).failed:
            return failed
    return f"trial gave no answer but {line[:_LAST_WORDS].decode('utf-8', 'replace')!a}"
