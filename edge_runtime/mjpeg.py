"""MJPEG over HTTP, read without a decoder's help.

A decoder that is handed half a picture fills the rest with the previous one, so pictures that did
not arrive whole must be dropped before anything decodes them, and a camera that drips bytes must
not reset a timeout with each.
"""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import cv2
import numpy as np

from edge_runtime.http_login import HttpLogin
from edge_runtime.redaction import shown_source
from edge_runtime.sources import no_picture
from transom.crop import Image
from transom.errors import CameraError
from transom.printable import printable

_MAX_JPEG_BYTES = 16 * 1024 * 1024
_START_OF_JPEG = b"\xff\xd8\xff"
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_KINDS = {
    "video/x-motion-jpeg",
    "video/x-mjpeg",
    "video/mjpeg",
    "application/octet-stream",
}
"""What cameras call MJPEG besides its proper name; whether it is shows in its pictures."""
_AS_THEY_ARE = "%/:=&?~#+!$,;'@()*[]|"
"""Besides letters and digits, what stands in a URL as somebody wrote it; the rest is encoded."""


class MjpegSource:
    """Pictures over HTTP, one JPEG after another; a `sources.Source`.

    Args:
        source: URL.
        username: For basic or digest authentication.
        secret: Its password.
        open_timeout_s: How long the answer may take.
        read_timeout_s: How long a picture may take.

    Raises:
        CameraError: There is no MJPEG stream.
    """

    def __init__(
        self,
        source: str,
        username: str | None,
        secret: str | None,
        *,
        open_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._shown = shown_source(source)
        self._read_timeout_s = read_timeout_s
        self._cutter = JpegCutter()
        self._jpeg = b""
        address, user = _address(source)
        opener = http_opener(address, username or user, secret)
        timeout_s = max(open_timeout_s, read_timeout_s)
        self._response: http.client.HTTPResponse = self._attempt(
            lambda: opener.open(address, timeout=timeout_s),
            f"it does not answer within {timeout_s:g} s",
        )
        if instead := _why_no_stream(self._response):
            self._response.close()
            raise CameraError(
                f"{self._shown}: must be an MJPEG stream (multipart/x-mixed-replace), {instead}"
            )

    def grab(self) -> bool:
        """Take the newest whole picture.

        Raises:
            CameraError: None came in time.
        """
        deadline_s = time.monotonic() + self._read_timeout_s
        while True:
            jpeg = self._cutter.take()
            if jpeg is not None:
                self._jpeg = jpeg
                return True
            if time.monotonic() > deadline_s:
                raise CameraError(f"{self._shown}: {no_picture(self._read_timeout_s)}")
            if len(self._cutter) > _MAX_JPEG_BYTES:
                raise CameraError(f"{self._shown}: sends {_MAX_JPEG_BYTES:,} bytes without a JPEG")
            data = self._attempt(
                lambda: self._response.read1(65536), no_picture(self._read_timeout_s)
            )
            if not data:
                raise CameraError(f"{self._shown}: the stream ended")
            self._cutter.add(data)

    def retrieve(self) -> Image | None:
        """Decode the picture that `grab` took; None = it is damaged."""
        try:
            image = cv2.imdecode(np.frombuffer(self._jpeg, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # for instance a picture larger than OpenCV allows
            return None
        return None if image is None else np.asarray(image, np.uint8)

    def has_key_frame(self) -> bool:
        """Return True: each picture stands for itself."""
        return True

    def taken_ahead(self) -> int:
        """Return 0: each picture is decoded when it is wanted."""
        return 0

    def release(self) -> None:
        """Close the connection."""
        self._response.close()

    def _attempt(self, action: Callable[[], "_Result"], late: str) -> "_Result":
        try:
            return action()
        except urllib.error.HTTPError as error:
            error.close()
            raise CameraError(f"{self._shown}: {_answered(error)}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CameraError(f"{self._shown}: {_why_not(reason, late)}") from error


def _why_no_stream(response: http.client.HTTPResponse) -> str | None:
    """Return what an answer is that is no stream; None = it may be one."""
    kind = response.headers.get_content_type()
    is_named = "Content-Type" in response.headers
    if kind.startswith("multipart/"):
        return None
    # Of a stream nobody knows the length.
    if kind.startswith("image/") or ((not is_named or kind in _KINDS) and response.length):
        what = f" ({printable(kind)})" if is_named else ""
        return f"is a single picture{what}: give the address of its stream"
    return f"is {printable(kind)}" if is_named and kind not in _KINDS else None


def _address(source: str) -> tuple[str, str | None]:
    """Return what to ask for in ASCII, and the user that a URL names."""
    url = urlsplit(source)
    path, query = (quote(part, safe=_AS_THEY_ARE) for part in (url.path, url.query))
    user = None if url.username is None else unquote(url.username)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], path, query, "")), user


def _answered(error: urllib.error.HTTPError) -> str:
    """Return what an answer that is no success says, in a line."""
    said = printable(" ".join(f"answers {error.code} {error.reason}".split()))
    if error.code in (401, 403):
        return f"{said}; are its user and password right?"
    return f"{said}; is its path right?" if error.code == 404 else said


def _why_not(reason: object, late: str) -> str:
    """Return why there is no answer, in a line; `late` where it took too long."""
    if isinstance(reason, TimeoutError):
        return late
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, http.client.IncompleteRead):
        return "the stream ended"
    if isinstance(reason, http.client.HTTPException) and not isinstance(reason, OSError):
        return "what answers does not speak HTTP; is this the port of its pictures?"
    why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return printable(" ".join(why.split()))


_Result = TypeVar("_Result")


def http_opener(
    source: str, username: str | None, secret: str | None, *, is_basic: bool = True
) -> urllib.request.OpenerDirector:
    """Return what speaks HTTP and nothing else: no files, no FTP, no proxy.

    Args:
        source: URL.
        username: Shown to that URL's host only.
        secret: Its password.
        is_basic: Whether the password itself may be sent, to a host that asks for it so.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    if username is not None:
        opener.add_handler(HttpLogin(source, username, secret or "", is_basic=is_basic))
    return opener


class JpegCutter:
    """Cuts pictures out of a stream's bytes, whatever stands between them.

    Each byte is looked at once: a large picture comes in a thousand pieces, and looking at all of
    it with each takes longer than the next one takes to come.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        # Bytes at the buffer's start of a picture that has no end in them; 0 = not in its data yet.
        self._passed = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        """Take in what came."""
        self._buffer += data

    def take(self) -> bytes | None:
        """Take the newest whole picture out of what came, and all that lies before it."""
        newest = None
        buffer = self._buffer
        while True:
            if not self._passed:
                start = buffer.find(_START_OF_JPEG)
                if start < 0:
                    del buffer[: max(len(buffer) - len(_START_OF_JPEG) + 1, 0)]
                    return newest
                del buffer[:start]
                data_start = _find_data(buffer)
                if data_start is None:
                    return newest
                self._passed = data_start
            end = buffer.find(_END_OF_JPEG, self._passed)
            until = len(buffer) if end < 0 else end + len(_END_OF_JPEG)
            next_start = buffer.find(_START_OF_JPEG, self._passed, until)
            if next_start >= 0:
                del buffer[:next_start]  # another picture begins: this one was cut off
            elif end < 0:
                # Either mark may have come in part.
                self._passed = max(self._passed, len(buffer) - len(_START_OF_JPEG) + 1)
                return newest
            else:
                newest = bytes(buffer[:until])
                del buffer[:until]
            self._passed = 0


def _find_data(buffer: bytearray) -> int | None:
    """Return where the compressed data of the picture at the buffer's start begins.

    Segments before it are skipped by their lengths: they may hold a whole small picture. None =
    not enough bytes yet; 2 = the segments make no sense, so that the search goes on behind.
    """
    position = 2
    while position + 4 <= len(buffer):
        if buffer[position] != 0xFF or not 0xC0 <= buffer[position + 1] <= 0xFE:
            return 2
        length = int.from_bytes(buffer[position + 2 : position + 4], "big")
        if buffer[position + 1] == _START_OF_SCAN:
            return position + 2 + length
        position += 2 + length
    return None
