"""The daemon: pictures in, events out. The page to read first.

    newest frames -> picture health -> motion gate -> crops -> network -> decision -> messages

Everything happens in one loop, in one thread: `Daemon.step` is one turn of it. Cameras are read by
processes of their own (`capture`), and the broker is spoken to by a thread of its own (`mqtt`), so
nothing here waits for either. The crops of all zones of all cameras that are due in a turn go
through the network together. Time is monotonic; wall time is a label on messages only.
"""

import logging
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge_runtime.announcer import Announcer, Broker, EventStore
from edge_runtime.camera_watch import CameraWatch, Look
from edge_runtime.capture import Camera
from edge_runtime.classifier import Classifier
from edge_runtime.clock import Clock
from edge_runtime.decision import GRACE_S
from edge_runtime.diagnostics import Machine, collect
from edge_runtime.heartbeat import Heartbeat
from edge_runtime.history import ZoneHistory
from edge_runtime.introduction import ToldFile, introduce
from edge_runtime.memory import give_back_free, give_back_memory
from edge_runtime.misfits import misfits
from edge_runtime.notify import Notifier
from edge_runtime.out_of_reach import out_of_reach
from edge_runtime.precision import Chosen, Measured, Opened, open_classifier
from edge_runtime.samples import SampleStore
from edge_runtime.sampling import Sampling
from edge_runtime.view_store import ViewStore
from edge_runtime.view_watch import ViewWatch
from edge_runtime.wake import Wake
from edge_runtime.zone_messages import ZoneMessages
from edge_runtime.zone_watch import Belief, ZoneWatch
from transom.bundle import Bundle
from transom.config import CameraConfig, Config, ModelsConfig
from transom.errors import ConfigurationError
from transom.manifest import Manifest
from transom.messages import Topics

if TYPE_CHECKING:
    from edge_runtime.updater import Updater

_log = logging.getLogger(__name__)

STOP_S = 1.8
"""From the wish to stop to the end; systemd and a test allow 2 s."""

_TIMED_BATCHES = 100
_PAUSES_PER_FRAME = 10
_SHORTEST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05
_LONGEST_WAIT_S = 0.25
"""Where no camera has anything new: commands, contacts and the watchdog wait for it."""


class Daemon:
    """Watches the zones of a configuration until it is told to stop.

    Args:
        config: The whole configuration.
        bundle: The verified bundle that serves.
        cameras: One for each camera of the configuration, in its order, not yet started.
        broker: The way to the broker, not yet started.
        outbox: Where events are safe.
        clock: The machine's clocks, or a clip's.
        notifier: The service manager.
        processes: Ids of the daemon's processes, for the diagnostics; None = send none.
        views: Where what the cameras look at outlives the daemon; None = nowhere.
        told: Where what was ever told does, so that it can be taken back; None = nowhere.
        samples: Where pictures worth a label are kept; None = nowhere.
        updates: Takes bundles over MQTT; None = nothing does.
        wake: Set by the cameras when they have a frame; None = by nothing but `ask_to_stop`.
        is_shown: Whether somebody may ask for frames and for the last hour.
        measured: What the network takes here in each precision; None = nobody has looked.
        opened: The bundle with its network at work already; None = it is to be opened.
        beliefs: Of the daemon whose place this one takes with another bundle; see `beliefs`.

    Attributes:
        precision: In which the network runs, and why.
        inference_ms: What the newest batches took in the network, at most 100.

    Raises:
        ConfigurationError: A zone asks for a task or classes that the bundle does not have.
        ClassifierError: The bundle's network does not run here, or answers its goldens wrongly.
    """

    def __init__(
        self,
        config: Config,
        bundle: Bundle,
        cameras: Sequence[Camera],
        broker: Broker,
        outbox: EventStore,
        clock: Clock,
        notifier: Notifier,
        *,
        processes: Callable[[], list[int]] | None = lambda: [os.getpid()],
        views: ViewStore | None = None,
        told: ToldFile | None = None,
        samples: SampleStore | None = None,
        updates: "Updater | None" = None,
        wake: Wake | None = None,
        is_shown: bool = False,
        measured: Measured | None = None,
        opened: Opened | None = None,
        beliefs: Mapping[str, Belief] | None = None,
    ) -> None:
        if mistakes := list(misfits(config, bundle.manifest)):
            raise ConfigurationError(mistakes)
        self._config = config
        self._manifest = bundle.manifest
        self._classifier, self.precision = _network(config.models, bundle, measured, opened)
        self._broker = broker
        self._outbox = outbox
        self._clock = clock
        self._notifier = notifier
        self._processes = processes
        self._told = told
        self._updates = updates
        self._wake = Wake() if wake is None else wake
        self._is_shown = is_shown
        self._beliefs = beliefs or {}
        self._sampling = (
            Sampling(samples, config.samples, bundle, self._classifier)
            if samples is not None and config.samples is not None
            else None
        )
        topics = Topics(config.mqtt.prefix, config.device)
        self._announcer = Announcer(topics, bundle.manifest, clock, outbox, broker)
        self._watches = [
            self._watch(camera_config, camera, views)
            for camera_config, camera in zip(config.cameras, cameras, strict=True)
        ]
        self._messages = ZoneMessages(
            topics,
            (
                pair
                for camera_config, watch in zip(config.cameras, self._watches, strict=True)
                for pair in zip(camera_config.zones, watch.zones, strict=True)
            ),
        )
        self._machine = Machine(clock)
        self.inference_ms: deque[float] = deque(maxlen=_TIMED_BATCHES)
        self._pause_s = _pause_s(config)
        self._heartbeat = Heartbeat(self._watches, broker, clock, notifier, updates)
        self._is_stopping = False
        self._resting = threading.Event()
        self._resting.set()

    def _watch(self, config: CameraConfig, camera: Camera, views: ViewStore | None) -> CameraWatch:
        return CameraWatch(
            config,
            camera,
            self._zones(config),
            self._announcer,
            ViewWatch(config, views),
            patience_s=self._config.decision.unknown_after_s - GRACE_S,
            keeps_frame=self._is_shown,
        )

    def _zones(self, camera: CameraConfig) -> list[ZoneWatch]:
        return [
            ZoneWatch(
                zone,
                self._manifest,
                self._config.decision,
                self._announcer,
                self._sampling.zone(zone) if self._sampling is not None else None,
                ZoneHistory() if self._is_shown else None,
                1.0 / camera.fps,
            )
            for zone in camera.zones
        ]

    # ---------------------------------------------------------------- start, loop, end

    def run(self) -> None:
        """Start, turn until `ask_to_stop` or until another bundle is to serve, and end."""
        # Its threads would wait for work by turning: more of them, and all day, than they help.
        cv2.setNumThreads(1)
        self.start()
        try:
            while not self._is_stopping and not self.wants_restart:
                self.step()
                self._rest()
        finally:
            if self.wants_restart:
                self.hand_over()
            else:
                self.stop()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let others work for as long as this lasts (`wait_for_rest`)."""
        self._resting.set()
        try:
            yield
        finally:
            self._resting.clear()

    def wait_for_rest(self, patience_s: float) -> None:
        """Wait until the loop has nothing to do, at most for some seconds; for other threads."""
        self._resting.wait(patience_s)

    def ask_to_stop(self) -> None:
        """Let `run` return soon; may be called from a signal handler."""
        self._is_stopping = True
        self._wake.set()

    @property
    def is_ready(self) -> bool:
        """Whether every camera has had its first verdict."""
        return self._heartbeat.is_ready

    def run_as(self, other: Classifier, chosen: Chosen) -> None:
        """Let the network run in another precision from the next look on; from any thread.

        Args:
            other: Of the same bundle.
            chosen: Its precision, and why.
        """
        self._classifier.become(other)
        self.precision = chosen

    @property
    def manifest(self) -> Manifest:
        """Of the bundle that serves."""
        return self._manifest

    @property
    def watches(self) -> Sequence[CameraWatch]:
        """What is watched, a camera each, in the configuration's order."""
        return self._watches

    @property
    def beliefs(self) -> dict[str, Belief]:
        """What is known of each zone, by its name, for the daemon that follows in this run."""
        zones = (zone for watch in self._watches for zone in watch.zones)
        return {zone.name: belief for zone in zones if (belief := zone.belief) is not None}

    @property
    def wants_restart(self) -> bool:
        """Whether another bundle is to serve: start anew, and it does."""
        is_wanted = self._updates is not None and self._updates.wants_restart
        return is_wanted and not self._is_stopping

    @property
    def successor(self) -> Opened | None:
        """The bundle that is to serve, its network at work already; None = not opened."""
        return None if self._updates is None else self._updates.successor

    def start(self) -> None:
        """Say what there is, then start the cameras and the connection."""
        for line in out_of_reach(self._config):
            _log.warning("decisions are out of reach: %s", line)
        for message in introduce(self._config, self._manifest, self._told):
            self._broker.send(message)
        if self._updates is None:
            self._announcer.model()
        else:
            self._updates.start()
        self._messages.listen(self._broker)
        now_ns = self._clock.monotonic_ns()
        for watch in self._watches:
            watch.start(now_ns, self._beliefs)
        self._beliefs = {}
        self._broker.start()
        _log.info(
            "started device=%s cameras=%d zones=%d model=%s sequence=%d precision=%s",
            self._config.device,
            len(self._watches),
            sum(len(watch.zones) for watch in self._watches),
            self._manifest.name,
            self._manifest.sequence,
            self.precision.precision,
        )

    def hand_over(self) -> None:
        """End, and leave the cameras and the connection to the daemon that follows."""
        if self._updates is not None:
            self._updates.stop()
        _log.info("handed over device=%s", self._config.device)

    def stop(self) -> None:
        """Say goodbye to the broker and end the cameras, within `STOP_S`."""
        deadline_s = self._clock.monotonic_s() + STOP_S
        self._notifier.stopping()
        if self._updates is not None:
            self._updates.stop()
        self._broker.stop(STOP_S / 2)
        for index, watch in enumerate(self._watches):
            left_s = max(deadline_s - self._clock.monotonic_s(), 0.0)
            watch.camera.stop(left_s / (len(self._watches) - index))
        _log.info("stopped device=%s", self._config.device)

    def step(self) -> bool:
        """Do one turn; return whether any camera had a new frame."""
        now_ns = self._clock.monotonic_ns()
        self._messages.hear(now_ns)
        looks: list[Look] = []
        has_frame = False
        for watch in self._watches:
            frame = watch.camera.newest()
            watch.follow_status()
            if frame is None:
                watch.wait(now_ns)
                continue
            has_frame = True
            looks += watch.examine(frame)
        self._classify(looks)
        for watch in self._watches:
            for zone in watch.zones:
                zone.check_left_open(now_ns)
                zone.check_contact(now_ns)
        now_s = now_ns / 1e9
        passed_s = self._heartbeat.beat(now_s)
        if passed_s is not None and self._processes is not None:
            self._diagnose(self._processes(), now_s, passed_s)
        return has_frame

    def correct(self, zone: str, payload: bytes, by: str) -> None:
        """Take in a correction as if it had come by MQTT; may be called from any thread.

        Args:
            zone: The zone's name.
            payload: As of `…/correct`.
            by: By which way it came.
        """
        self._messages.correct(zone, payload, by)

    def _rest(self) -> None:
        """Wait for a frame, and where there are several cameras, for some of the others' too."""
        with self.resting():
            self._wake.wait(_LONGEST_WAIT_S)
            if len(self._watches) > 1:
                time.sleep(self._pause_s)

    def _classify(self, looks: list[Look]) -> None:
        if not looks:
            return
        began_ns = time.perf_counter_ns()
        answers = self._classifier.classify(np.stack([look.crop for look in looks]))
        self.inference_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
        for row, look in enumerate(looks):
            look.zone.judge(answers, row, look.frame)
        if self._updates is not None:
            self._updates.looked(looks, answers)

    def _diagnose(self, processes: list[int], now_s: float, passed_s: float) -> None:
        inference_ms = statistics.median(self.inference_ms) if self.inference_ms else None
        figures = collect(
            self._machine,
            processes=processes,
            frame_age_s={watch.name: watch.frame_age_s(now_s) for watch in self._watches},
            fps={watch.name: watch.take_frame_count() / passed_s for watch in self._watches},
            inference_ms=inference_ms,
            outbox=self._outbox.counts(),
            publisher=self._broker.counters(),
            samples=self._sampling.counts() if self._sampling is not None else None,
            chosen=self.precision,
        )
        self._announcer.diagnostics(figures)
        give_back_free()


def _network(
    config: ModelsConfig, bundle: Bundle, measured: Measured | None, opened: Opened | None
) -> tuple[Classifier, Chosen]:
    """Return a bundle's network at work, which may be so already, and its precision."""
    if opened is not None and opened.bundle.digest == bundle.digest:
        return opened.classifier, opened.chosen
    found = open_classifier(bundle, config.precision, measured, threads=config.threads)
    give_back_memory()
    return found


def _pause_s(config: Config) -> float:
    """Return the pause between two looks for frames, a part of the fastest camera's interval."""
    fastest = max(camera.fps for camera in config.cameras)
    pause_s = 1.0 / (_PAUSES_PER_FRAME * fastest)
    return min(max(pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
