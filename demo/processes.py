"""The processes of the demo: commands run to their end, and the daemon run as systemd runs it."""

import json
import os
import queue
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transom.errors import TransomError

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


def transom(*arguments: str) -> list[str]:
    """Return the command line of a `transom` command in this environment."""
    return [sys.executable, "-m", "transom", *arguments]


def run_command(*arguments: str) -> str:
    """Run a `transom` command, its progress on this terminal; return what it printed.

    Raises:
        TransomError: It failed; what it said is on the terminal already.
    """
    done = subprocess.run(  # noqa: S603
        transom(*arguments), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise TransomError(f"transom {arguments[0]} failed with exit code {done.returncode}")
    return done.stdout


@contextmanager
def running_daemon(config: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the daemon as a unit with Type=notify does: wait for READY=1, end with SIGTERM.

    Raises:
        TransomError: It did not become ready, or did not stop when asked.
    """
    address = config.parent / "notify.socket"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("wb") as output:
        notify.bind(str(address))
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "60000000"}
        process = subprocess.Popen(  # noqa: S603
            transom("run", "--config", str(config)),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _wait_until_ready(process, notify, log)
            yield process
        finally:
            _stop(process)
            address.unlink(missing_ok=True)


def _wait_until_ready(process: "subprocess.Popen[bytes]", notify: socket.socket, log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(notify, selectors.EVENT_READ)
        while time.monotonic() < deadline and process.poll() is None:
            if selector.select(0.5) and b"READY=1" in notify.recv(4096):
                return
    raise TransomError(f"the daemon did not become ready; its log is {log}")


def _stop(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Subscriber:
    """`transom watch --json` as a process of its own; its lines arrive in a queue."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            transom("watch", *arguments, "--json"), stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            self._lines.put({**json.loads(line), "received": time.monotonic()})

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message (topic, payload, at, received), or None after the time."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the process."""
        _stop(self._process)
        self._reader.join(_STOP_TIMEOUT_S)
