"""A camera's own process: reads one source into shared memory until its parent wants no more.

It is started as `python -m edge_runtime.capture_process NAME`. What it needs comes over standard
input, secrets included, so that none is in an argument list or an environment; the end of standard
input is the end of the process. What it has to say goes to standard output, a JSON line each.

It is born to be killed: reading a camera can block, leak and crash, and every fault ends here.
"""

import os
import sys
import threading
import time

import msgspec

from edge_runtime.child import die_with, go_first
from edge_runtime.delivery import Pace, deliver, waiter
from edge_runtime.frame_ring import FrameRing
from edge_runtime.redaction import redact
from edge_runtime.sources import INTERLACED, open_source
from edge_runtime.wake import Wake
from transom.config import CameraConfig
from transom.errors import CameraError

CLEAN_END_S = 0.4
"""How long a source may take to close before the process ends without it."""

_DAMAGE = (
    b"RTP: missed",
    b"error while decoding",
    b"corrupt",
    b"concealing",
    b"reference count",
    b"overread",
    b"left block unavailable",
    b"top block unavailable",
    INTERLACED.encode(),
)
"""What FFmpeg says of a picture that it could not decode whole, and gives all the same."""
_NOT_OF_KEY_FRAMES = (
    b"Missing reference",
    b"co located POCs unavailable",
    b"Could not find ref with POC",
)
"""What it says of one without the pictures that it builds on: where a stream is come upon in its
midst, of those before the first key frame, which it does not give."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent wants, the one line on standard input.

    Attributes:
        camera: What to read.
        secret: The password for `camera.username`.
        ring: Descriptor of the frame memory.
        wake: Descriptor of what is set when a frame is there; None = nothing.
        parent: Process with which this one ends.
        memory_bytes: Most memory of its own, beyond which an allocation fails.
    """

    camera: CameraConfig
    secret: str | None
    ring: int
    wake: int | None
    parent: int
    memory_bytes: int


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

    def pass_on(self, *, is_key_frame: bool = False) -> bool:
        """Send what was written since the last call to the parent; return if it tells damage.

        Args:
            is_key_frame: Whether the picture that was taken meanwhile is one.
        """
        data = self._take()
        words = _DAMAGE if is_key_frame else _DAMAGE + _NOT_OF_KEY_FRAMES
        return any(word in data for word in words)

    def printed(self) -> str:
        """Send what was written since the last call to the parent, and return it."""
        return self._take().decode("utf-8", "replace")

    def _take(self) -> bytes:
        try:
            data = os.read(self._unread, 65536)
        except BlockingIOError:
            return b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines[-20:]:
            text = redact(line.decode("utf-8", "replace"), self._secrets)
            self.say(Report(log=text[:500]))
        return data

    def say(self, report: Report) -> None:
        # Below PIPE_BUF a line is written whole or not at all, and never blocks.
        try:
            os.write(self._reports, msgspec.json.encode(report) + b"\n")
        except (BlockingIOError, BrokenPipeError):
            return


def main() -> int:
    """Read the order, then frames, until told to stop."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    die_with(order.parent)
    go_first(order.memory_bytes)
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
    except MemoryError:
        diagnostics.say(
            Report(failed=f"its process asked for more than {order.memory_bytes >> 20} MiB")
        )
        return 1
    return 0


def _watch_parent(stopping: threading.Event) -> None:
    while os.read(0, 4096):
        continue
    stopping.set()
    time.sleep(CLEAN_END_S)
    os._exit(0)


def _capture(order: Order, diagnostics: _Diagnostics, stopping: threading.Event) -> None:
    ring = FrameRing(order.ring, None if order.wake is None else Wake(order.wake))
    source = open_source(order.camera, order.secret, waiter(ring, stopping), diagnostics.printed)
    diagnostics.pass_on()
    diagnostics.say(Report(opened=True))
    try:
        if not deliver(source, ring, Pace(order.camera.fps), stopping, diagnostics.pass_on):
            diagnostics.say(Report(ended=True))
    finally:
        source.release()
        diagnostics.pass_on()


if __name__ == "__main__":
    sys.exit(main())
