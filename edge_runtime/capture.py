"""Frames from cameras: the daemon's side. Each camera is read by a process of its own.

Reading a camera can block for half a minute, leak and crash. So the daemon never reads one: it
looks at what a child process has put into shared memory, and kills and replaces the child when
nothing comes. Nothing here blocks and there is no thread: `newest` and `status` do the watching.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge_runtime.capture_process import Order, Report
from edge_runtime.frame_ring import Frame, FrameRing
from edge_runtime.outage import CameraStatus, Presence
from edge_runtime.redaction import redact, shown_source
from edge_runtime.sources import ENVIRONMENT, OPEN_TIMEOUT_S, read_timeout
from edge_runtime.wake import Wake
from transom.config import CameraConfig, CaptureConfig

__all__ = ["Camera", "CameraProcess", "CameraStatus", "Frame"]

_log = logging.getLogger(__name__)

START_S = 20.0
"""From the start of a process to its first picture: a slow board's imports, then the camera."""
SILENCE_S = 5.0
"""Least time without a picture after which a process is killed; its own timeouts come first."""
MOST_HELD = 3
"""Killed processes of a camera that have not ended, beyond which none is added. A driver that holds
one, in the kernel, will hold the next one too, each with its memory."""
_HELD = (
    f"{MOST_HELD} of its processes were killed and do not end, so that a driver holds them; when "
    "one ends the camera is opened again, else start the machine anew"
)
FILE_ENDED = "the file was played to its end"

_MEMORY_CHECK_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Camera(Protocol):
    """Where the daemon's frames come from."""

    name: str

    @property
    def detail(self) -> str:
        """Why the camera has its status, for people; without any secret."""

    def start(self) -> None:
        """Begin to deliver frames, soon; nothing where it has begun."""

    def stop(self, timeout_s: float = 1.0) -> None:
        """End and leave nothing behind."""

    def status(self) -> CameraStatus:
        """`starting` until the first frame, then `online`, or `gone` while no frames come."""

    def newest(self) -> Frame | None:
        """Return the newest frame, or None when there is nothing newer; never blocks."""


def allowed_silence(fps: float, *, has_begun: bool) -> float:
    """Return the seconds without a picture after which whatever reads a camera has failed.

    Args:
        fps: Frames expected per second.
        has_begun: Whether it has ever had a picture.
    """
    allowed_s = max(SILENCE_S, 3.0 / fps, read_timeout(fps) + 2.0)
    return allowed_s if has_begun else max(START_S, allowed_s + OPEN_TIMEOUT_S + read_timeout(fps))


@dataclass
class _Child:
    """A running process and what it shares with this one."""

    process: subprocess.Popen[bytes]
    ring: FrameRing
    started_ns: int
    numbers_from: int
    key_frames_from: int
    unread: bytes = b""
    has_delivered: bool = False


class CameraProcess:
    """A camera read by a process of its own, which is replaced for as long as it takes.

    Call it from one thread that lives as long as the camera: the kernel ends the process with the
    thread that made it.

    Args:
        config: The camera, from the configuration.
        secret: The password for `config.username`.
        capture: How much memory the process may take before it is replaced, which is the answer
            to leaks in capture libraries.
        wake: Set by the process when there is a new frame; None = nobody waits for it.
        monotonic_ns: CLOCK_MONOTONIC, nanoseconds.
    """

    def __init__(
        self,
        config: CameraConfig,
        secret: str | None = None,
        capture: CaptureConfig = CaptureConfig(),  # noqa: B008 - frozen
        *,
        wake: Wake | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = config.name
        self.presence = Presence(config.name)
        self._config = config
        self._wake = wake
        self._shown = shown_source(config.source)
        self._secret = secret
        self._monotonic_ns = monotonic_ns
        self._memory_bytes = capture.memory_mb << 20
        self._child: _Child | None = None
        self._dying: list[subprocess.Popen[bytes]] = []
        self._is_wanted = False
        self._number = 0
        self._key_frames = 0
        self._memory_checked_ns = 0

    @property
    def detail(self) -> str:
        """Why the camera has its status, for people; without any secret."""
        return self.presence.detail

    @property
    def process_id(self) -> int | None:
        """The process that reads the camera now; None while there is none."""
        return self._child.process.pid if self._child else None

    def start(self) -> None:
        """Start the camera's process, once; frames come when it has opened the source."""
        if self._is_wanted:
            return
        self._is_wanted = True
        self.presence.opening(self._shown)
        self._start_child(self._monotonic_ns())

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the camera's process: asked first, killed after half of `timeout_s`."""
        self._is_wanted = False
        self.presence.status, self.presence.detail = "gone", "stopped"
        child, self._child = self._child, None
        if child is not None:
            self._close_input(child)
            self._dying.append(child.process)
            try:
                child.process.wait(timeout_s / 2)
            except subprocess.TimeoutExpired:
                child.process.kill()
            self._let_go(child)
        for process in self._dying:
            try:
                process.wait(timeout_s / 2)
            except subprocess.TimeoutExpired:
                # Held by a driver, in the kernel; it ends when the driver lets it go.
                _log.warning("camera process does not end camera=%s pid=%d", self.name, process.pid)
        self._dying.clear()

    def status(self) -> CameraStatus:
        """`starting` until the first frame, then `online`, or `gone` while no frames come."""
        self._supervise()
        return self.presence.status

    def newest(self) -> Frame | None:
        """Return the newest frame, or None when there is nothing newer; never blocks."""
        self._supervise()
        if self._child is None:
            return None
        child = self._child
        frame = child.ring.newest(self._number - child.numbers_from)
        if frame is None:
            return None
        if not child.has_delivered:
            child.has_delivered = True
            if self._is_wanted:
                self.presence.came(self._shown, self._monotonic_ns())
        self._number = child.numbers_from + frame.number
        self._key_frames = child.key_frames_from + (frame.key_frames or 0)
        return Frame(frame.image, frame.taken_ns, self._number, self._key_frames)

    def _supervise(self) -> None:
        now_ns = self._monotonic_ns()
        self._dying = [process for process in self._dying if process.poll() is None]
        if not self._is_wanted:
            return
        if self._child is None:
            if not self.presence.is_retry_due(now_ns):
                return
            if len(self._dying) < MOST_HELD:
                self._start_child(now_ns)
            else:
                self.presence.waits(_HELD)
            return
        has_ended = self._child.process.poll() is not None
        why = self._read_reports(self._child)
        if self._child is not None and (
            fault := why or self._fault(self._child, has_ended, now_ns)
        ):
            self._replace(self._child, fault, now_ns)

    def _fault(self, child: _Child, has_ended: bool, now_ns: int) -> str | None:
        """Return what is wrong with the process, or None."""
        if has_ended:
            return f"its process ended with {child.process.returncode}"
        alive_ns = child.ring.alive_ns()
        silence_s = (now_ns - (alive_ns or child.started_ns)) / 1e9
        if silence_s > allowed_silence(self._config.fps, has_begun=bool(alive_ns)):
            return f"no picture for {silence_s:.1f} s"
        if now_ns - self._memory_checked_ns > _MEMORY_CHECK_S * 1e9:
            self._memory_checked_ns = now_ns
            used = _own_bytes(child.process.pid)
            if used > self._memory_bytes:
                return (
                    f"its process holds {used >> 20} MiB, "
                    f"{self._memory_bytes >> 20} MiB is the most"
                )
        return None

    def _start_child(self, now_ns: int) -> None:
        ring = FrameRing()
        order = Order(
            camera=self._config,
            secret=self._secret,
            ring=ring.descriptor,
            wake=None if self._wake is None else self._wake.descriptor,
            parent=os.getpid(),
            # A leak that is faster than the check above it ends here.
            memory_bytes=2 * self._memory_bytes,
        )
        process = subprocess.Popen(  # noqa: S603 - a fixed command line
            [sys.executable, "-m", "edge_runtime.capture_process", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the child catches it, and reports it redacted
            pass_fds=(ring.descriptor, *(() if self._wake is None else (self._wake.descriptor,))),
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the daemon, which then stops its cameras
        )
        self._child = _Child(process, ring, now_ns, self._number, self._key_frames)
        self._memory_checked_ns = now_ns
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        os.set_blocking(process.stdout.fileno(), False)
        try:
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return  # it ended already; the next look finds that

    def _read_reports(self, child: _Child) -> str | None:
        """Take in what the process said; return why it gave up, if it did."""
        try:
            data = os.read(child.process.stdout.fileno(), 65536) if child.process.stdout else b""
        except BlockingIOError:
            return None
        *lines, child.unread = (child.unread + data).split(b"\n")
        for line in lines:
            try:
                report = msgspec.json.decode(line, type=Report)
            except msgspec.DecodeError as error:
                return f"its process sent what is no report: {error}"
            if report.log is not None:
                _log.debug("camera library says camera=%s text=%s", self.name, report.log)
            if report.ended:
                self._end(child)
            if report.failed is not None:
                return report.failed
        return None

    def _end(self, child: _Child) -> None:
        """A file was played to its end: there is nothing to try again."""
        self._is_wanted = False
        self._close_input(child)
        self.presence.ended(FILE_ENDED)

    def _replace(self, child: _Child, fault: str, now_ns: int) -> None:
        self._child = None
        child.process.kill()
        self._dying.append(child.process)
        self._let_go(child)
        secrets = (self._secret,) if self._secret else ()
        self.presence.went(redact(fault, secrets), now_ns, had_come=child.has_delivered)

    def _close_input(self, child: _Child) -> None:
        if child.process.stdin is not None:
            try:
                child.process.stdin.close()
            except BrokenPipeError:
                return

    def _let_go(self, child: _Child) -> None:
        self._close_input(child)
        if child.process.stdout is not None:
            child.process.stdout.close()
        child.ring.close()


def _environment() -> dict[str, str]:
    """Return the process's environment: small, and not allowed to speak to the service manager."""
    own = {
        "OPENBLAS_NUM_THREADS": "1",  # each of its threads would keep memory
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "OPENCV_FFMPEG_LOGLEVEL": "24",  # warnings: its word is what tells a damaged picture
    }
    inherited = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    return inherited | own | ENVIRONMENT


def _own_bytes(process_id: int) -> int:
    """Return the resident memory that a process shares with nobody; 0 = not known."""
    try:
        fields = Path(f"/proc/{process_id}/statm").read_text("ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES if len(fields) > 2 else 0
