"""A camera's own process: reads one source into shared memory until its parent wants no more.

It is started as `python -m edge_runtime.capture_process NAME`. What it needs comes over standard
input, secrets included, so that none is in an argument list or an environment; the end of standard
input is the end of the process. What it has to say goes to standard output, a JSON line each.

It is born to be killed: reading a camera can block, leak and crash, and every fault ends here.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time

import msgspec

from edge_runtime.frame_ring import FrameRing
from edge_runtime.redaction import redact
from edge_runtime.sources import Source, open_source
from transom.config import CameraConfig
from transom.errors import CameraError

CLEAN_END_S = 0.4
"""How long a source may take to close before the process ends without it."""

_PR_SET_PDEATHSIG = 1
_DAMAGE = (
    b"error while decoding",
    b"corrupt",
    b"concealing",
    b"reference count",
    b"overread",
    b"left block unavailable",
    b"top block unavailable",
    b"Missing reference",
    b"co located POCs unavailable",
    b"Could not find ref with POC",
)
"""What FFmpeg says of a picture that it could not decode whole, and gives all the same."""
_DAMAGE_S = 10.0
"""How long damage is assumed to last where no key frame comes."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent wants, the one line on standard input."""

    camera: CameraConfig
    secret: str | None
    ring: int
    parent: int


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the process says, a line each.

    Attributes:
        opened: The source is open.
        failed: Why the process gives up.
        ended: A file was played to its end.
        log: A line of FFmpeg or another library, redacted.
    """

    opened: bool = False
    failed: str | None = None
    ended: bool = False
    log: str | None = None


class _Diagnostics:
    """What libraries write to descriptor 2, caught so that it can be read and redacted.

    The pipe never blocks its writer: a flood of messages must not stop a camera.
    """

    def __init__(self, secrets: tuple[str, ...], reports: int) -> None:
        self._secrets = secrets
        self._reports = reports
        self._unread, writing = os.pipe()
        os.set_blocking(self._unread, False)
        os.set_blocking(writing, False)
        os.dup2(writing, 2)
        os.close(writing)
        self._rest = b""

    def pass_on(self) -> bool:
        """Send what was written since the last call to the parent; return if it tells damage."""
        try:
            data = os.read(self._unread, 65536)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines[-20:]:
            text = redact(line.decode("utf-8", "replace"), self._secrets)
            self.say(Report(log=text[:500]))
        return any(word in data for word in _DAMAGE)

    def say(self, report: Report) -> None:
        # Below PIPE_BUF a line is written whole or not at all, and never blocks.
        try:
            os.write(self._reports, msgspec.json.encode(report) + b"\n")
        except (BlockingIOError, BrokenPipeError):
            return


def main() -> int:
    """Read the order, then frames, until told to stop."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    _die_with(order.parent)
    reports = os.dup(1)
    os.set_blocking(reports, False)
    diagnostics = _Diagnostics((order.secret,) if order.secret else (), reports)
    os.dup2(2, 1)  # a library that prints must not speak to the parent
    stopping = threading.Event()
    threading.Thread(target=_watch_parent, args=(stopping,), daemon=True).start()
    try:
        _capture(order, diagnostics, stopping)
    except CameraError as error:
        diagnostics.pass_on()
        secrets = (order.secret,) if order.secret else ()
        diagnostics.say(Report(failed=redact(str(error), secrets)[:1000]))
        return 1
    return 0


def _die_with(parent: int) -> None:
    """End when the parent does, however it ends, and never leave a picture of memory on disk."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch_parent(stopping: threading.Event) -> None:
    while os.read(0, 4096):
        continue
    stopping.set()
    time.sleep(CLEAN_END_S)
    os._exit(0)


def _capture(order: Order, diagnostics: _Diagnostics, stopping: threading.Event) -> None:
    ring = FrameRing(order.ring)
    source = open_source(order.camera, order.secret, stopping.wait)
    diagnostics.pass_on()
    diagnostics.say(Report(opened=True))
    try:
        if not _deliver(source, ring, diagnostics, Pace(order.camera.fps), stopping):
            diagnostics.say(Report(ended=True))
    finally:
        source.release()
        diagnostics.pass_on()


class Pace:
    """Picks the pictures to deliver out of those that the camera sends."""

    def __init__(self, fps: float) -> None:
        self._interval_ns = int(1e9 / fps)
        self._due_ns = 0

    def is_due(self, now_ns: int) -> bool:
        """Return whether to deliver the picture that came at `now_ns`."""
        # A picture a little early is taken: the next one would be late.
        if now_ns < self._due_ns - self._interval_ns // 20:
            return False
        self._due_ns += self._interval_ns
        if self._due_ns <= now_ns:  # the first, or the camera was away
            self._due_ns = now_ns + self._interval_ns
        return True


def _deliver(
    source: Source,
    ring: FrameRing,
    diagnostics: _Diagnostics,
    pace: Pace,
    stopping: threading.Event,
) -> bool:
    """Write frames until told to stop (True) or the file's end (False)."""
    damaged_until_ns = key_frames = 0
    while not stopping.is_set():
        if not source.grab():
            return False
        now_ns = time.monotonic_ns()
        ring.mark_alive(now_ns)
        is_key_frame = source.has_key_frame()
        key_frames += is_key_frame
        if diagnostics.pass_on():
            damaged_until_ns = now_ns + int(_DAMAGE_S * 1e9)
        elif is_key_frame:
            damaged_until_ns = 0
        if now_ns < damaged_until_ns or not pace.is_due(now_ns):
            continue
        image = source.retrieve()
        if image is not None:
            try:
                ring.write(image, now_ns, key_frames)
            except ValueError as error:
                raise CameraError(str(error)) from error
    return True


if __name__ == "__main__":
    sys.exit(main())
