"""Which cameras there are, and one of them opened."""

import importlib.util
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from edge_runtime.one_picture import take_picture
from edge_runtime.setup.draft import DraftCamera, as_name
from edge_runtime.setup.onvif import GROUP, discover, service_of, streams
from edge_runtime.setup.v4l2 import (
    RIBBON_DRIVERS,
    lasting_path,
    unreadable_devices,
    video_devices,
)
from transom.config import Name
from transom.errors import CameraError

ONVIF = "onvif://"
_SETTLE_S = 2.0
"""For a camera at this machine to get used to the light after it was opened."""


_LEAST_PX = 96


@dataclass(frozen=True)
class Candidate:
    """A camera that may be used.

    Attributes:
        source: As a configuration or `--source` names it.
        what: What it calls itself.
        note: What must be done before it can be used; empty = nothing.
    """

    source: str
    what: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return {"source": self.source, "what": self.what, "do": self.note}


def find_cameras(
    seconds: float = 2.0,
    ask: Iterable[tuple[str, int]] = (GROUP,),
    folder: Path = Path("/dev"),
) -> list[Candidate]:
    """Return the cameras at this machine and those in its network that speak ONVIF.

    Raises:
        CameraError: One that `ask` names cannot be asked.
    """
    return [*_local(folder), *_network(seconds, ask)]


def _local(folder: Path) -> list[Candidate]:
    devices = list(video_devices(folder))
    found = [
        Candidate(f"usb:{lasting_path(device.path)}", device.card)
        for device in devices
        if device.captures
    ]
    if any(device.driver in RIBBON_DRIVERS for device in devices):
        has_library = importlib.util.find_spec("picamera2") is not None
        note = "" if has_library else "install python3-picamera2 with apt; see docs/cameras.md"
        found.append(Candidate("picamera:0", "ribbon camera", note))
    found += [
        Candidate(f"usb:{path}", "not for this user", "add this user to the group video")
        for path in unreadable_devices(folder)
    ]
    return found


def _network(seconds: float, ask: Iterable[tuple[str, int]]) -> list[Candidate]:
    found = []
    for camera in discover(seconds, ask):
        url = urlsplit(camera.service)
        found.append(Candidate(f"{ONVIF}{url.netloc}{url.path}", camera.name or "ONVIF camera"))
    return found


def is_at_this_machine(source: str) -> bool:
    """Return whether a source is a device or a file of this machine: it knows no user."""
    return source.startswith(("usb:", "picamera:", "file:"))


def open_camera(camera: DraftCamera) -> DraftCamera:
    """Return a camera with its picture, and with a stream in place of an ONVIF address.

    Raises:
        CameraError: It cannot be opened.
        ConfigurationError: It is no source.
    """
    source = camera.source
    if source.startswith(ONVIF):
        service = service_of(source.removeprefix(ONVIF))
        source = streams(service, camera.username, camera.secret)[0].source
    named = DraftCamera(camera.name, source, camera.username, camera.secret, zones=camera.zones)
    settle_s = _SETTLE_S if source.startswith(("usb:", "picamera:")) else 0.0
    image = take_picture(named.config(), camera.secret, settle_s)
    if min(image.shape[:2]) < _LEAST_PX:
        raise CameraError(
            f"{source}: its picture must have {_LEAST_PX} pixels each way, has {image.shape[1]} x "
            f"{image.shape[0]}; choose a larger stream"
        )
    return DraftCamera(
        named.name, source, camera.username, camera.secret, image=image, zones=camera.zones
    )


def read_camera_name(text: str, names: Collection[str]) -> str:
    """Return a camera's name.

    Args:
        text: As somebody says it.
        names: Those of other cameras.

    Raises:
        ValueError: It cannot be one.
    """
    try:
        name = msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise ValueError(f"a camera's name must be of a-z, 0-9 and _, got {text!r}") from None
    if name in names:
        raise ValueError(f"{name} is the name of another camera; a name is unique on the device")
    return name


def proposed_name(source: str, what: str) -> str:
    """Return a name for a camera.

    Examples:
        >>> proposed_name("rtsp://hall-cam.lan:554/stream2", "")
        'hall_cam'
        >>> proposed_name("rtsp://192.168.1.20/s", "ACME IPC-7")
        'acme_ipc_7'
    """
    host = urlsplit(source).hostname if "://" in source else None
    is_named = host is not None and not host.replace(".", "").isdigit() and ":" not in host
    if is_named and host is not None and host != "localhost":
        return as_name(host.partition(".")[0], "camera")
    return as_name(what, "camera")
