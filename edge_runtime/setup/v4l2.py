"""Cameras that Linux knows: which of the devices `/dev/video*` give pictures."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability)
_ENUM_FMT = 0xC0405602  # _IOWR('V', 2, struct v4l2_fmtdesc)
_CAPABILITY = struct.Struct("=16s32s32s3I3I")
_FORMAT = struct.Struct("=3I32s5I")
_CAPTURE, _DEVICE_CAPS, _MEDIA_CONTROLLER = 0x1, 0x80000000, 0x20000000
_TYPE_CAPTURE = 1

RIBBON_DRIVERS = ("unicam", "rp1-cfe")
"""A ribbon camera's receiver on a Raspberry Pi; it has a device only where a sensor answers."""
_PIPELINE_DRIVERS = (*RIBBON_DRIVERS, "bcm2835-isp", "bcm2835-codec", "pispbe", "rpivid")
"""Raw sensors, converters and decoders of a Raspberry Pi: no pictures for OpenCV."""


@dataclass(frozen=True)
class VideoDevice:
    """What the driver says of a device.

    Attributes:
        path: Below `/dev`.
        driver: The kernel's driver.
        card: The device's name.
        captures: Whether it gives pictures by itself.
    """

    path: Path
    driver: str
    card: str
    captures: bool


def read_capability(path: Path, answer: bytes) -> VideoDevice:
    """Return what the answer to VIDIOC_QUERYCAP, 104 bytes, says.

    References:
        https://docs.kernel.org/userspace-api/media/v4l/vidioc-querycap.html
    """
    driver, card, _bus, _version, capabilities, device_caps, *_ = _CAPABILITY.unpack(answer)
    if capabilities & _DEVICE_CAPS:
        capabilities = device_caps  # of this node, not of the whole device
    name = _text(driver)
    captures = bool(capabilities & _CAPTURE) and not capabilities & _MEDIA_CONTROLLER
    return VideoDevice(path, name, _text(card), captures and name not in _PIPELINE_DRIVERS)


def video_devices(folder: Path = Path("/dev")) -> Iterator[VideoDevice]:
    """Yield the video devices of this machine that this user may open, by number."""
    paths = [path for path in folder.glob("video*") if path.name[5:].isdecimal()]
    for path in sorted(paths, key=lambda path: int(path.name[5:])):
        with contextlib.suppress(OSError):  # no such driver, gone, or not for this user
            yield _ask(path)


def unreadable_devices(folder: Path = Path("/dev")) -> list[Path]:
    """Return the video devices that this user may not open."""
    return [
        path
        for path in sorted(folder.glob("video*"))
        if path.name[5:].isdecimal() and not os.access(path, os.R_OK | os.W_OK)
    ]


def lasting_path(device: Path, folder: Path = Path("/dev/v4l/by-id")) -> Path:
    """Return a name of a device that stays its own when others are plugged in; or the device."""
    links = sorted(folder.glob("*")) if folder.is_dir() else []
    return next((link for link in links if link.resolve() == device.resolve()), device)


def _ask(path: Path) -> VideoDevice:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = bytearray(_CAPABILITY.size)
        fcntl.ioctl(descriptor, _QUERYCAP, answer)
        device = read_capability(path, bytes(answer))
        if device.captures:
            # A node without a single format is there for something else.
            fcntl.ioctl(
                descriptor,
                _ENUM_FMT,
                bytearray(_FORMAT.pack(0, _TYPE_CAPTURE, 0, bytes(32), *[0] * 5)),
            )
        return device
    finally:
        os.close(descriptor)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
