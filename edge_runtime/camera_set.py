"""The cameras of a configuration."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.capture import CameraProcess
from edge_runtime.wake import Wake
from transom.config import CameraConfig, Config
from transom.secret import read_secret

if TYPE_CHECKING:
    from edge_runtime.capture_thread import CameraThread


class CameraSet:
    """The cameras of a configuration, in its order, and what they wake.

    Args:
        config: The configuration.
        config_file: The file that it was read from.

    Raises:
        ConfigurationError: A camera's password is not where the configuration says.
    """

    def __init__(self, config: Config, config_file: Path) -> None:
        self._configs = config.cameras
        self.wake = Wake()
        self.cameras = [
            _camera(config, camera, config_file, self.wake) for camera in config.cameras
        ]

    def start(self) -> None:
        """Let every camera open its source, before there is a daemon that looks.

        Not a file that is played once: its beginning would pass unseen. The daemon starts it.
        """
        for camera, its in zip(self.cameras, self._configs, strict=True):
            if its.loop or not its.source.startswith("file:"):
                camera.start()

    def stop(self) -> None:
        """End every camera; nothing where they have ended."""
        for camera in self.cameras:
            camera.stop()

    def process_ids(self) -> Iterator[int]:
        """Yield the processes that read cameras now."""
        for camera in self.cameras:
            if camera.process_id is not None:
                yield camera.process_id


def _camera(
    config: Config, camera: CameraConfig, config_file: Path, wake: Wake
) -> "CameraProcess | CameraThread":
    secret = _secret(camera, config_file)
    if config.capture.isolation == "thread":
        from edge_runtime.capture_thread import CameraThread  # only for boards with little memory

        return CameraThread(camera, secret, wake=wake)
    return CameraProcess(camera, secret, config.capture, wake=wake)


def _secret(camera: CameraConfig, config_file: Path) -> str | None:
    return read_secret(camera.password_file, config_file) if camera.password_file else None
