"""What the page of a device shows and does: cameras, zones, the last hour, samples and labels.

It is called by a thread of its own, beside the daemon's loop, and only reads what that writes; a
correction and a label go the way that they go by MQTT: into the daemon's queue, and into the store
of samples, from which a zone learns at its next look.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_runtime.camera_watch import CameraWatch
from edge_runtime.capture import Frame
from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.history import DAY_NS, Moment, Stretch
from edge_runtime.misfits import misfits
from edge_runtime.samples import SampleStore
from edge_runtime.web.answers import (
    CameraShown,
    History,
    MomentShown,
    Status,
    StretchShown,
    ZoneShown,
)
from edge_runtime.web.asked import CorrectBody, ZonesBody
from edge_runtime.web.call import Answer, Call, Reply, answer_with, read_body
from edge_runtime.web.device_samples import BY, DeviceSamples
from edge_runtime.web.zones_file import save_zones
from edge_runtime.zone_watch import ZoneWatch
from transom.config import Config
from transom.crop import Image
from transom.errors import MessageError, PageError
from transom.messages import read_correction

_PATIENCE_S = 0.3
"""How long an answer waits for a rest of the daemon's loop; one that never rests is slow anyway."""

_LONGEST_PX = 1280
_QUALITY = 80
_DIGITS = 4


@dataclass(frozen=True)
class _Encoded:
    """A frame as the page shows it."""

    number: int
    jpeg: bytes


class DeviceDesk:
    """Answers for a running daemon.

    Args:
        config: Its configuration.
        config_file: Where that is.
        daemon: The daemon, started with `is_shown`.
        samples: Where pictures worth a label are kept; None = none are.
        clock: The daemon's.
        reload: Lets the daemon begin anew with the configuration as it is in the file.
    """

    def __init__(
        self,
        config: Config,
        config_file: Path,
        daemon: Daemon,
        samples: SampleStore | None,
        clock: Clock,
        reload: Callable[[], None],
    ) -> None:
        self._config = config
        self._config_file = config_file
        self._daemon = daemon
        self._clock = clock
        self._reload = reload
        self._cameras = {watch.name: watch for watch in daemon.watches}
        self._zones = {zone.name: zone for watch in daemon.watches for zone in watch.zones}
        self._samples = DeviceSamples(samples, self._zones, clock)
        self._encoded: dict[str, _Encoded] = {}
        self._lock = threading.Lock()
        self._operations: dict[str, Callable[[Call], Answer]] = {
            "status": self._status,
            "picture": self._picture,
            "zones": self._draw,
            "history": self._history,
            "correct": self._correct,
            **self._samples.operations,
        }

    def answer(self, call: Call) -> Reply:
        """Carry a request out; one at a time, while the daemon's loop rests."""
        with self._lock:
            self._daemon.wait_for_rest(_PATIENCE_S)
            return answer_with(self._operations, call)

    # ---------------------------------------------------------------- what there is now

    def _status(self, _call: Call) -> Answer:
        now_ns = self._clock.monotonic_ns()
        return Status(
            kind="device",
            name=self._config.device,
            keeps_samples=self._samples.are_kept,
            cameras=[self._describe_camera(watch, now_ns) for watch in self._daemon.watches],
        )

    def _describe_camera(self, watch: CameraWatch, now_ns: int) -> CameraShown:
        frame, age_s = watch.frame, watch.frame_age_s(now_ns / 1e9)
        return CameraShown(
            name=watch.name,
            online=watch.is_online,
            problem=watch.problem,
            has_drifted=watch.has_drifted,
            frame_age_s=None if age_s is None else round(age_s, 2),
            frame=None if frame is None else frame.number,
            size=None if frame is None else (frame.image.shape[1], frame.image.shape[0]),
            zones=[self._describe_zone(zone, now_ns) for zone in watch.zones],
        )

    def _describe_zone(self, zone: ZoneWatch, now_ns: int) -> ZoneShown:
        told, since_ns = zone.told, zone.since_ns
        newest = zone.history.newest if zone.history is not None else None
        return ZoneShown(
            name=zone.name,
            task=zone.task,
            classes=zone.classes,
            device_class=zone.device_class,
            polygon=[(round(x, _DIGITS), round(y, _DIGITS)) for x, y in zone.shape.points],
            state=told.state,
            confidence=round(min(told.confidence, 1.0), _DIGITS),
            reason=told.reason,
            for_s=None if since_ns is None else round((now_ns - since_ns) / 1e9, 1),
            now=None if newest is None else _describe_moment(newest, now_ns),
            taught=zone.samples.taught() if zone.samples is not None else None,
        )

    def _picture(self, call: Call) -> Answer:
        watch = self._cameras.get(call.of)
        if watch is None:
            raise PageError(f"there is no camera {call.of[:80]!r}", status=404)
        frame = watch.frame
        if frame is None:
            raise PageError(f"camera {watch.name} has not given a picture yet", status=503)
        encoded = self._encoded.get(watch.name)
        if encoded is None or encoded.number != frame.number:
            encoded = self._encoded[watch.name] = _encode(frame)
        return encoded.jpeg

    def _history(self, call: Call) -> Answer:
        zone = self._zone(call.of)
        now_ns = self._clock.monotonic_ns()
        moments = zone.history.moments() if zone.history is not None else []
        day = zone.history.day() if zone.history is not None else []
        return History(
            zone=zone.name,
            classes=zone.classes,
            moments=[_describe_moment(moment, now_ns) for moment in moments],
            day=[_describe_stretch(stretch, now_ns) for stretch in day],
        )

    # ---------------------------------------------------------------- what somebody does

    def _draw(self, call: Call) -> Answer:
        watch = self._cameras.get(call.of)
        if watch is None:
            raise PageError(f"there is no camera {call.of[:80]!r}", status=404)
        saved = save_zones(
            self._config_file,
            watch.name,
            read_body(call, ZonesBody).zones,
            lambda config: misfits(config, self._daemon.manifest),
        )
        if saved.saved:
            self._reload()
        return saved

    def _correct(self, call: Call) -> Answer:
        zone = self._zone(call.of)
        self._samples.store()
        said = read_body(call, CorrectBody).is_
        payload = msgspec.json.encode({"class": said})
        try:
            read_correction(payload, zone.classes, zone.name)
        except MessageError as error:
            raise PageError(str(error), status=422) from error
        self._daemon.correct(zone.name, payload, BY)
        return None

    def _zone(self, name: str) -> ZoneWatch:
        if name not in self._zones:
            raise PageError(f"there is no zone {name[:80]!r}", status=404)
        return self._zones[name]


def _describe_moment(moment: Moment, now_ns: int) -> MomentShown:
    return MomentShown(
        age_s=round((now_ns - moment.taken_ns) / 1e9, 2),
        bundle=_rounded(moment.said),
        judged=_rounded(moment.judged),
        filter=[round(p, _DIGITS) for p in moment.posterior],
        state=moment.decision.state,
        reason=moment.decision.reason,
    )


def _describe_stretch(stretch: Stretch, now_ns: int) -> StretchShown:
    age_ns = min(now_ns - stretch.since_ns, DAY_NS)  # it may have begun before the day did
    return StretchShown(age_s=round(age_ns / 1e9, 2), state=stretch.state)


def _rounded(probabilities: "np.ndarray | None") -> list[float] | None:
    if probabilities is None:
        return None
    return [round(value, _DIGITS) for value in probabilities.tolist()]


def _encode(frame: Frame) -> _Encoded:
    image: Image = frame.image
    longest = max(image.shape[:2])
    if longest > _LONGEST_PX:
        size = [
            max(round(side * _LONGEST_PX / longest), 1) for side in (image.shape[1], image.shape[0])
        ]
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return _Encoded(frame.number, jpeg.tobytes())
