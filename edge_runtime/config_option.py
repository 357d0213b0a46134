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
