"""One picture of a camera, taken in a process of its own, because drivers block and crash."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_runtime.redaction import redact, shown_source
from edge_runtime.sources import ENVIRONMENT, INTERLACED, open_source
from transom.config import CameraConfig
from transom.crop import Image
from transom.errors import CameraError, TransomError
from transom.secret import read_secret

CHILD_TIMEOUT_S = 20.0

_PNG = b"\x89PNG\r\n\x1a\n"
_ERRORS_OF_FFMPEG = {"OPENCV_FFMPEG_LOGLEVEL": "16"}
_TRY_CAMERA = "from edge_runtime.one_picture import try_camera; try_camera()"


class _Request(msgspec.Struct):
    camera: CameraConfig
    secret: str | None
    settle_s: float


def secret_of(camera: CameraConfig, config_file: Path) -> str | None:
    """Return a camera's password; None where it has none.

    Raises:
        ConfigurationError: The file that is named cannot be used.
    """
    return read_secret(camera.password_file, config_file) if camera.password_file else None


def take_picture(camera: CameraConfig, secret: str | None, settle_s: float = 0.0) -> Image:
    """Return a picture of a camera, (H, W, 3) uint8 BGR.

    Args:
        camera: The camera.
        secret: The password for `camera.username`.
        settle_s: Seconds that a camera is given to get used to the light.

    Raises:
        CameraError: There is none; the message names the source and no secret.
    """
    shown = shown_source(camera.source)
    # On standard input: arguments and environment can be read by others.
    request = msgspec.json.encode(_Request(camera, secret, settle_s))
    try:
        child = subprocess.run(  # noqa: S603 - a fixed command line
            [sys.executable, "-c", _TRY_CAMERA],
            input=request,
            capture_output=True,
            timeout=CHILD_TIMEOUT_S + settle_s,
            env=dict(os.environ) | ENVIRONMENT | _ERRORS_OF_FFMPEG,
        )
    except subprocess.TimeoutExpired:
        raise CameraError(f"{shown}: gives no picture in time") from None
    picture = child.stdout[max(child.stdout.find(_PNG), 0) :]
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) if picture else None
    if child.returncode == 0 and image is not None:
        return np.asarray(image, np.uint8)
    how = how_it_ended(child)
    # Most errors name the source themselves.
    is_named = how.startswith((shown, shown.removeprefix("file:")))
    raise CameraError(redact(how if is_named else f"{shown}: {how}", (secret,) if secret else ()))


def check_clip(camera: CameraConfig, path: Path) -> None:
    """Try a clip in place of a camera's source: only where prints are caught all faults show.

    Raises:
        CameraError: It cannot be decoded.
    """
    if path.is_file() and str(path).isprintable():
        source = f"file:{path.absolute()}"
        take_picture(
            msgspec.structs.replace(camera, source=source, username=None, password_file=None), None
        )


def try_camera() -> None:
    """Read a picture of the camera that standard input describes, and write it as PNG."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    try:
        with _caught_prints() as printed:
            image = _first_picture(request, printed)
    except TransomError as error:
        sys.exit(str(error))
    if image is None:
        sys.exit("gives no picture")
    done, data = cv2.imencode(".png", image)
    if not done:
        sys.exit("gives no picture")
    sys.stdout.buffer.write(data.tobytes())


def _first_picture(request: _Request, printed: Callable[[], str]) -> Image | None:
    source = open_source(request.camera, request.secret, printed=printed)
    until_s = time.monotonic() + request.settle_s
    image = None
    while image is None and source.grab():
        image = source.retrieve() if time.monotonic() >= until_s else None
    if INTERLACED in printed():
        raise CameraError(
            f"{shown_source(request.camera.source)}: its picture is interlaced, which cannot be "
            "decoded here; set the camera to a progressive one, or convert a clip by "
            "ffmpeg -i CLIP -vf yadif NEW.mp4"
        )
    source.release()
    return image


@contextmanager
def _caught_prints() -> Iterator[Callable[[], str]]:
    """Yield what returns all that libraries print meanwhile, which nobody else sees."""
    caught = os.memfd_create("prints")
    ours = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for descriptor in ours:
        os.dup2(caught, descriptor)
    try:
        yield lambda: os.pread(caught, 65536, 0).decode("utf-8", "replace")
    finally:
        for descriptor, kept in ours.items():
            os.dup2(kept, descriptor)


def how_it_ended(child: "subprocess.CompletedProcess[bytes]") -> str:
    """Return why a process failed, in a line."""
    if child.returncode < 0:
        return f"ends its process with signal {-child.returncode}"
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ends with {child.returncode}"
