"""`transom deploy`, `rollback` and `fleet`: bundles to devices, and who runs what."""

import re
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.broker_options import broker_access, broker_options
from edge_runtime.clock import Clock
from edge_runtime.subscriber import ended_by_signals
from fleet.console import (
    answer_option,
    check_devices,
    device_options,
    json_option,
    progress_line,
    say,
)
from fleet.deploy import Deployment
from fleet.depot import GRACE, Depot
from fleet.event_store import open_store
from fleet.live import NOBODY, follow
from fleet.record import Recorder
from fleet.rollback import roll_back
from fleet.rollout import Course, Plan
from fleet.roster import as_table, choose, read_roster
from fleet.session import Session
from fleet.trust import tell_keys
from transom.errors import EXIT_DONE, EXIT_FAILED
from transom.keyring import state
from transom.signing import load_private_key, load_public_key
from transom.terminal import LiveTable


def _read_stages(_context: click.Context, _option: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"must be numbers like 10,50,100, got {text!r}") from None


@click.command("deploy")
@click.argument("bundle_file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@device_options
@click.option("--canaries", type=click.IntRange(min=0), default=1, show_default=True,
              help="Devices that are asked first.")  # fmt: skip
@click.option("--stages", callback=_read_stages, default="10,50,100", show_default=True,
              help="Per cent of the devices that each further wave goes up to.")  # fmt: skip
@click.option("--abort-above", type=click.FloatRange(0, 100), default=5.0, show_default=True,
              help="End when more than this per cent of those asked have failed.")  # fmt: skip
@click.option("--url", help="Devices fetch it from this https URL instead of the broker.")
@answer_option
@click.option("--decide-s", type=click.FloatRange(min=0, min_open=True), default=7200.0,
              show_default=True, help="A device must have decided within so long.")  # fmt: skip
@json_option
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

    Ends with 1 when a device has failed. When too many have, those that have not decided are told
    to let it be. Nothing is kept here: after Ctrl-C or a crash the same command goes on.

    \b
    Example:
        transom deploy home.bundle hall-pi --host broker.lan --username me
        transom deploy home.bundle --all --stages 5,25,100 --config /etc/transom/transom.toml
    """
    check_devices(devices, everyone=everyone)
    try:
        plan = Plan(canaries, stages, abort_above, answer_s, decide_s)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--stages") from error
    began_s = time.monotonic()
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = choose(read_roster(session), devices, everyone=everyone)
        deployment = Deployment(session, Clock(), bundle_file, members, plan, url)
        with progress_line() as progress:
            deployment.send_bundle(lambda share: progress(f"bundle at the broker: {share:.0%}"))

            def show(course: Course) -> None:
                progress(_counted(deployment))
                if course.standing == "failed" and not as_json:
                    say(f"{course.device}: {course.step or 'failed'}: {course.reason}")

            deployment.run(show)
    told = deployment.as_json() | {"seconds": round(time.monotonic() - began_s, 3)}
    if as_json:
        click.echo(msgspec.json.encode(told))
    else:
        click.echo(_summary(deployment))
    is_good = not told["aborted"] and not told["counts"].get("failed")
    return EXIT_DONE if is_good else EXIT_FAILED


@click.command("rollback")
@device_options
@answer_option
@json_option
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
    check_devices(devices, everyone=everyone)
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = choose(read_roster(session), devices, everyone=everyone)
        ways = roll_back(session, Clock(), members, answer_s)
    if as_json:
        click.echo(msgspec.json.encode(ways))
    else:
        for way in ways:
            say(f"{way.device}: {way.outcome}{': ' if way.reason else ''}{way.reason}")
    return EXIT_FAILED if any(way.outcome == "failed" for way in ways) else EXIT_DONE


@click.group("fleet", invoke_without_command=True)
@json_option
@click.option("--once", is_flag=True, help="Show it once, in a terminal too.")
@broker_options
@click.pass_context
def fleet_group(
    context: click.Context, /, as_json: bool, once: bool, config_file: Path | None, **broker: Any
) -> None:
    """Show which devices there are and which bundle each runs.

    In a terminal a table that follows what happens, until Ctrl-C.

    \b
    Example:
        transom fleet --host broker.lan --username me
    """
    if context.invoked_subcommand is not None:
        given = (config_file, *broker.values())
        if as_json or once or any(value is not None for value in given):
            raise click.UsageError(
                f"options come after the command: transom fleet {context.invoked_subcommand} …"
            )
        return
    with Session(broker_access(config_file, broker), Clock()) as session:
        if sys.stdout.isatty() and not as_json and not once:
            follow(session, LiveTable(sys.stdout))
            return
        members = list(read_roster(session).values())
    if as_json:
        click.echo(msgspec.json.encode([member.as_json() for member in members]))
    else:
        click.echo("\n".join(as_table(members) if members else [NOBODY]))


@fleet_group.command("record")
@click.option("--database", default="events.sqlite3", show_default=True,
              help="A file for SQLite, or postgresql://user@host/name.")  # fmt: skip
@click.option("--database-password-file", type=click.Path(path_type=Path, exists=True),
              help="A file that holds PostgreSQL's password.")  # fmt: skip
@click.option("--name", default=socket.gethostname, show_default="this machine's",
              help="Of this consumer: the same at each start, and no other's.")  # fmt: skip
@click.option("--group", default="record", show_default=True,
              help="Consumers of one group share the events.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@json_option
@broker_options
def record_command(
    database: str,
    database_password_file: Path | None,
    name: str,
    group: str,
    count: int | None,
    as_json: bool,
    config_file: Path | None,
    **broker: Any,
) -> None:
    """Keep the events of all devices in a database, until Ctrl-C.

    Start it as often as the load needs, each with a --name of its own. One that is killed loses
    nothing if it is started again under its name.

    \b
    Example:
        transom fleet record --host broker.lan --database events.sqlite3
        transom fleet record --name b --database postgresql://transom@db.lan/home --host broker.lan
    """
    access = broker_access(config_file, broker)
    for what, word in (("--name", name), ("--group", group)):
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", word):
            raise click.BadParameter(
                f"must be letters, digits and ._- (64 at most), got {word!r}", param_hint=what
            )
    password = None
    if database_password_file is not None:
        password = database_password_file.read_text("utf-8").rstrip("\r\n")
    store = open_store(database, password)
    try:
        recorder = Recorder(access, Clock(), store, name, group)
        with ended_by_signals(recorder.end), progress_line() as progress:
            recorder.run(lambda kept: progress(f"{kept} events kept"), count)
    finally:
        store.close()
    if as_json:
        click.echo(msgspec.json.encode({"kept": recorder.kept, "database": database}))
    else:
        click.echo(f"{recorder.kept} events kept in {database}")


@fleet_group.command("tidy")
@click.option("--older-h", type=click.FloatRange(min=0), default=GRACE.total_seconds() / 3600,
              show_default=True, help="Leave what was brought within so many hours.")  # fmt: skip
@json_option
@broker_options
def tidy_command(older_h: float, as_json: bool, config_file: Path | None, **broker: Any) -> None:
    """Take bundles away from the broker that no device is asked to install any more.

    `transom deploy` does so as well, at its beginning.

    \b
    Example:
        transom fleet tidy --host broker.lan --username me
    """
    with Session(broker_access(config_file, broker), Clock()) as session:
        gone = Depot(session, Clock()).tidy(timedelta(hours=older_h))
    if as_json:
        click.echo(msgspec.json.encode(gone))
    else:
        for entry in gone:
            say(f"{entry.name} {entry.sequence}: {entry.chunks} chunks taken away")


@fleet_group.command("trust")
@device_options
@click.option("--recovery-key", "recovery_file", required=True,
              type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Private key that signs this; devices have its public half.")  # fmt: skip
@click.option("--trust", "trusted", multiple=True,
              type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="A public key that may sign bundles; may be given again.")  # fmt: skip
@click.option("--revoke", "revoked", multiple=True,
              type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="A public key that may no more; may be given again.")  # fmt: skip
@click.option("--sequence", type=click.IntRange(min=1), show_default="seconds since 1970",
              help="Above that of every earlier statement.")  # fmt: skip
@answer_option
@json_option
@broker_options
def trust_command(
    devices: tuple[str, ...],
    everyone: bool,
    recovery_file: Path,
    trusted: tuple[Path, ...],
    revoked: tuple[Path, ...],
    sequence: int | None,
    answer_s: float,
    as_json: bool,
    config_file: Path | None,
    **broker: Any,
) -> int:
    """Say which keys devices trust, beside those in their folders, and which no more.

    What is said here takes the place of what was said before: name every key again that is not in
    the devices' own folders, and every one that is still revoked.

    \b
    Example:
        transom fleet trust --all --recovery-key spare.pem --trust new.pub --revoke old.pub \\
            --host broker.lan
    """
    check_devices(devices, everyone=everyone)
    if not trusted and not revoked:
        raise click.UsageError("name keys with --trust, --revoke or both")
    sequence = int(time.time()) if sequence is None else sequence
    statement = state(
        sequence,
        [load_public_key(path) for path in trusted],
        [load_public_key(path).fingerprint for path in revoked],
        load_private_key(recovery_file),
    )
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = choose(read_roster(session), devices, everyone=everyone)
        answers = tell_keys(session, Clock(), members, statement, sequence, answer_s)
    if as_json:
        click.echo(msgspec.json.encode(answers))
    else:
        for answer in answers:
            keys = ", ".join(f"{name[:12]}…" for name in answer.trusted)
            say(f"{answer.device}: {answer.outcome}: {answer.reason or keys}".rstrip(": "))
    return EXIT_FAILED if any(a.outcome == "failed" for a in answers) else EXIT_DONE


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
