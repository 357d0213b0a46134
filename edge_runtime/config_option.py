"""The option `--config` of the device's commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = Path("/etc/transom/transom.toml")
CONFIG_FILE = click.Path(path_type=Path, dir_okay=False)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """Give a command the path of its configuration, as `config_file`."""
    option = click.option(
        "--config",
        "config_file",
        type=CONFIG_FILE,
        default=DEFAULT_CONFIG,
        show_default=True,
        help="The configuration.",
    )
    return option(command)


def how_to_start(path: Path) -> str:
    """Return the command that starts the daemon with a configuration: the unit's is its own.

    Examples:
        >>> how_to_start(Path("hall.toml"))
        'transom run --config hall.toml'
    """
    if path.absolute() != DEFAULT_CONFIG:
        return f"transom run --config {path}"
    return "systemctl enable transom && systemctl restart transom"
