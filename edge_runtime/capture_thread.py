"""A camera read by a thread of the daemon, where a board has no memory for processes.

Nothing can kill a thread. One whose library does not come back is waited for, its camera is gone
meanwhile, and after `HANG_S` the whole daemon ends with an error: then the service manager is the
one that kills and starts anew.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cv2.utils import logging as log

from edge_runtime.capture import FILE_ENDED, allowed_silence
from edge_runtime.delivery import Pace, deliver, waiter
from edge_runtime.frame_ring import Frame
from edge_runtime.outage import CameraStatus, Presence
from edge_runtime.redaction import redact, shown_source
from edge_runtime.sources import ENVIRONMENT, INTERLACED, Source, open_source
from edge_runtime.wake import Wake
from transom.config import CameraConfig
from transom.crop import Image
from transom.errors import CameraError

HANG_S = 30.0
"""How long a thread may be stuck beyond its own timeouts before the daemon ends."""

_ERRORS_OF_FFMPEG = {"OPENCV_FFMPEG_LOGLEVEL": "16", "OPENCV_FFMPEG_SKIP_LOG_CALLBACK": "0"}
"""Without the second FFmpeg would print them itself, to standard error."""


class _Prints:
    """What OpenCV prints of FFmpeg, to standard output, where the daemon itself says nothing.

    It is shown to nobody, as there may be passwords in it. Nothing else tells that a picture could
    not be converted, and that what OpenCV gives for it is whatever lay in its memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: int | None = None

    def catch(self) -> None:
        """Have standard output lead here, in the whole process and for good."""
        with self._lock:
            if self._file is None:
                self._file = os.memfd_create("prints")
                fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
            os.dup2(self._file, 1)

    def forget(self) -> None:
        """Give back the memory of what was printed, as of a camera that is away for weeks."""
        with self._lock:
            self._take()

    def retrieve(self, source: Source) -> Image | None:
        """Return the picture of a source; None = it is damaged, or could not be converted."""
        with self._lock:  # a line does not say which camera it is about
            self._take()
            image = source.retrieve()
            return None if INTERLACED.encode() in self._take() else image

    def _take(self) -> bytes:
        if self._file is None:
            return b""
        data = os.pread(self._file, 65536, 0)
        os.ftruncate(self._file, 0)
        return data


_prints = _Prints()


class _ConvertedSource:
    """What FFmpeg reads, without pictures that it could not convert; a `sources.Source`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.grab, self.has_key_frame = source.grab, source.has_key_frame
        self.taken_ahead, self.release = source.taken_ahead, source.release

    def retrieve(self) -> Image | None:
        """Return the picture that `grab` took, (H, W, 3) uint8 BGR; None = it is of no use."""
        return _prints.retrieve(self._source)


class LatestFrame:
    """The newest frame of one attempt, handed from its thread to the daemon's."""

    def __init__(self, wake: Wake | None = None) -> None:
        self._wake = wake
        self.alive_ns = 0
        self._frame: Frame | None = None
        self._number = 0

    def mark_alive(self, now_ns: int) -> None:
        """Note that the source gave a picture, even one that nobody needs."""
        self.alive_ns = now_ns

    def write(self, image: Image, taken_ns: int, key_frames: int) -> None:
        """Put a frame, (H, W, 3) uint8 BGR, in place of the one before.

        Raises:
            ValueError: The image has another form.
        """
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"frame must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        self._number += 1
        # A decoder may write into the same memory again.
        self._frame = Frame(image.copy(), taken_ns, self._number, key_frames)
        if self._wake is not None:
            self._wake.set()

    def newest(self, after: int) -> Frame | None:
        """Return the newest frame whose number is above `after`, or None."""
        frame = self._frame
        return frame if frame is not None and frame.number > after else None


@dataclass
class _Attempt:
    """One thread, from opening the source to whatever ends it."""

    latest: LatestFrame
    started_ns: int
    numbers_from: int
    key_frames_from: int
    stopping: threading.Event = field(default_factory=threading.Event)
    fault: str | None = None
    thread: threading.Thread | None = None
    has_delivered: bool = False


class CameraThread:
    """A camera read by a thread, which is started again for as long as it takes.

    Args:
        config: The camera, from the configuration.
        secret: The password for `config.username`.
        wake: Set by the thread when there is a new frame; None = nobody waits for it.
        monotonic_ns: CLOCK_MONOTONIC, nanoseconds.
    """

    process_id: int | None = None

    def __init__(
        self,
        config: CameraConfig,
        secret: str | None = None,
        *,
        wake: Wake | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = config.name
        self.presence = Presence(config.name)
        self._config = config
        self._secret = secret
        self._wake = wake
        self._shown = shown_source(config.source)
        self._monotonic_ns = monotonic_ns
        self._attempt: _Attempt | None = None
        self._is_wanted = False
        self._number = 0
        self._key_frames = 0

    @property
    def detail(self) -> str:
        """Why the camera has its status, for people; without any secret."""
        return self.presence.detail

    def start(self) -> None:
        """Start the camera's thread, once; frames come when it has opened the source."""
        if self._is_wanted:
            return
        os.environ.update(ENVIRONMENT | _ERRORS_OF_FFMPEG)
        log.setLogLevel(log.LOG_LEVEL_ERROR)  # by now OpenCV has looked for it in the environment
        _prints.catch()
        self._is_wanted = True
        self.presence.opening(self._shown)
        self._begin(self._monotonic_ns())

    def stop(self, timeout_s: float = 1.0) -> None:
        """Ask the camera's thread to end and wait for at most `timeout_s`."""
        self._is_wanted = False
        self.presence.status, self.presence.detail = "gone", "stopped"
        attempt, self._attempt = self._attempt, None
        if attempt is not None and attempt.thread is not None:
            attempt.stopping.set()
            attempt.thread.join(timeout_s)

    def status(self) -> CameraStatus:
        """`starting` until the first frame, then `online`, or `gone` while no frames come.

        Raises:
            CameraError: The camera's library hangs; only the end of the daemon helps.
        """
        self._supervise()
        return self.presence.status

    def newest(self) -> Frame | None:
        """Return the newest frame, or None when there is nothing newer; never blocks.

        Raises:
            CameraError: The camera's library hangs; only the end of the daemon helps.
        """
        self._supervise()
        attempt = self._attempt
        if attempt is None:
            return None
        frame = attempt.latest.newest(self._number - attempt.numbers_from)
        if frame is None:
            return None
        if not attempt.has_delivered or self.presence.status != "online":
            attempt.has_delivered = True
            self.presence.came(self._shown, self._monotonic_ns())
        self._number = attempt.numbers_from + frame.number
        self._key_frames = attempt.key_frames_from + (frame.key_frames or 0)
        return Frame(frame.image, frame.taken_ns, self._number, self._key_frames)

    def _supervise(self) -> None:
        now_ns = self._monotonic_ns()
        attempt = self._attempt
        if not self._is_wanted:
            return
        if attempt is None:
            if self.presence.is_retry_due(now_ns):
                self._begin(now_ns)
        elif attempt.thread is None or not attempt.thread.is_alive():
            self._finish(attempt, now_ns)
        else:
            self._watch_silence(attempt, now_ns)

    def _finish(self, attempt: _Attempt, now_ns: int) -> None:
        self._attempt = None
        if attempt.fault is None:
            self._is_wanted = False
            self.presence.ended(FILE_ENDED)
        else:
            self.presence.went(attempt.fault, now_ns, had_come=attempt.has_delivered)

    def _watch_silence(self, attempt: _Attempt, now_ns: int) -> None:
        alive_ns = attempt.latest.alive_ns
        silence_s = (now_ns - (alive_ns or attempt.started_ns)) / 1e9
        over_s = silence_s - allowed_silence(self._config.fps, has_begun=bool(alive_ns))
        if over_s > HANG_S:
            raise CameraError(
                f"camera {self.name}: {self._shown} has hung for {silence_s:.0f} s and a thread "
                "cannot be killed, so the daemon ends to be started again; where there is memory "
                'for it, set isolation = "process" in [capture]'
            )
        if over_s > 0.0 and self.presence.status != "gone":
            fault = f"no picture for {silence_s:.1f} s"
            self.presence.went(fault, now_ns, had_come=attempt.has_delivered)

    def _begin(self, now_ns: int) -> None:
        attempt = _Attempt(LatestFrame(self._wake), now_ns, self._number, self._key_frames)
        self._attempt = attempt
        attempt.thread = threading.Thread(
            target=self._read, args=(attempt,), name=f"camera {self.name}", daemon=True
        )
        attempt.thread.start()

    def _read(self, attempt: _Attempt) -> None:
        """Read the camera until told to stop, its file's end or a fault; in its own thread."""
        _prints.forget()
        try:
            source = open_source(
                self._config, self._secret, waiter(attempt.latest, attempt.stopping)
            )
            if self._config.source.startswith(("rtsp", "file:")):
                source = _ConvertedSource(source)
            try:
                deliver(source, attempt.latest, Pace(self._config.fps), attempt.stopping)
            finally:
                source.release()
        except CameraError as error:
            attempt.fault = self._redacted(str(error))
        except Exception as error:
            # The top of a thread. A library may raise anything, memory may be at its end: only a
            # return is a file's end, after which the camera is not tried again.
            attempt.fault = self._redacted(f"{self._shown}: {type(error).__name__}: {error}")

    def _redacted(self, text: str) -> str:
        return redact(text, (self._secret,) if self._secret else ())
