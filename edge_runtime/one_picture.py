"""One picture of a camera, taken in a process of its own, because drivers block and crash."""

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_runtime.redaction import redact, shown_source
from edge_runtime.sources import ENVIRONMENT, open_source
from transom.config import CameraConfig
from transom.crop import Image
from transom.errors import CameraError, TransomError
from transom.secret import read_secret

CHILD_TIMEOUT_S = 15.0

_PNG = b"\x89PNG\r\n\x1a\n"
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
            env=dict(os.environ) | ENVIRONMENT,
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


def try_camera() -> None:
    """Read a picture of the camera that standard input describes, and write it as PNG."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    image = None
    try:
        source = open_source(request.camera, request.secret)
        until_s = time.monotonic() + request.settle_s
        while source.grab():
            image = source.retrieve() if time.monotonic() >= until_s else None
            if image is not None:
                break
        source.release()
    except TransomError as error:
        sys.exit(str(error))
    if image is None:
        sys.exit("gives no picture")
    done, data = cv2.imencode(".png", image)
    if not done:
        sys.exit("gives no picture")
    sys.stdout.buffer.write(data.tobytes())


def how_it_ended(child: "subprocess.CompletedProcess[bytes]") -> str:
    """Return why a process failed, in a line."""
    if child.returncode < 0:
        return f"ends its process with signal {-child.returncode}"
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ends with {child.returncode}"
