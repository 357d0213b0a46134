"""Where the references of cameras outlive the daemon: a small file each, and no picture in it."""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from edge_runtime.view import Reference
from transom.atomic import write_file
from transom.config import CameraConfig

_log = logging.getLogger(__name__)

VIEWS = "views"
"""The folder's name in the state directory."""

_VERSION = 1


@dataclass(frozen=True)
class StoredView:
    """The references of one camera, by whether their pictures have colour."""

    references: dict[bool, Reference] = field(default_factory=dict)


class _Reference(msgspec.Struct, frozen=True):
    has_colour: bool
    size: tuple[int, int]
    places: int
    side: int
    points: bytes
    patches: bytes
    contrasts: bytes


class _File(msgspec.Struct, frozen=True):
    version: int
    of: str
    references: list[_Reference]


class ViewStore:
    """Keeps a file for each camera in a folder.

    Another source or other zones mean that the camera was set up anew, and that what is stored
    counts no longer.

    Args:
        folder: Made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, camera: CameraConfig) -> StoredView:
        """Return what is stored of a camera as it is set up now; nothing where there is none."""
        path = self._path(camera)
        try:
            file = msgspec.msgpack.decode(path.read_bytes(), type=_File)
            if file.version != _VERSION or file.of != _set_up(camera):
                return StoredView()
            return StoredView({stored.has_colour: _unpacked(stored) for stored in file.references})
        except FileNotFoundError:
            return StoredView()
        except (OSError, msgspec.DecodeError, ValueError) as error:
            _log.warning(
                "camera reference is unusable and is taken anew file=%s reason=%s", path, error
            )
            return StoredView()

    def write(self, camera: CameraConfig, view: StoredView) -> None:
        """Store what a camera looks at; where that fails it is taken anew after the next start."""
        path = self._path(camera)
        references = [_packed(has_colour, one) for has_colour, one in view.references.items()]
        file = _File(_VERSION, _set_up(camera), references)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(path, msgspec.msgpack.encode(file), 0o600)
        except OSError as error:
            _log.warning("camera reference cannot be stored file=%s reason=%s", path, error)

    def _path(self, camera: CameraConfig) -> Path:
        return self._folder / f"{camera.name}.view"


def _set_up(camera: CameraConfig) -> str:
    said = (camera.source, [zone.polygon for zone in camera.zones])
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def _packed(has_colour: bool, reference: Reference) -> _Reference:
    return _Reference(
        has_colour,
        reference.size,
        len(reference.points),
        reference.patches.shape[1],
        reference.points.tobytes(),
        reference.patches.tobytes(),
        reference.contrasts.tobytes(),
    )


def _unpacked(stored: _Reference) -> Reference:
    """Return the reference.

    Raises:
        ValueError: Its parts do not fit each other.
    """
    count, side = stored.places, stored.side
    reference = Reference(
        stored.size,
        np.frombuffer(stored.points, np.float32).reshape(count, 2),
        np.frombuffer(stored.patches, np.uint8).reshape(count, side, side),
        np.frombuffer(stored.contrasts, np.float32).reshape(count),
    )
    if not np.isfinite(reference.points).all():
        raise ValueError("a place in it is nowhere")
    return reference
