"""`transom doctor`: what is wrong with this machine, its camera, its broker, and what to do."""

import logging
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec

from edge_runtime.clock import Clock
from edge_runtime.config_option import CONFIG_FILE, DEFAULT_CONFIG
from edge_runtime.diagnostics import SINCE_BOOT, UNDERVOLTAGE, Machine, in_words
from edge_runtime.doctor_broker import check_broker
from edge_runtime.doctor_children import check_camera, check_network, check_onnxruntime
from edge_runtime.finding import Check
from edge_runtime.misfits import misfits
from edge_runtime.out_of_reach import out_of_reach
from edge_runtime.outbox import FILE_NAME, why_unusable
from edge_runtime.outbox_file import DeadLetter, OutboxFile, is_damage
from edge_runtime.sqlite_file import is_in_use
from edge_runtime.state_format import check_state_format
from transom import __version__
from transom.config import Config, ModelsConfig, load_config
from transom.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    ConfigurationError,
    PageError,
    TransomError,
)
from transom.messages import Message, ZoneEvent

_LEAST_FREE_BYTES = 128 * 1024 * 1024
_HOT_C = 80.0
_REFUSED_LATELY = timedelta(days=7)


@click.command("doctor")
@click.option(
    "--config",
    "config_file",
    type=CONFIG_FILE,
    help=f"Configuration to check with.  [default: {DEFAULT_CONFIG}, where it exists]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON list of findings.")
def doctor_command(config_file: Path | None, as_json: bool) -> int:
    """Find what is wrong with this device; end with 1 if anything is.

    Speaks with the broker under a name of its own, so a running daemon is not disturbed. A USB or
    ribbon camera can be opened by one program only: stop the daemon before checking it.

    \b
    Example:
        transom doctor --config /etc/transom/transom.toml
    """
    logging.getLogger().addHandler(logging.NullHandler())  # what matters is among the findings
    if config_file is None and DEFAULT_CONFIG.exists():
        config_file = DEFAULT_CONFIG
    found = []
    for check in examine(config_file, Clock()):
        found.append(check)
        if not as_json:
            click.echo(_line(check))
    if as_json:
        click.echo(msgspec.json.encode(found))
    return EXIT_DONE if all(check.ok for check in found) else EXIT_FAILED


def _line(check: Check) -> str:
    mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
    do = f"\n      do: {check.do}" if check.do else ""
    return f"{mark}  {check.check}: {check.what}{do}"


def examine(config_file: Path | None, clock: Clock) -> Iterator[Check]:
    """Yield the findings, cheap ones first; those that need a configuration only with one."""
    yield check_word_size()
    yield check_python()
    yield check_onnxruntime()
    yield check_clock(clock)
    yield from check_heat(Machine(clock))
    if config_file is None:
        yield Check(
            check="configuration",
            ok=True,
            what=f"no {DEFAULT_CONFIG}: --config FILE has broker, bundle and cameras looked at",
        )
        return
    try:
        config = load_config(config_file)
    except ConfigurationError as error:
        yield Check(check="configuration", ok=False, what=str(error), do="mend the file")
        return
    cameras = ", ".join(camera.name for camera in config.cameras)
    yield Check(check="configuration", ok=True, what=f"device {config.device}, cameras {cameras}")
    for line in out_of_reach(config):
        yield Check(check="decisions", ok=False, what=line, do="change [decision]")
    yield check_disk(Path(config.state_directory))
    yield check_keys(config.models, takes_updates=config.updates is not None)
    yield check_state(config, clock)
    bundle = check_bundle(config)
    yield bundle
    if bundle.ok:
        yield from check_network(config)
    told = told_discovery(config) if bundle.ok and config.homeassistant.discovery else None
    yield from check_broker(config, config_file, clock, told)
    yield from check_page(config, config_file)
    for camera in config.cameras:
        yield check_camera(camera, config_file)


def check_word_size() -> Check:
    """Return whether this is a 64-bit system: there is no onnxruntime for others."""
    is_64 = sys.maxsize > 2**32
    return Check(
        check="64-bit",
        ok=is_64,
        what=f"{platform.machine()}, {64 if is_64 else 32}-bit Python",
        do="" if is_64 else "install the 64-bit edition of the operating system",
    )


def check_python() -> Check:
    """Return whether this Python is new enough."""
    is_new = sys.version_info >= (3, 11)
    return Check(
        check="python",
        ok=is_new,
        what=platform.python_version(),
        do="" if is_new else "install Python 3.11 or later, then Transom into it",
    )


def check_clock(clock: Clock) -> Check:
    """Return whether the wall time was set from the network."""
    ok = clock.is_synchronised()
    return Check(
        check="clock",
        ok=ok,
        what="synchronised" if ok else "not synchronised: events carry a time that may be wrong",
        do="" if ok else "check the network, and: timedatectl status",
    )


def check_heat(machine: Machine) -> Iterator[Check]:
    """Yield the processor's temperature and whether the board slows itself down."""
    temperature = machine.temperature_c()
    if temperature is not None:
        ok = temperature < _HOT_C
        do = "" if ok else "give the board a heat sink or a fan"
        yield Check(check="temperature", ok=ok, what=f"{temperature:.0f} °C", do=do)
    bits = machine.throttled()
    if bits is not None:
        volts = bits & (UNDERVOLTAGE | UNDERVOLTAGE << SINCE_BOOT)
        do = "use a stronger power supply" if volts else "cool the board"
        what = in_words(bits) if bits else "never"
        yield Check(check="throttling", ok=not bits, what=what, do=do if bits else "")


def check_disk(folder: Path) -> Check:
    """Return whether the state directory can be written and has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        is_writable = os.access(folder, os.W_OK)
    except OSError as error:
        what = f"{folder}: {error.strerror}"
        return Check(check="disk", ok=False, what=what, do="run as the daemon's user, or as root")
    what = f"{folder}: {free / 1024**2:,.0f} MiB free"
    if not is_writable:
        do = "make it writable for this user"
        return Check(check="disk", ok=False, what=f"{folder}: cannot be written", do=do)
    ok = free >= _LEAST_FREE_BYTES
    do = "" if ok else f"free {_LEAST_FREE_BYTES // 1024**2} MiB there"
    return Check(check="disk", ok=ok, what=what, do=do)


def check_state(config: Config, clock: Clock) -> Check:
    """Return whether the daemon can go on with what lies in the state directory."""
    try:
        check_state_format(Path(config.state_directory))
    except ConfigurationError as error:  # nor is anything in there this version's to open
        do = "install the later version, or move that folder away"
        return Check(check="state", ok=False, what=str(error), do=do)
    return check_outbox(config, clock)


def check_outbox(config: Config, clock: Clock) -> Check:
    """Return whether events wait or were lost of late; not while the daemon holds them."""
    path = Path(config.state_directory) / FILE_NAME
    if not path.exists():
        return Check(check="outbox", ok=True, what="no event was ever stored here")
    try:
        # Not the store that the daemon makes of it: that moves a damaged file out of the way.
        file = OutboxFile(path, config.outbox)
        try:
            letters = file.dead_letters()
        finally:
            file.close()
    except (sqlite3.Error, OSError) as error:
        return _unusable(path, error)
    dropped, refused = (file.counters.get(name, 0) for name in ("dropped", "refused"))
    what = f"{file.queued} events wait, {dropped} dropped, {refused} refused"
    if not letters:
        return Check(check="outbox", ok=True, what=what)
    newest, at = letters[-1], _time_of(letters[-1])
    # Kept for years, so one day it is history; what a clock says that nobody had set is no proof.
    is_old = at is not None and clock.is_synchronised() and clock.wall() - at > _REFUSED_LATELY
    do = "" if is_old else "let this device write its topics in the broker's access list"
    when = "" if at is None else f" of {at:%Y-%m-%d %H:%M} UTC"
    what = f"{what}; the newest refused{when}: {newest.message.topic}: {newest.reason}"
    return Check(check="outbox", ok=is_old, what=what, do=do)


def _unusable(path: Path, error: sqlite3.Error | OSError) -> Check:
    if is_in_use(error):
        return Check(check="outbox", ok=True, what="in use by the daemon, whose figures count")
    what, do = why_unusable(path, error), "run as the daemon's user, or as root"
    if is_damage(error):
        what = f"{path}: damaged: {error}"
        do = "look after the card; the daemon keeps this beside a new one that it begins"
    return Check(check="outbox", ok=False, what=what, do=do)


def _time_of(letter: DeadLetter) -> datetime | None:
    """Return when a refused event happened, UTC; None = nobody knows."""
    try:
        event = msgspec.json.decode(letter.message.payload, type=ZoneEvent)
        return datetime.fromisoformat(event.at).astimezone(UTC) if event.time_synced else None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None


def check_keys(models: ModelsConfig, *, takes_updates: bool) -> Check:
    """Return whether there is a key to trust bundles by, where one is or will be needed."""
    from edge_runtime.keyring import Keyring
    from edge_runtime.models import needs_keys

    if not needs_keys(models) and not takes_updates:
        return Check(
            check="keys", ok=True, what="none needed: no bundle of your own is installed or taken"
        )
    folder = Path(models.trusted_keys)
    try:
        keys = Keyring(models).trusted()
    except TransomError as error:
        return Check(check="keys", ok=False, what=str(error), do="copy the public key there")
    return Check(check="keys", ok=True, what=f"{len(keys)} trusted in {folder}")


def check_bundle(config: Config) -> Check:
    """Return whether a trusted bundle is there, and has what the zones ask for."""
    from edge_runtime.models import serving_bundle

    try:
        manifest = serving_bundle(config.models).manifest
    except TransomError as error:
        do = "copy a bundle that transom export wrote into models.store"
        return Check(check="bundle", ok=False, what=str(error), do=do)
    if mistakes := list(misfits(config, manifest)):
        do = "mend these zones, or take a bundle that has what they ask for"
        return Check(check="bundle", ok=False, what="; ".join(mistakes), do=do)
    what = f"{manifest.name} sequence {manifest.sequence}, {manifest.precision}"
    return Check(check="bundle", ok=True, what=what)


def check_page(config: Config, config_file: Path) -> Iterator[Check]:
    """Yield whether the page can be served, where the configuration has one."""
    from edge_runtime.web.certificate import check_certificate
    from edge_runtime.web.running import check_libraries, find_certificate

    if config.page is None:
        return
    try:
        check_libraries()
        certificate = find_certificate(config.page, config_file)
        if certificate is not None:
            check_certificate(certificate)
    except ConfigurationError as error:
        yield Check(check="page", ok=False, what=str(error), do="mend [page]")
    except PageError as error:
        yield Check(check="page", ok=False, what=str(error), do="mend that, or take out [page]")
    else:
        how = "https" if config.page.uses_tls else "http"
        what = f"{how}, at {config.page.host}:{config.page.port}"
        yield Check(check="page", ok=True, what=what)


def told_discovery(config: Config) -> Message:
    """Return what the daemon tells Home Assistant."""
    from edge_runtime.homeassistant import discovery
    from edge_runtime.models import serving_bundle

    return discovery(config, serving_bundle(config.models).manifest, __version__)
