"""Where frames come from, as a camera's own process reads them.

OpenCV reads V4L2, RTSP and files; MJPEG over HTTP has a reader of its own (`mjpeg`).
"""

import importlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import cv2
import numpy as np

from edge_runtime.clips import NOTHING, MediaTime, frame_type, open_clip
from edge_runtime.redaction import shown_source
from transom.config import CameraConfig
from transom.crop import Image
from transom.errors import CameraError

OPEN_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 2.5
FIRST_PICTURE_S = 10.0
"""How long an RTSP camera that answers may take to its first picture: some send a key frame, which
a decoder begins with, every ten seconds only."""

_TAKEN_AHEAD = 4
"""Where pictures build on later ones (B frames), by what encoders are set to."""
_PICAMERA_SIZE = (1280, 720)
_PICAMERA_LEAST_FPS = 5.0  # slower, and its exposure control takes long to follow the light
_PICAMERA_ERRORS = (RuntimeError, IndexError, ValueError, OSError)
_RTSP_ANSWER = re.compile(r"method [A-Z]+ failed: (\d{3}) \(([A-Za-z ]{1,60})\)")
_NO_CONNECTION = re.compile(
    r"(?:Connection to \S+ failed|Failed to resolve hostname \S+): ([A-Za-z ]{1,60})"
)
INTERLACED = "Cannot convert interlaced"
"""What FFmpeg says where OpenCV gives whatever lies in its memory for an interlaced picture."""
ENVIRONMENT = {
    # UDP loses packets, and H.264 without them is grey or smeared. Left alone, FFmpeg opens one
    # after twenty pictures, to learn a rate that nobody asks for, and waits 5 s for a key frame;
    # for the first sound, too, which never comes where a microphone is off. A camera that cannot
    # send as fast as it films leaves packets out, by TCP as well: FFmpeg sees that such are missing
    # only where it may wait for them, for so many others.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": (
        "rtsp_transport;tcp|fpsprobesize;0|analyzeduration;15000000|allowed_media_types;video"
        "|reorder_queue_size;2"
    ),
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "3",
    "OPENCV_LOG_LEVEL": "ERROR",
}
"""What OpenCV can only be told so, by whoever starts the process that opens a source."""


class Source(Protocol):
    """An open source; its process waits in `grab`."""

    def grab(self) -> bool:
        """Take the next picture without decoding more than must be; False at a file's end.

        Raises:
            CameraError: None came in time.
        """

    def retrieve(self) -> Image | None:
        """Return the picture that `grab` took, (H, W, 3) uint8 BGR; None = it is damaged."""

    def has_key_frame(self) -> bool:
        """Whether that picture owes nothing to earlier ones."""

    def taken_ahead(self) -> int:
        """How many pictures, at most, a decoder has taken in beyond the one that it gave."""

    def release(self) -> None:
        """Close the source."""


def open_source(
    config: CameraConfig,
    secret: str | None,
    wait: Callable[[float], object] = time.sleep,
    printed: Callable[[], str] = lambda: "",
) -> Source:
    """Open a camera's source.

    Args:
        config: What to open.
        secret: The password for `config.username`, joined to it here and nowhere else.
        wait: Called with seconds, to pace a file; may return early to stop.
        printed: Returns what FFmpeg has printed meanwhile, where that is caught: it alone knows
            why an RTSP camera does not open.

    Raises:
        CameraError: The source cannot be opened; the message names it without secrets.
    """
    scheme, _, place = config.source.partition(":")
    read_timeout_s = read_timeout(config.fps)
    if scheme == "usb":
        return _UsbSource(config.source, place)
    if scheme == "picamera":
        return _PicameraSource(config.source, place, config.fps)
    if scheme in ("http", "https"):
        from edge_runtime.mjpeg import MjpegSource  # Python's own HTTP takes long to import

        return MjpegSource(
            config.source,
            config.username,
            secret,
            open_timeout_s=OPEN_TIMEOUT_S,
            read_timeout_s=read_timeout_s,
        )
    if scheme in ("rtsp", "rtsps"):
        return _RtspSource(config.source, config.username, secret, read_timeout_s, printed)
    if scheme == "file":
        return _FileSource(config.source, Path(place.removeprefix("//")), config.loop, wait)
    raise CameraError(f"{shown_source(config.source)}: no source is called {scheme}:")


def read_timeout(fps: float) -> float:
    """Return how long a picture may take, seconds, where `fps` are expected."""
    return max(READ_TIMEOUT_S, 3.0 / fps)


class _OpenCvSource:
    """A source that OpenCV reads."""

    def __init__(self, capture: cv2.VideoCapture, shown: str) -> None:
        self._capture = capture
        self._shown = shown
        self._has_b_frames = False

    def grab(self) -> bool:
        if not self._capture.grab():
            raise CameraError(f"{self._shown}: no picture came in time, or the stream ended")
        return True

    def retrieve(self) -> Image | None:
        done, image = self._capture.retrieve()
        return np.asarray(image, np.uint8) if done else None

    def has_key_frame(self) -> bool:
        kind = frame_type(self._capture)
        self._has_b_frames |= kind == "B"
        return kind == "I"

    def taken_ahead(self) -> int:
        return _TAKEN_AHEAD if self._has_b_frames else 0

    def release(self) -> None:
        self._capture.release()


class _UsbSource(_OpenCvSource):
    def __init__(self, source: str, place: str) -> None:
        device = int(place) if place.isdecimal() else place
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraError(
                f"{source}: cannot be opened; is the camera plugged in, is no other program using "
                "it, and is this user in the group video?"
            )
        super().__init__(capture, source)

    def has_key_frame(self) -> bool:
        return True


class _RtspSource(_OpenCvSource):
    def __init__(
        self,
        source: str,
        username: str | None,
        secret: str | None,
        read_timeout_s: float,
        printed: Callable[[], str],
    ) -> None:
        shown = shown_source(source)
        url = _with_credentials(source, username, secret)
        first_s = max(FIRST_PICTURE_S, read_timeout_s)
        self._began_s = time.monotonic()
        self._first_until_s: float | None = self._began_s + OPEN_TIMEOUT_S + first_s
        self._read_timeout_s = read_timeout_s
        capture = self._opened(url, shown, OPEN_TIMEOUT_S, printed)
        if not _is_known(capture):
            # It answers, but what its pictures are comes with a key frame only, and OpenCV must
            # know it when it opens a stream.
            capture.release()
            capture = self._opened(url, shown, first_s, printed)
        if not _is_known(capture):
            capture.release()
            raise CameraError(f"{shown}: {_no_key_frame(first_s)}")
        super().__init__(capture, shown)

    def grab(self) -> bool:
        while True:
            began_s = time.monotonic()
            if self._capture.grab():
                self._first_until_s = None
                return True
            now_s = time.monotonic()
            if now_s - began_s < 0.9 * self._read_timeout_s:
                raise CameraError(f"{self._shown}: the stream ended")
            if self._first_until_s is None:
                raise CameraError(f"{self._shown}: {no_picture(self._read_timeout_s)}")
            if now_s >= self._first_until_s:
                raise CameraError(f"{self._shown}: {_no_key_frame(now_s - self._began_s)}")

    def _opened(
        self, url: str, shown: str, timeout_s: float, printed: Callable[[], str]
    ) -> cv2.VideoCapture:
        # Only in the open parameters: set afterwards, a frozen camera blocks for 30 s.
        parameters = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(timeout_s * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(self._read_timeout_s * 1000),
            cv2.CAP_PROP_N_THREADS,
            1,
        ]
        began_s = time.monotonic()
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, parameters)
        if not capture.isOpened():
            why = _why_not_opened(printed(), began_s, timeout_s)
            raise CameraError(f"{shown}: cannot be opened{why}")
        return capture


def _is_known(capture: cv2.VideoCapture) -> bool:
    return capture.get(cv2.CAP_PROP_FRAME_WIDTH) > 0.0


def no_picture(timeout_s: float) -> str:
    """Return what to say of a camera that sends nothing for longer than it may."""
    return f"no picture came in {timeout_s:g} s; if it sends fewer, set its fps to what it sends"


def _no_key_frame(timeout_s: float) -> str:
    return (
        f"it answers, but no picture or no key frame came in {timeout_s:.0f} s; is its path right, "
        "and the interval of its key frames (I frames) a few seconds?"
    )


def _why_not_opened(printed: str, began_s: float, timeout_s: float) -> str:
    """Return the end of an error's sentence, made of what FFmpeg printed of an RTSP camera."""
    if time.monotonic() - began_s >= timeout_s:
        return f": it does not answer within {timeout_s:g} s"
    if answer := _RTSP_ANSWER.search(printed):
        code, reason = answer.groups()
        if code == "461":
            return f": it answers {code} {reason}; may its stream be had over TCP (interleaved)?"
        asked = "are its user and password" if code in ("401", "403") else "is its path"
        return f": it answers {code} {reason}; {asked} right?"
    if fault := _NO_CONNECTION.search(printed):
        return f": {fault[1]}"
    return "; is its path, user and password right?"


def _with_credentials(source: str, username: str | None, secret: str | None) -> str:
    if username is None:
        return source
    url = urlsplit(source)
    host = url.netloc.rpartition("@")[2]
    user = quote(username, safe="") + ("" if secret is None else ":" + quote(secret, safe=""))
    return urlunsplit(url._replace(netloc=f"{user}@{host}"))


class _FileSource(_OpenCvSource):
    """A clip, played as fast as it was filmed."""

    def __init__(
        self, source: str, path: Path, loop: bool, wait: Callable[[float], object]
    ) -> None:
        super().__init__(open_clip(path, source), source)
        self._path = path
        self._loop = loop
        self._wait = wait
        self._times = MediaTime(self._capture)
        self._started_s: float | None = None

    def grab(self) -> bool:
        if not self._capture.grab():
            if self._started_s is None:
                raise CameraError(f"{self._shown}: {NOTHING}")
            if not self._loop:
                return False
            self._wait(self._times.interval_s)  # the last picture is to be seen, too
            self._capture.release()
            self._capture = open_clip(self._path, self._shown)
            self._times, self._started_s = MediaTime(self._capture), None
            return self.grab()
        media_s = self._times.of_grabbed()
        now_s = time.monotonic()
        if self._started_s is None:
            self._started_s = now_s - media_s
        delay_s = self._started_s + media_s - now_s
        if delay_s > 0.0:
            self._wait(delay_s)
        return True


class _PicameraSource:
    """A camera at the Pi's own connector, by libcamera."""

    def __init__(self, source: str, place: str, fps: float) -> None:
        try:
            module: Any = importlib.import_module("picamera2")
        except ImportError as error:
            raise CameraError(
                f"{source}: Python cannot import picamera2; install python3-picamera2 with apt "
                "and make the virtual environment with --system-site-packages"
            ) from error
        self._source = source
        try:
            self._camera: Any = module.Picamera2(int(place))
        except IndexError as error:
            raise CameraError(
                f"{source}: no camera of this number is connected; is its cable in?"
            ) from error
        except _PICAMERA_ERRORS as error:
            # It says that it did not succeed, and only what it met meanwhile says why.
            why = error.__cause__ or error.__context__ or error
            raise CameraError(f"{source}: cannot be opened: {why}") from error
        try:
            # libcamera names formats by significance: RGB888 lies in memory as B, G, R.
            self._camera.configure(
                self._camera.create_video_configuration(
                    main={"format": "RGB888", "size": _PICAMERA_SIZE},
                    controls={"FrameRate": max(fps, _PICAMERA_LEAST_FPS)},
                )
            )
            self._camera.start()
        except _PICAMERA_ERRORS as error:
            with suppress(*_PICAMERA_ERRORS):
                self._camera.close()  # else a thread of the daemon holds it until that ends
            raise CameraError(f"{source}: cannot be opened: {error}") from error
        self._image: Image | None = None

    def grab(self) -> bool:
        # Waits without limit where the camera hangs: its process is killed for its silence.
        try:
            self._image = np.asarray(self._camera.capture_array("main"), np.uint8)
        except _PICAMERA_ERRORS as error:
            raise CameraError(f"{self._source}: gives no picture: {error}") from error
        return True

    def retrieve(self) -> Image | None:
        return self._image

    def has_key_frame(self) -> bool:
        return True

    def taken_ahead(self) -> int:
        return 0

    def release(self) -> None:
        self._camera.close()
