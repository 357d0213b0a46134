"""`transom deploy`, `rollback` and `fleet`: bundles to devices, and who runs what."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.broker_options import broker_access, broker_options
from edge_runtime.clock import Clock
from fleet.deploy import Deployment
from fleet.rollback import roll_back
from fleet.rollout import Course, Plan
from fleet.roster import as_table, choose, read_roster
from fleet.session import Session
from transom.errors import EXIT_DONE, EXIT_FAILED

_DEVICES = click.argument("devices", metavar="[DEVICE]...", nargs=-1)
_EVERYONE = click.option("--all", "everyone", is_flag=True, help="Every device the broker knows.")
_ANSWER = click.option(
    "--answer-s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="A device that is online and says nothing for so long has failed.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON value at the end.")


def _read_stages(_context: click.Context, _option: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"must be numbers like 10,50,100, got {text!r}") from None


@click.command("deploy")
@click.argument("bundle_file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_DEVICES
@_EVERYONE
@click.option("--canaries", type=click.IntRange(min=0), default=1, show_default=True,
              help="Devices that are asked first.")  # fmt: skip
@click.option("--stages", callback=_read_stages, default="10,50,100", show_default=True,
              help="Per cent of the devices that each further wave goes up to.")  # fmt: skip
@click.option("--abort-above", type=click.FloatRange(0, 100), default=5.0, show_default=True,
              help="End when more than this per cent of those asked have failed.")  # fmt: skip
@click.option("--url", help="Devices fetch it from this https URL instead of the broker.")
@_ANSWER
@click.option("--decide-s", type=click.FloatRange(min=0, min_open=True), default=7200.0,
              show_default=True, help="A device must have decided within so long.")  # fmt: skip
@_JSON
@broker_options
def deploy_command(
    bundle_file: Path,
    devices: tuple[str, ...],
    everyone: bool,
    canaries: int,
    stages: tuple[float, ...],
    abort_above: float,
    url: str | None,
    answer_s: float,
    decide_s: float,
    as_json: bool,
    config_file: Path | None,
    **broker: Any,
) -> int:
    """Bring a bundle to devices: a canary first, then stage by stage.

    Ends with 1 when too many have failed; those that have not decided are then told to let it be.
    Nothing is kept here: after Ctrl-C or a crash the same command goes on.

    \b
    Example:
        transom deploy home.bundle hall-pi --host broker.lan --username me
        transom deploy home.bundle --all --stages 5,25,100 --config /etc/transom/transom.toml
    """
    _check_devices(devices, everyone=everyone)
    try:
        plan = Plan(canaries, stages, abort_above, answer_s, decide_s)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--stages") from error
    began_s = time.monotonic()
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = choose(read_roster(session), devices, everyone=everyone)
        deployment = Deployment(session, Clock(), bundle_file, members, plan, url)
        with _progress() as progress:
            deployment.send_bundle(lambda share: progress(f"bundle at the broker: {share:.0%}"))

            def show(course: Course) -> None:
                progress(_counted(deployment))
                if course.standing == "failed" and not as_json:
                    click.echo(f"{course.device}: {course.step or 'failed'}: {course.reason}")

            deployment.run(show)
    told = deployment.as_json() | {"seconds": round(time.monotonic() - began_s, 3)}
    if as_json:
        click.echo(msgspec.json.encode(told))
    else:
        click.echo(_summary(deployment))
    is_good = not told["aborted"] and not told["counts"].get("failed")
    return EXIT_DONE if is_good else EXIT_FAILED


@click.command("rollback")
@_DEVICES
@_EVERYONE
@_ANSWER
@_JSON
@broker_options
def rollback_command(
    devices: tuple[str, ...],
    everyone: bool,
    answer_s: float,
    as_json: bool,
    config_file: Path | None,
    **broker: Any,
) -> int:
    """Send devices back to the bundle that served before.

    \b
    Example:
        transom rollback hall-pi --host broker.lan --username me
    """
    _check_devices(devices, everyone=everyone)
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = choose(read_roster(session), devices, everyone=everyone)
        ways = roll_back(session, Clock(), members, answer_s)
    if as_json:
        click.echo(msgspec.json.encode(ways))
    else:
        for way in ways:
            click.echo(f"{way.device}: {way.outcome}{': ' if way.reason else ''}{way.reason}")
    return EXIT_FAILED if any(way.outcome == "failed" for way in ways) else EXIT_DONE


@click.group("fleet", invoke_without_command=True)
@_JSON
@broker_options
@click.pass_context
def fleet_group(
    context: click.Context, /, as_json: bool, config_file: Path | None, **broker: Any
) -> None:
    """Show which devices there are and which bundle each runs.

    \b
    Example:
        transom fleet --host broker.lan --username me
    """
    if context.invoked_subcommand is not None:
        return
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = list(read_roster(session).values())
    if as_json:
        click.echo(msgspec.json.encode([member.as_json() for member in members]))
    else:
        for line in as_table(members):
            click.echo(line)


def _check_devices(devices: tuple[str, ...], *, everyone: bool) -> None:
    if everyone == bool(devices):
        raise click.UsageError("name devices, or say --all")


def _counted(deployment: Deployment) -> str:
    return ", ".join(f"{n} {standing}" for standing, n in deployment.rollout.counts().items())


def _summary(deployment: Deployment) -> str:
    rollout = deployment.rollout
    if rollout.is_aborted:
        return (
            f"aborted: {rollout.failed_percent:.1f} % of the devices asked failed "
            f"({_counted(deployment)}); those that have it keep it (transom rollback)"
        )
    return _counted(deployment)


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a function that shows one line on a terminal, in place of the one before."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    try:
        yield lambda text: click.echo(f"\r\x1b[K{text}", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
