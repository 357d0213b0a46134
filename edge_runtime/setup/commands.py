"""The command `transom setup`."""

import contextlib
import logging
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType

import click
import msgspec

from edge_runtime.config_option import config_option
from edge_runtime.setup.assistant import Assistant
from edge_runtime.setup.broker import BrokerWishes
from edge_runtime.setup.cameras import find_cameras
from edge_runtime.setup.conclusion import Outcome
from edge_runtime.setup.draft import DraftZone
from edge_runtime.setup.onvif import GROUP
from edge_runtime.setup.talk import Talk
from edge_runtime.setup.wishes import Wishes
from edge_runtime.setup.zones import read_option
from transom.errors import EXIT_DONE, EXIT_FAILED
from transom.secret import read_secret

_ONLY_NEW = (
    "device", "broker", "port", "tls", "ca_file", "username", "password_file", "prefix",
    "state_directory", "page",
)  # fmt: skip
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command("setup")
@config_option
@click.option("--find", "is_finding", is_flag=True, help="Only say which cameras there are.")
@click.option("--ask", "asked", multiple=True, metavar="HOST[:PORT]",
              help="Look for ONVIF cameras there, not in the whole network.")  # fmt: skip
@click.option("--device", help="The device's name in topics.  [default: this machine's]")
@click.option("--source", "sources", multiple=True, metavar="[NAME=]SOURCE",
              help="A camera: usb:0, picamera:0, rtsp://…, http(s)://…, onvif://HOST, file:…; "
                   "again for more.")  # fmt: skip
@click.option("--camera-username", help="User at the cameras that have one.")
@click.option("--camera-password-file", type=_FILE, help="A file that holds that user's password.")
@click.option("--zone", "zones", multiple=True, metavar="[CAMERA/]NAME[:CLASS]=NUMBERS",
              help="left,top,right,bottom or four corners, 0 to 1; again for more. With several "
                   "cameras it must name its own. A camera without any gets those that the starter "
                   "sees.")  # fmt: skip
@click.option("--pictures", type=_FOLDER, help="Keep the pictures with the zones drawn there.")
@click.option("--broker", help="Broker's name or address.  [default: localhost]")
@click.option("--port", type=click.IntRange(1, 65535), help="8883 with TLS, else 1883.")
@click.option("--tls/--no-tls", default=None, help="On for any host but this one.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Authority, PEM.")
@click.option("--username", help="As the broker knows this device.")
@click.option("--password-file", type=_FILE, help="A file that holds the password.")
@click.option("--prefix", default="transom", show_default=True, help="First levels of the topics.")
@click.option("--state-directory", type=click.Path(path_type=Path, file_okay=False),
              help="Of the daemon.  [default: /var/lib/transom; outside /etc/transom state/ beside "
                   "the configuration]")  # fmt: skip
@click.option("--page/--no-page", default=None, help="Serve the page to this machine.")
@click.option("--unit/--no-unit", default=None,
              help="Let the unit load the cameras' passwords, by a drop-in; for /etc/transom/"
                   "transom.toml, as root.")  # fmt: skip
@click.option(
    "--add", "is_added", is_flag=True, help="Add the cameras to the configuration that is there."
)
@click.option("--overwrite", is_flag=True, help="Replace the files that are there.")
@click.option("--unchecked", is_flag=True, help="Write also where the broker does not do its part.")
@click.option("--yes", "is_agreed", is_flag=True, help="Ask nothing; take what is proposed.")
@click.option("--json", "as_json", is_flag=True, help="Ask nothing; one JSON value at the end.")
@click.pass_context
def setup_command(
    context: click.Context,
    config_file: Path,
    is_finding: bool,
    asked: tuple[str, ...],
    device: str | None,
    sources: tuple[str, ...],
    camera_username: str | None,
    camera_password_file: Path | None,
    zones: tuple[str, ...],
    pictures: Path | None,
    broker: str | None,
    port: int | None,
    tls: bool | None,
    ca_file: str | None,
    username: str | None,
    password_file: Path | None,
    prefix: str,
    state_directory: Path | None,
    page: bool | None,
    unit: bool | None,
    is_added: bool,
    overwrite: bool,
    unchecked: bool,
    is_agreed: bool,
    as_json: bool,
) -> int:
    """Find cameras and their doors and windows, try the broker, write a configuration.

    Asks at a terminal; each question has an option that answers it. Nothing is written before the
    end, and nothing that is there is replaced without a yes. A password is typed unseen or read
    from a file, and kept in a file of its own beside the configuration.

    \b
    Example:
        sudo transom setup
        transom setup --find --json
        transom setup --config transom.toml --yes --broker broker.lan --username transom \\
            --password-file ~/.mqtt-password --source hall=rtsp://cam.lan/stream2
    """
    logging.getLogger().addHandler(logging.NullHandler())  # what matters is told here
    places = [_place(text) for text in asked] or [GROUP]
    if is_finding:
        return _show_cameras(places, as_json=as_json)
    wishes = Wishes(
        config_file=config_file,
        places=places,
        device=device,
        sources=sources,
        camera_username=camera_username,
        camera_secret=_secret(camera_password_file),
        zones=_zones(zones, sources),
        pictures=pictures,
        broker=BrokerWishes(
            broker, port, tls, _absolute(ca_file), username, _secret(password_file), prefix
        ),
        state_directory=state_directory,
        page=page,
        unit=unit,
        is_added=is_added,
        overwrite=overwrite,
        unchecked=unchecked,
        only_new=_given(context, _ONLY_NEW),
    )
    is_asking = sys.stdin.isatty() and not is_agreed and not as_json
    talk = Talk(is_asking=is_asking)
    talk.note("--config", str(config_file))
    outcome = _set_up(talk, wishes)
    if as_json:
        click.echo(msgspec.json.encode(outcome.as_json()))
    return EXIT_DONE if outcome.is_written else EXIT_FAILED


def _set_up(talk: Talk, wishes: Wishes) -> Outcome:
    """Lead through it; whoever ends it before its end is told how to go on."""
    try:
        with _ended_like_ctrl_c():
            return Assistant(talk, wishes).run()
    except (click.Abort, KeyboardInterrupt):
        talk.say(f"\nnothing was written; to go on from here:\n  {talk.how_to_go_on()}")
        raise


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let a hang-up end it in order, too: a picture of a room must not stay behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGHUP, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_cameras(places: list[tuple[str, int]], *, as_json: bool) -> int:
    found = find_cameras(ask=places)
    if as_json:
        click.echo(msgspec.json.encode([camera.as_json() for camera in found]))
        return EXIT_DONE
    talk = Talk(is_asking=False)
    for camera in found:
        click.echo(printable_line(camera.source, camera.what, camera.note))
    if not found:
        talk.say("no camera was found; RTSP and MJPEG cameras are named by address: --source")
    return EXIT_DONE


def printable_line(source: str, what: str, note: str) -> str:
    """Return a line about a camera; what it says of itself is a stranger's."""
    from transom.printable import printable

    return printable(f"{source:40}  {what}{'; ' if note else ''}{note}")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    if not host or (port and not port.isdecimal()) or not 0 < int(port or GROUP[1]) < 65536:
        raise click.BadParameter(f"must be HOST or HOST:PORT, got {text!r}", param_hint="--ask")
    return host, int(port or GROUP[1])


def _given(context: click.Context, names: Collection[str]) -> list[str]:
    """Return the options of these names that the command line has, as it writes them."""
    given = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source == click.core.ParameterSource.COMMANDLINE:
            is_off = context.params[option.name] is False
            given.append((option.secondary_opts if is_off else option.opts)[0])
    return given


def _zones(texts: Sequence[str], sources: Sequence[str]) -> list[tuple[str | None, DraftZone]]:
    """Return what `--zone` names, each with its camera, if one is named.

    Raises:
        click.BadParameter: It is no zone, or of which camera it is cannot be told.
    """
    zones = [_zone(text) for text in texts]
    loose = next((zone.name for camera, zone in zones if camera is None), None)
    if loose is not None and len(sources) > 1:
        raise click.BadParameter(
            f"{loose}: must name its camera where there are several, like CAMERA/{loose}=…",
            param_hint="--zone",
        )
    return zones


def _zone(text: str) -> tuple[str | None, DraftZone]:
    try:
        return read_option(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--zone") from error


def _secret(path: Path | None) -> str | None:
    return None if path is None else read_secret(str(path.absolute()), path)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
