"""The daemon put together from a configuration, and anew with another bundle or other zones."""

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_runtime.camera_set import CameraSet
from edge_runtime.clock import Clock
from edge_runtime.daemon import STOP_S, Daemon
from edge_runtime.former_name import FormerNames
from edge_runtime.handover import Handover
from edge_runtime.introduction import ToldFile
from edge_runtime.ledger import LedgerFile
from edge_runtime.link import read_access
from edge_runtime.memory import give_back_memory
from edge_runtime.misfits import misfits
from edge_runtime.models import serving_bundle
from edge_runtime.mqtt import Publisher
from edge_runtime.notify import Notifier
from edge_runtime.outbox import FILE_NAME, Outbox
from edge_runtime.precision import Measured, Opened, PrecisionFile
from edge_runtime.samples import FILE_NAME as SAMPLES
from edge_runtime.samples import SampleStore
from edge_runtime.sharing import Sharing
from edge_runtime.state_format import check_state_format, note_state_format
from edge_runtime.subscriber import ended_by_signals
from edge_runtime.update_reports import UpdateReports
from edge_runtime.view_store import VIEWS, ViewStore
from edge_runtime.zone_watch import Belief
from transom.atomic import clear_unfinished
from transom.bundle import Bundle
from transom.config import Config, load_config
from transom.errors import ClassifierError, ConfigurationError, SampleError, TransomError
from transom.messages import Topics

if TYPE_CHECKING:
    from edge_runtime.updater import Updater
    from edge_runtime.web.running import Page

_log = logging.getLogger(__name__)


@dataclass
class _Kept:
    """What goes on while a daemon with another bundle takes the place of one.

    Attributes:
        cameras: They deliver frames all the while.
        publisher: Its connection stays.
        opened: The bundle that is to serve, its network at work already.
        beliefs: What is known of each zone.
        has_ended: Whether both have, because the daemon failed or was told to stop.
    """

    cameras: CameraSet
    publisher: Publisher
    opened: Opened | None = None
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    has_ended: bool = False

    def take_opened(self) -> Opened | None:
        """Return the network that is at work, and hold it no more: the daemon may change it."""
        opened, self.opened = self.opened, None
        return opened

    def end(self) -> None:
        """End both; nothing where they have ended."""
        self.has_ended = True
        self.publisher.stop(STOP_S / 2)
        self.cameras.stop()


def serve(config: Config, config_file: Path, cameras: CameraSet) -> None:
    """Run the daemon until it is told to stop.

    Args:
        config: The configuration.
        config_file: The file that it was read from, read again when zones are drawn anew.
        cameras: Its cameras, which may have been started.
    """
    state = Path(config.state_directory)
    read_access(config.mqtt, config_file)  # a mistake is told before anything begins
    check_state_format(state)
    outbox = _outbox(config)  # before the page: a daemon that runs here already has both
    note_state_format(state)
    for folder in (state, Path(config.models.store)):
        clear_unfinished(folder)
    kept = _Kept(cameras, _publisher(config, config_file, outbox))
    ledger = _ledger(config)
    try:
        with _page(config, config_file) as page:
            while _run(config, kept, page, outbox, ledger):
                is_reloaded = page is not None and page.wants_reload
                if not (is_reloaded or kept.has_ended):
                    continue
                kept.end()
                give_back_memory()
                if is_reloaded:
                    config = _read_again(config, config_file)
                    outbox.close()
                    outbox = _outbox(config)
                    ledger = _ledger(config)
                cameras = CameraSet(config, config_file)
                kept = _Kept(cameras, _publisher(config, config_file, outbox))
                cameras.start()  # their sources open while the network is loaded
    finally:
        kept.end()
        outbox.close()


def _read_again(config: Config, config_file: Path) -> Config:
    """Return what the file says now; what it said before, where that cannot be used.

    The page changes nothing but zones. Whatever else somebody has begun to change in the file comes
    with them, and a mistake in it must not be the end of a sensor that worked. Where the state is,
    and the page, which has its token there, stay as they are until the daemon is started again.
    """
    try:
        new = load_config(config_file)
        read_access(new.mqtt, config_file)
        CameraSet(new, config_file)  # for its passwords; it starts nothing
        if new.models != config.models:
            _check_bundle(new)
    except TransomError as error:
        _log.error("configuration is not used, the one before is: %s", error)
        return config
    stays = {key: getattr(config, key) for key in ("state_directory", "page")}
    if later := [key for key, value in stays.items() if getattr(new, key) != value]:
        _log.warning("taken from the next start on: %s", ", ".join(later))
    return msgspec.structs.replace(new, **stays)


def _check_bundle(config: Config) -> None:
    if mistakes := list(misfits(config, serving_bundle(config.models).manifest)):
        raise ConfigurationError(mistakes)


def _outbox(config: Config) -> Outbox:
    return Outbox(Path(config.state_directory) / FILE_NAME, config.outbox)


def _ledger(config: Config) -> LedgerFile:
    return LedgerFile(Path(config.models.store))


def _page(config: Config, config_file: Path) -> AbstractContextManager["Page | None"]:
    if config.page is None:
        return nullcontext()
    from edge_runtime.web.running import serving_page  # only where it is switched on

    return serving_page(config.page, Path(config.state_directory), config_file)


def _run(
    config: Config,
    kept: _Kept,
    page: "Page | None",
    outbox: Outbox,
    ledger: LedgerFile,
) -> bool:
    """Run a daemon until it is told to stop, or until another bundle is to serve.

    Returns:
        Whether to run another, with another bundle or with zones that were drawn anew.
    """
    cameras, publisher = kept.cameras, kept.publisher
    clock = Clock()
    state = Path(config.state_directory)
    topics = Topics(config.mqtt.prefix, config.device)
    samples, told = _samples(config, state), ToldFile(state)
    try:
        reports = UpdateReports(topics, outbox, publisher, clock)
        handover = (
            None
            if config.updates is None
            else Handover(config.models, reports, ledger, clock.boot_id())
        )
        bundle = serving_bundle(config.models) if handover is None else handover.begin()
        precisions = PrecisionFile(state, threads=config.models.threads)
        measured = precisions.read(bundle.digest)
        try:
            daemon = Daemon(
                config,
                bundle,
                cameras.cameras,
                publisher,
                outbox,
                clock,
                Notifier(),
                processes=lambda: _processes(cameras, page),
                views=ViewStore(state / VIEWS),
                told=told,
                samples=samples,
                wake=cameras.wake,
                is_shown=page is not None,
                measured=measured,
                opened=kept.take_opened(),
                beliefs=kept.beliefs,
                updates=None
                if handover is None
                else _updater(config, topics, publisher, handover, reports, bundle, clock),
            )
            with (
                ended_by_signals(daemon.ask_to_stop),
                nullcontext() if page is None else page.showing(config, daemon, samples, clock),
                FormerNames(config, told, publisher, clock),
                _sharing(config, topics, publisher, samples, bundle),
                _measuring(config, bundle, daemon, precisions, measured),
            ):
                daemon.run()
        except ClassifierError as error:
            if handover is None or not handover.give_up(str(error)):
                raise
            kept.end()  # it stopped them where it failed at work
            return True
        if handover is not None and not daemon.wants_restart:
            handover.end()
        kept.opened, kept.beliefs = daemon.successor, daemon.beliefs
        return daemon.wants_restart or (page is not None and page.wants_reload)
    finally:
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


def _publisher(config: Config, config_file: Path, outbox: Outbox) -> Publisher:
    """Return the connection to the broker; where Home Assistant begins anew, it is told again."""
    access = read_access(config.mqtt, config_file)
    home = config.homeassistant
    return Publisher(
        config.mqtt,
        Topics(config.mqtt.prefix, config.device),
        outbox,
        secret=access.secret,
        clock=Clock(),
        tls=access.tls,
        birth_topic=f"{home.prefix}/status" if home.discovery else None,
        renew=lambda: read_access(config.mqtt, config_file),
    )


def _processes(cameras: CameraSet, page: "Page | None") -> list[int]:
    shown = None if page is None else page.process_id
    return [os.getpid(), *cameras.process_ids(), *([] if shown is None else [shown])]
