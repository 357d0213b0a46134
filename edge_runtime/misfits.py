"""Whether a bundle fits a configuration: zones ask for tasks and classes that it must have."""

from collections.abc import Iterator

from edge_runtime.two_states import told_spec
from transom.config import Config
from transom.manifest import Manifest
from transom.tasks import CLOSED


def misfits(config: Config, manifest: Manifest) -> Iterator[str]:
    """Yield what zones ask for that a bundle does not have, a line a zone; nothing where it fits.

    Args:
        config: The device's.
        manifest: Of the bundle.
    """
    for camera in config.cameras:
        for zone in camera.zones:
            try:
                told = told_spec(manifest, zone)
            except ValueError as error:
                yield str(error)
                continue
            if zone.contact is not None and CLOSED not in told.classes:
                yield (
                    f"zone {zone.name}: contact needs a task with the class {CLOSED}, "
                    f"{zone.task!r} has {', '.join(told.classes)}"
                )
