"""From an open source to the daemon's hands: which pictures are delivered, and which are not."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from edge_runtime.sources import Source
from transom.crop import Image
from transom.errors import CameraError

_DAMAGE_S = 10.0
"""How long damage is assumed to last where no key frame comes."""
_ALIVE_S = 1.0
USELESS_S = 12.0
"""How long pictures may come of which none can be used, before the camera is as good as away."""


class Sink(Protocol):
    """Where pictures are put for the daemon."""

    def mark_alive(self, now_ns: int) -> None:
        """Note that the source gave a picture, even one that nobody needs."""

    def write(self, image: Image, taken_ns: int, key_frames: int) -> None:
        """Put a frame, (H, W, 3) uint8 BGR, in place of the oldest.

        Raises:
            ValueError: The image has another form, or is too large.
        """


class Pace:
    """Picks the pictures to deliver out of those that the camera sends."""

    def __init__(self, fps: float) -> None:
        self._interval_ns = int(1e9 / fps)
        self._due_ns = 0

    @property
    def interval_s(self) -> float:
        """Seconds between two that are delivered."""
        return self._interval_ns / 1e9

    def is_due(self, now_ns: int) -> bool:
        """Return whether to deliver the picture that came at `now_ns`."""
        # A picture a little early is taken: the next one would be late.
        if now_ns < self._due_ns - self._interval_ns // 20:
            return False
        self._due_ns += self._interval_ns
        if self._due_ns <= now_ns:  # the first, or the camera was away
            self._due_ns = now_ns + self._interval_ns
        return True


class TellsDamage(Protocol):
    """Whether the decoder has complained since the last call."""

    def __call__(self, *, is_key_frame: bool) -> bool:
        """Return whether it has; `is_key_frame`: whether what it gave since is one."""


def _never(*, is_key_frame: bool) -> bool:
    return False


def waiter(sink: Sink, stopping: threading.Event) -> Callable[[float], object]:
    """Return what waits so many seconds, or until told to stop, and is no silence meanwhile.

    A clip in which nothing is for a while must not be taken for a camera that hangs.
    """

    def wait(seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0.0 and not stopping.wait(
            min(left_s, _ALIVE_S)
        ):
            sink.mark_alive(time.monotonic_ns())

    return wait


def deliver(
    source: Source,
    sink: Sink,
    pace: Pace,
    stopping: threading.Event,
    tells_damage: TellsDamage = _never,
) -> bool:
    """Pass frames on until told to stop (True) or the file's end (False).

    Args:
        source: Where they come from.
        sink: Where they go.
        pace: Which of them are wanted.
        stopping: Set to end.
        tells_damage: Whether the decoder has complained since the last call. What it gives from
            then on builds on the damage, until a key frame comes that it has taken in since.

    Raises:
        CameraError: The source gives no more, or nothing that can be used.
    """
    damaged_until_ns = key_frames = since_told = 0
    useless_ns: int | None = None
    most_useless_s = max(USELESS_S, 3.0 * pace.interval_s)
    while not stopping.is_set():
        if not source.grab():
            return False
        now_ns = time.monotonic_ns()
        sink.mark_alive(now_ns)
        is_key_frame = source.has_key_frame()
        key_frames += is_key_frame
        if tells_damage(is_key_frame=is_key_frame):
            damaged_until_ns, since_told = now_ns + int(_DAMAGE_S * 1e9), 0
        elif is_key_frame and since_told >= source.taken_ahead():
            damaged_until_ns = 0
        since_told += 1
        is_whole = now_ns >= damaged_until_ns
        if is_whole and not pace.is_due(now_ns):
            continue
        image = source.retrieve() if is_whole else None
        if image is not None and tells_damage(is_key_frame=is_key_frame):
            image = None  # what was decoded could not be converted: it is an older picture's memory
        if image is None:
            # It is alive, so nobody else finds out that it delivers nothing.
            useless_ns = now_ns if useless_ns is None else useless_ns
            if now_ns - useless_ns > most_useless_s * 1e9:
                raise CameraError(
                    f"none of its pictures could be decoded whole for {most_useless_s:g} s; is its "
                    "codec H.264, H.265 or JPEG, is its picture progressive (not interlaced), and "
                    "the network to it fast enough?"
                )
            continue
        useless_ns = None
        try:
            sink.write(image, now_ns, key_frames)
        except ValueError as error:
            raise CameraError(str(error)) from error
    return True
