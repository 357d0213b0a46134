"""The device's commands: `transom run`, `check`, `replay`, and by name `watch` and `doctor`."""

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from edge_runtime.capture import CameraProcess
from edge_runtime.capture_thread import CameraThread
from edge_runtime.classifier import give_back_memory
from edge_runtime.clock import Clock
from edge_runtime.config_option import CONFIG_FILE, config_option
from edge_runtime.daemon import Daemon
from edge_runtime.decision import StateFilter
from edge_runtime.handover import Handover
from edge_runtime.link import Access, read_access
from edge_runtime.models import serving_bundle
from edge_runtime.mqtt import Publisher
from edge_runtime.notify import Notifier
from edge_runtime.outbox import FILE_NAME, Outbox
from edge_runtime.precision import Measured, PrecisionFile
from edge_runtime.redaction import shown_source
from edge_runtime.replay import ReplaySummary, as_line, replay
from edge_runtime.samples import FILE_NAME as SAMPLES
from edge_runtime.samples import SampleStore
from edge_runtime.sharing import Sharing
from edge_runtime.subscriber import ended_by_signals
from edge_runtime.update_reports import UpdateReports
from edge_runtime.view_store import VIEWS, ViewStore
from edge_runtime.wake import Wake
from transom.bundle import Bundle, TaskSpec, read_bundle
from transom.config import CameraConfig, Config, load_config, read_secret
from transom.errors import EXIT_CONFIGURATION, ClassifierError, ConfigurationError, SampleError
from transom.messages import Message, Topics, ZoneEvent, decode
from transom.printable import printable

if TYPE_CHECKING:
    from edge_runtime.updater import Updater
    from edge_runtime.web.running import Page

# Commands of other modules, imported when they are asked for: `transom run` needs none of them.
_log = logging.getLogger(__name__)

_ELSEWHERE = {
    "watch_command": "edge_runtime.watch",
    "doctor_command": "edge_runtime.doctor",
}

_SYSLOG_LEVELS = {
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---------------------------------------------------------------- transom run


@click.command("run")
@config_option
@click.option("--verbose", is_flag=True, help="Log what happens between transitions too.")
def run_command(config_file: Path, verbose: bool) -> None:
    """Watch the doors and windows of a configuration file until told to stop.

    \b
    Example:
        transom run --config /etc/transom/transom.toml
    """
    start_logging(verbose=verbose)
    config = load_config(config_file)
    access = read_access(config.mqtt, config_file)
    outbox = _outbox(config)  # before the page: a daemon that runs here already has both
    try:
        with _page(config, config_file) as page:
            while _serve(config, config_file, access, page, outbox):
                give_back_memory()
                if page is not None and page.wants_reload:
                    config = load_config(config_file)
                    access = read_access(config.mqtt, config_file)
                outbox = _outbox(config)
    finally:
        outbox.close()


def _outbox(config: Config) -> Outbox:
    return Outbox(Path(config.state_directory) / FILE_NAME, config.outbox)


def _page(config: Config, config_file: Path) -> AbstractContextManager["Page | None"]:
    if config.page is None:
        return nullcontext()
    from edge_runtime.web.running import serving_page  # only where it is switched on

    return serving_page(config.page, Path(config.state_directory), config_file)


def _serve(
    config: Config, config_file: Path, access: Access, page: "Page | None", outbox: Outbox
) -> bool:
    """Run a daemon until it is told to stop; its outbox is closed then.

    Returns:
        Whether to run another, with another bundle or with zones that were drawn anew.
    """
    wake = Wake()
    cameras = [_camera(config, camera, config_file, wake) for camera in config.cameras]
    clock = Clock()
    state = Path(config.state_directory)
    topics = Topics(config.mqtt.prefix, config.device)
    samples = _samples(config, state)
    try:
        for camera in cameras:
            camera.start()  # it opens while the network is loaded
        publisher = Publisher(
            config.mqtt,
            topics,
            outbox,
            secret=access.secret,
            clock=clock,
            tls=access.tls,
            birth_topic=_birth_topic(config),
        )
        reports = UpdateReports(topics, outbox, publisher, clock)
        handover = Handover(config.models, reports) if config.updates is not None else None
        bundle = serving_bundle(config.models) if handover is None else handover.begin()
        precisions = PrecisionFile(state, threads=config.models.threads)
        measured = precisions.read(bundle.digest)
        try:
            daemon = Daemon(
                config,
                bundle,
                cameras,
                publisher,
                outbox,
                clock,
                Notifier(),
                processes=lambda: _processes(cameras, page),
                views=ViewStore(state / VIEWS),
                samples=samples,
                wake=wake,
                is_shown=page is not None,
                measured=measured,
                updates=None
                if handover is None
                else _updater(config, topics, publisher, handover, reports, bundle, clock),
            )
            with (
                ended_by_signals(daemon.ask_to_stop),
                nullcontext() if page is None else page.showing(config, daemon, samples, clock),
                _sharing(config, topics, publisher, samples, bundle),
                _measuring(config, bundle, daemon, precisions, measured),
            ):
                daemon.run()
        except ClassifierError as error:
            if handover is None or not handover.roll_back(str(error)):
                raise
            return True
        if handover is not None and not daemon.wants_restart:
            handover.end()
        return daemon.wants_restart or (page is not None and page.wants_reload)
    finally:
        for camera in cameras:
            camera.stop()
        outbox.close()
        if samples is not None:
            samples.close()


def _samples(config: Config, state: Path) -> SampleStore | None:
    """Open the samples; a sensor does its work without them too."""
    if config.samples is None:
        return None
    try:
        return SampleStore(state / SAMPLES, config.samples)
    except SampleError as error:
        _log.warning("no samples are kept reason=%s", error)
        return None


def _updater(
    config: Config,
    topics: Topics,
    publisher: Publisher,
    handover: Handover,
    reports: UpdateReports,
    bundle: Bundle,
    clock: Clock,
) -> "Updater":
    from edge_runtime.updater import Updater  # only where bundles are taken

    return Updater(config, topics, publisher, handover, reports, bundle, clock)


def _measuring(
    config: Config,
    bundle: Bundle,
    daemon: Daemon,
    precisions: PrecisionFile,
    measured: Measured | None,
) -> AbstractContextManager[object]:
    """Find out which precision is faster here, where nobody knows and somebody wants to."""
    is_open = config.models.precision == "auto" and len(bundle.precisions) > 1
    if measured is not None or not is_open:
        return nullcontext()
    from edge_runtime.measuring import Measuring  # once in a bundle's time on a machine

    return Measuring(config.models, bundle, daemon, precisions)


def _sharing(
    config: Config,
    topics: Topics,
    publisher: Publisher,
    samples: SampleStore | None,
    bundle: Bundle,
) -> AbstractContextManager[object]:
    """Answer questions about samples, where the configuration consents to it."""
    if samples is None or config.samples is None or not config.samples.pull:
        return nullcontext()
    return Sharing(config, topics, publisher, samples, bundle)


def start_logging(*, verbose: bool = False) -> None:
    """Log to stderr; under systemd in the journal's way, with a level and without a time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in os.environ else _formatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


class _Formatter(logging.Formatter):
    """Keeps a message on one line: what a stranger sent must not look like a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)


def _formatter() -> logging.Formatter:
    return _Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class _JournalFormatter(_Formatter):
    """Puts the syslog level before each line, as sd-daemon(3) has it."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        level = _SYSLOG_LEVELS.get(record.levelno, 7)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def _camera(
    config: Config, camera: CameraConfig, config_file: Path, wake: Wake
) -> CameraProcess | CameraThread:
    secret = _secret(camera, config_file)
    if config.capture.isolation == "thread":
        return CameraThread(camera, secret, wake=wake)
    return CameraProcess(camera, secret, config.capture, wake=wake)


def _secret(camera: CameraConfig, config_file: Path) -> str | None:
    return read_secret(camera.password_file, config_file) if camera.password_file else None


def _birth_topic(config: Config) -> str | None:
    return f"{config.homeassistant.prefix}/status" if config.homeassistant.discovery else None


def _processes(cameras: Sequence[CameraProcess | CameraThread], page: "Page | None") -> list[int]:
    children = [camera.process_id for camera in cameras]
    children += [] if page is None else [page.process_id]
    return [os.getpid(), *(child for child in children if child is not None)]


# ---------------------------------------------------------------- transom check


@click.command("check")
@click.argument("config_file", type=CONFIG_FILE)
def check_command(config_file: Path) -> int:
    """Show what a configuration file says, or every mistake in it (exit code 78).

    \b
    Example:
        transom check /etc/transom/transom.toml
    """
    try:
        config = load_config(config_file)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            click.echo(mistake, err=True)
        return EXIT_CONFIGURATION
    for line in describe(config):
        click.echo(line)
    return 0


def describe(config: Config) -> Iterator[str]:
    """Yield what a configuration says, in lines for people; no secret is in them."""
    mqtt, topics = config.mqtt, Topics(config.mqtt.prefix, config.device)
    user = f" as {mqtt.username}" if mqtt.username else ""
    yield f"device     {config.device}, topics below {topics.root}/"
    yield (
        f"broker     {mqtt.host}:{mqtt.tcp_port}{user}, "
        f"{'TLS' if mqtt.uses_tls else 'not encrypted'}, protocol {mqtt.protocol}"
    )
    models = config.models
    source = models.bundle or f"newest of {models.store}"
    precision = "" if models.precision == "auto" else f", in {models.precision}"
    yield f"model      {source}{precision}, keys in {models.trusted_keys}"
    yield f"decisions  {_describe_decisions(config)}"
    if config.samples is not None:
        shared = ", sent to who asks over MQTT" if config.samples.pull else ""
        yield (
            f"samples    at most {config.samples.max_count} pictures, "
            f"{config.samples.max_bytes / 1e6:.0f} MB, in {config.state_directory}{shared}"
        )
    if config.page is not None:
        scheme = "https" if config.page.uses_tls else "http"
        yield (
            f"page       {scheme}://{config.page.host}:{config.page.port}/, for those who have "
            f"the token in {config.state_directory}"
        )
    if config.updates is not None:
        how = "at once" if config.updates.install == "at_once" else "when asked"
        older = ", older ones too" if config.updates.allow_older else ""
        where = ", ".join(("MQTT", *config.updates.url_prefixes))
        yield f"updates    installed {how}{older}, from {where}"
    if config.homeassistant.discovery:
        yield f"discovery  for Home Assistant below {config.homeassistant.prefix}/"
    for camera in config.cameras:
        yield f"camera     {camera.name}: {shown_source(camera.source)}, {camera.fps:g} fps"
        for zone in camera.zones:
            left_open = (
                f", left_open after {zone.left_open_after_s:g} s, "
                f"then every {zone.left_open_repeat_s:g} s"
                if zone.left_open_after_s is not None
                else ""
            )
            picture = ", with snapshots" if zone.snapshot else ""
            correct = ", learns from corrections" if zone.correct else ""
            contact = f", learns from {zone.contact.topic}" if zone.contact else ""
            yield (
                f"  zone     {zone.name}: {zone.device_class}, {zone.zone.area:.1%} of the frame"
                f"{left_open}{picture}{correct}{contact}"
            )


def _describe_decisions(config: Config) -> str:
    spec = TaskSpec(name="state", classes=("closed", "open"), thresholds=(0.5, 0.5))
    state_filter = StateFilter(spec, config.decision)
    return (
        f"{config.decision.false_changes_per_day:g} false changes per zone and day allowed: a "
        f"change needs {state_filter.evidence_nats:.1f} nats, at least "
        f"{state_filter.shortest_change_s(config.cameras[0].fps):.1f} s of a clear view; unknown "
        f"after {config.decision.unknown_after_s:g} s"
    )


# ---------------------------------------------------------------- transom replay


@click.command("replay")
@config_option
@click.option(
    "--clip",
    "clips",
    multiple=True,
    metavar="CAMERA=FILE",
    help="A video or a folder of pictures for a camera; its own source, where that is a file.",
)
@click.option(
    "--bundle",
    "bundle_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Judge with this bundle, whoever has signed it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON line a message, then a summary.")
def replay_command(
    config_file: Path, clips: tuple[str, ...], bundle_file: Path | None, as_json: bool
) -> None:
    """Play a clip through the daemon's exact rules and show the messages it would have sent.

    Nothing is sent and nothing is stored. Times are the clip's.

    \b
    Example:
        transom replay --config transom.toml --clip hall=monday.mp4 --json
    """
    config = load_config(config_file)
    files = _clip_files(config, clips)
    bundle = _replayed_bundle(config, bundle_file)
    with _progress() as progress:
        summary = replay(config, bundle, files, _show_json if as_json else _show, progress)
    click.echo(_summary_line(summary, as_json))


def _replayed_bundle(config: Config, bundle_file: Path | None) -> Bundle:
    return serving_bundle(config.models) if bundle_file is None else read_bundle(bundle_file, None)


def _clip_files(config: Config, clips: tuple[str, ...]) -> dict[str, Path]:
    names = [camera.name for camera in config.cameras]
    files = {
        camera.name: Path(camera.source.removeprefix("file:"))
        for camera in config.cameras
        if camera.source.startswith("file:")
    }
    for clip in clips:
        name, is_pair, file = clip.partition("=")
        if not is_pair or name not in names:
            raise click.BadParameter(
                f"must be CAMERA=FILE with a camera of {', '.join(names)}, got {clip!r}",
                param_hint="--clip",
            )
        files[name] = Path(file)
    if not files:
        raise click.UsageError(f"give a clip, like --clip {names[0]}=FILE")
    return files


def _show_json(clip_s: float, message: Message) -> None:
    click.echo(as_line(clip_s, message))


def _show(clip_s: float, message: Message) -> None:
    """Print an event for people; other messages are for --json."""
    zone, _, kind = message.topic.rpartition("/")
    if kind != "event":
        return
    event = decode(message.payload, ZoneEvent, message.topic)
    why = f", {event.reason}" if event.reason else ""
    click.echo(
        f"{clip_s:9.2f} s  {zone.rpartition('/')[2]:20} {event.event_type:10} "
        f"{event.previous} -> {event.state} ({event.confidence:.0%}{why})"
    )


def _summary_line(summary: ReplaySummary, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(summary).decode()
    return (
        f"{summary.frames} frames of {summary.clip_s:.1f} s in {summary.wall_s:.1f} s, "
        f"{summary.cpu_s:.1f} s of processor time"
    )


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a function that shows how far a clip has come, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _clip_s: None
        return

    def show(clip_s: float) -> None:
        click.echo(f"\r{clip_s:8.1f} s of the clip", nl=False, err=True)

    try:
        yield show
    finally:
        with suppress(OSError):
            click.echo("\r" + " " * 24 + "\r", nl=False, err=True)
