"""The device's commands `transom check` and `replay`, and by name `watch` and `doctor`."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.config_option import CONFIG_FILE, config_option
from edge_runtime.decision import StateFilter
from edge_runtime.models import serving_bundle
from edge_runtime.one_picture import check_clip
from edge_runtime.out_of_reach import out_of_reach
from edge_runtime.redaction import shown_source
from edge_runtime.replay import ReplaySummary, as_line, replay
from edge_runtime.state_format import check_state_format
from transom.bundle import Bundle, read_bundle
from transom.config import Config, load_config
from transom.errors import EXIT_CONFIGURATION, ConfigurationError
from transom.manifest import TaskSpec
from transom.messages import Message, Topics, ZoneEvent, decode

# Commands of other modules, imported when they are asked for.
_ELSEWHERE = {
    "watch_command": "edge_runtime.watch",
    "doctor_command": "edge_runtime.doctor",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---------------------------------------------------------------- transom check


@click.command("check")
@click.argument("config_file", type=CONFIG_FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: every mistake, every key.")
def check_command(config_file: Path, as_json: bool) -> int:
    """Show what a configuration file says, or every mistake in it (exit code 78).

    So ends too what finds a state directory of a later Transom.

    \b
    Example:
        transom check /etc/transom/transom.toml
    """
    config, mistakes = None, []
    try:
        read = load_config(config_file)
        check_state_format(Path(read.state_directory))
        config = read
    except ConfigurationError as error:
        mistakes = error.mistakes
    if as_json:
        told = {"ok": config is not None, "mistakes": mistakes, "configuration": _plain(config)}
        click.echo(msgspec.json.encode(told))
    elif config is not None:
        for line in describe(config):
            click.echo(line)
    else:
        for mistake in mistakes:
            click.echo(mistake, err=True)
    return EXIT_CONFIGURATION if config is None else 0


def _plain(config: Config | None) -> Any:
    """Return a configuration with every key, those included that it leaves out."""
    if config is None:
        return None
    cameras = tuple(
        msgspec.structs.replace(camera, source=shown_source(camera.source))
        for camera in config.cameras
    )
    return msgspec.to_builtins(msgspec.structs.replace(config, cameras=cameras))


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
    beyond = list(out_of_reach(config))
    for line in beyond or [_describe_decisions(config)]:
        yield f"decisions  {line}"
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
    fps = config.cameras[0].fps
    state_filter = StateFilter(spec, config.decision, 1.0 / fps)
    return (
        f"{config.decision.false_changes_per_day:g} false changes per zone and day allowed: a "
        f"change is told after {state_filter.shortest_change_s(fps):.1f} s of a clear view at the "
        f"earliest; unknown after {state_filter.patience_s:g} s"
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
    for camera in config.cameras:
        if camera.name in files:
            check_clip(camera, files[camera.name])
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
