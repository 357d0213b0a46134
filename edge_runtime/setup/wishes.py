"""What the command line says to a setup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.setup.broker import BrokerWishes
from edge_runtime.setup.draft import DraftZone


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line says; None or empty = asked, or proposed."""

    config_file: Path
    places: Sequence[tuple[str, int]]
    device: str | None = None
    sources: Sequence[str] = ()
    camera_username: str | None = None
    camera_secret: str | None = field(default=None, repr=False)
    zones: Sequence[tuple[str | None, DraftZone]] = ()
    pictures: Path | None = None
    broker: BrokerWishes
    state_directory: Path | None = None
    page: bool | None = None
    unit: bool | None = None
    is_added: bool = False
    overwrite: bool = False
    unchecked: bool = False
    only_new: Sequence[str] = ()
    """Options that were given and that only a new configuration can take."""
