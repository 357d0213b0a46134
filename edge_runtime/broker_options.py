"""How a person names a broker on a command line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.link import Access, read_access
from edge_runtime.loss import Called
from transom.config import MqttConfig, load_config

_OPTIONS = (
    click.option("--host", help="Broker; or take it from --config."),
    click.option("--port", type=click.IntRange(1, 65535), help="8883 with TLS, else 1883."),
    click.option("--tls/--no-tls", default=None, help="On for any host but this one."),
    click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Authority, PEM."),
    click.option("--username", help="As the broker knows you."),
    click.option(
        "--password-file",
        type=click.Path(exists=True, dir_okay=False),
        help="A file that holds the password.",
    ),
    click.option("--prefix", default=None, help="First levels of the topics.  [default: transom]"),
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Take broker and credentials from a device's configuration.",
    ),
)


CALLED = Called(
    host="--host",
    port="--port",
    tls="--tls",
    no_tls="--no-tls",
    ca_file="--ca-file",
    username="--username",
    password_file="--password-file",  # noqa: S106 - an option
    protocol="mqtt.protocol of a configuration, given with --config,",
)
"""What the options say."""


def broker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a broker; see `broker_access`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def broker_access(config_file: Path | None, broker: dict[str, Any]) -> Access:
    """Return how to reach the broker that `broker_options` were given.

    Args:
        config_file: A device's configuration, or None.
        broker: The other options by name.

    Raises:
        click.UsageError: No broker is named, or two are.
        ConfigurationError: A file that is named cannot be used.
    """
    given = {name: value for name, value in broker.items() if value is not None}
    if config_file is not None:
        if given:
            raise click.UsageError(f"--config names the broker; drop --{next(iter(given))}")
        return read_access(load_config(config_file).mqtt, config_file.absolute())
    if "host" not in given:
        raise click.UsageError("name the broker with --host, or a configuration with --config")
    try:
        config = msgspec.convert(given, MqttConfig)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error
    return replace(read_access(config, Path.cwd() / "command line"), called=CALLED)
