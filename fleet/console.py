"""What the commands of the fleet have in common: which devices, a line of progress."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from transom.printable import printable

Command = Callable[..., Any]

answer_option = click.option(
    "--answer-s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="A device that is online and says nothing for so long has failed.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON value at the end.")


def device_options(command: Command) -> Command:
    """Give a command the devices that a person names, or all; see `check_devices`."""
    everyone = click.option(
        "--all", "everyone", is_flag=True, help="Every device the broker knows."
    )
    return click.argument("devices", metavar="[DEVICE]...", nargs=-1)(everyone(command))


def check_devices(devices: tuple[str, ...], *, everyone: bool) -> None:
    """Refuse a command line that names neither devices nor all of them, or both.

    Raises:
        click.UsageError: It does.
    """
    if everyone == bool(devices):
        raise click.UsageError("name devices, or say --all")


def say(text: str) -> None:
    """Print what devices and others at the broker have said, a line at a time."""
    click.echo(printable(text))


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows one line on a terminal, in place of the one before."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    try:
        yield lambda text: click.echo(f"\r\x1b[K{text}", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
