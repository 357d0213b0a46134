"""What the page of a device shows and does: cameras, zones, the last hour, samples and labels.

It is called by a thread of its own, beside the daemon's loop, and only reads what that writes; a
correction and a label go the way that they go by MQTT: into the daemon's queue, and into the store
of samples, from which a zone learns at its next look.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_runtime.camera_watch import CameraWatch
from edge_runtime.capture import Frame
from edge_runtime.clock import Clock, iso
from edge_runtime.daemon import Daemon
from edge_runtime.history import DAY_NS, Moment, Stretch
from edge_runtime.lessons import ZoneLessons
from edge_runtime.sample import Sample
from edge_runtime.samples import SampleStore
from edge_runtime.web.answers import (
    Aside,
    CameraShown,
    Counts,
    History,
    Labelled,
    Lesson,
    MomentShown,
    Samples,
    Status,
    StretchShown,
    ZoneShown,
)
from edge_runtime.web.asked import CorrectBody, IdsBody, LabelBody, SamplesQuery, ZonesBody
from edge_runtime.web.call import Answer, Call, Reply, answer_with, read_body, read_query
from edge_runtime.web.clusters import Item, clusters
from edge_runtime.web.said import describe_clusters, lesson_of
from edge_runtime.web.zones_file import save_zones
from edge_runtime.zone_watch import ZoneWatch
from transom.config import Config
from transom.crop import Image
from transom.errors import MessageError, PageError
from transom.few_shot import Head
from transom.messages import read_correction

BY = "page"
"""Who labelled, in the store."""

MOST_SHOWN = 2000
"""Pictures that are put in order at a time, the newest."""

_PATIENCE_S = 0.3
"""How long an answer waits for a rest of the daemon's loop; one that never rests is slow anyway."""

_LOOKED_AT = 300
"""Pictures that are looked at for damage in one call, each once."""

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
        self._samples = samples
        self._clock = clock
        self._reload = reload
        self._cameras = {watch.name: watch for watch in daemon.watches}
        self._zones = {zone.name: zone for watch in daemon.watches for zone in watch.zones}
        self._encoded: dict[str, _Encoded] = {}
        self._is_whole: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._operations: dict[str, Callable[[Call], Answer]] = {
            "status": self._status,
            "picture": self._picture,
            "zones": self._draw,
            "history": self._history,
            "correct": self._correct,
            "samples": self._list,
            "sample": self._sample,
            "label": self._label,
            "forget": self._forget,
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
            keeps_samples=self._samples is not None,
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
        saved = save_zones(self._config_file, watch.name, read_body(call, ZonesBody).zones)
        if saved.saved:
            self._reload()
        return saved

    def _correct(self, call: Call) -> Answer:
        zone = self._zone(call.of)
        self._store()
        said = read_body(call, CorrectBody).is_
        payload = msgspec.json.encode({"class": said})
        try:
            read_correction(payload, zone.classes, zone.name)
        except MessageError as error:
            raise PageError(str(error), status=422) from error
        self._daemon.correct(zone.name, payload, BY)
        return None

    def _list(self, call: Call) -> Answer:
        query = read_query(call, SamplesQuery)
        store = self._store()
        outlines = store.outlines(MOST_SHOWN)
        self._look_for_damage(store, outlines)
        items, aside = self._items(outlines, query.place)
        counts = store.counts()
        total, shown = describe_clusters(clusters(items), query)
        return Samples(
            tasks=sorted({zone.task for zone in self._zones.values()}),
            places=list(self._zones),
            counts=Counts(samples=counts.samples, labelled=counts.labelled),
            waiting=0,
            total=total,
            clusters=shown,
            aside=aside,
            can_forget=True,
        )

    def _sample(self, call: Call) -> Answer:
        number = _number(call.of)
        sample = None if number is None else self._store().get(number)
        if sample is None:
            raise PageError(f"picture {call.of[:80]!r} is no longer kept", status=404)
        if not _can_be_shown(sample.picture):
            raise PageError(f"picture {sample.id} is damaged", status=422)
        return sample.picture

    def _label(self, call: Call) -> Answer:
        store, body = self._store(), read_body(call, LabelBody)
        outlines = store.outlines(MOST_SHOWN)
        found = {str(sample.id): sample for sample in outlines}
        labelled = {id_: found[id_] for id_ in body.labels if id_ in found}
        for id_, sample in labelled.items():
            _check_label(body.labels[id_], sample)
        before, _ = self._items(outlines)
        at = iso(self._clock.wall())
        missing = [id_ for id_ in body.labels if id_ not in found]
        for id_, sample in labelled.items():
            if not store.label(sample.id, body.labels[id_], BY, at):
                missing.append(id_)
        after, _ = self._items(store.outlines(MOST_SHOWN))
        places = sorted({sample.zone for sample in labelled.values()})
        return Labelled(
            before={id_: sample.label for id_, sample in labelled.items() if id_ not in missing},
            missing=missing,
            lessons=[lesson for place in places for lesson in self._lesson(place, before, after)],
        )

    def _forget(self, call: Call) -> Answer:
        store = self._store()
        numbers = [_number(id_) for id_ in read_body(call, IdsBody).ids]
        store.forget(*(number for number in numbers if number is not None))
        return None

    # ---------------------------------------------------------------- pictures and lessons

    def _look_for_damage(self, store: SampleStore, samples: Sequence[Sample]) -> None:
        """Decode pictures that were not looked at yet, some at a time."""
        there = {sample.id for sample in samples}
        self._is_whole = {id_: whole for id_, whole in self._is_whole.items() if id_ in there}
        unseen = [sample.id for sample in samples if sample.id not in self._is_whole]
        for id_ in unseen[:_LOOKED_AT]:
            sample = store.get(id_)
            if sample is not None:
                self._is_whole[id_] = _can_be_shown(sample.picture)

    def _items(self, samples: Sequence[Sample], place: str = "") -> tuple[list[Item], list[Aside]]:
        """Return what can be shown, answered with what was taught, and what is set aside."""
        heads = {name: _head_of(zone) for name, zone in self._zones.items()}
        items, aside = [], []
        for sample in samples:
            if place and sample.zone != place:
                continue
            if not self._is_whole.get(sample.id, True):
                why = "the picture is damaged"
            elif sample.zone not in heads:
                why = f"there is no zone {sample.zone} any more"
            elif not np.isfinite(sample.embedding).all():
                why = "what the network said of it is damaged"
            else:
                items.append(_item(sample, heads[sample.zone]))
                continue
            aside.append(Aside(id=str(sample.id), place=sample.zone, why=why))
        return items, aside

    def _lesson(
        self, place: str, before: Iterable[Item], after: Iterable[Item]
    ) -> Iterable[Lesson]:
        zone = self._zones.get(place)
        lessons = _lessons_of(zone) if zone is not None else None
        if zone is None or lessons is None:
            return
        then = {item.id: item for item in before}
        now = [
            item
            for item in after
            if item.id in then and (item.place, item.model) == (place, lessons.zone.model)
        ]
        head, examples = lessons.learn()
        yield lesson_of(
            place,
            zone.task,
            [then[item.id] for item in now],
            now,
            examples,
            head if isinstance(head, str) else None,
        )

    def _zone(self, name: str) -> ZoneWatch:
        if name not in self._zones:
            raise PageError(f"there is no zone {name[:80]!r}", status=404)
        return self._zones[name]

    def _store(self) -> SampleStore:
        if self._samples is None:
            raise PageError(
                "this device keeps no pictures; add a table [samples] to its configuration",
                status=409,
            )
        return self._samples


def _lessons_of(zone: ZoneWatch) -> ZoneLessons | None:
    return zone.samples.lessons if zone.samples is not None else None


def _head_of(zone: ZoneWatch) -> tuple[str, tuple[str, ...], Head] | None:
    """Return what a zone's labels teach now, and of which network's answers; None = nothing."""
    lessons = _lessons_of(zone)
    if lessons is None:
        return None
    head, _ = lessons.learn()
    return None if isinstance(head, str) else (lessons.zone.model, lessons.zone.classes, head)


def _item(sample: Sample, taught: tuple[str, tuple[str, ...], Head] | None) -> Item:
    judged = sample.probabilities
    if taught is not None and taught[:2] == (sample.model, sample.classes):
        judged = taught[2](sample.probabilities[None], sample.embedding[None])[0]
    return Item(
        id=str(sample.id),
        place=sample.zone,
        model=sample.model,
        classes=sample.classes,
        embedding=sample.embedding,
        said=sample.probabilities,
        judged=judged,
        label=sample.label,
        labelled_by=sample.labelled_by,
        why=sample.why,
        taken_at=sample.taken_at,
        copies=sample.copies,
    )


def _check_label(label: str | None, sample: Sample) -> None:
    """Refuse a label that a picture cannot have.

    Raises:
        PageError: It names another class.
    """
    if label is not None and not set(replace(sample, label=label).names) <= set(sample.classes):
        raise PageError(
            f"label of picture {sample.id} must be one of {', '.join(sample.classes)}, "
            f"got {label[:80]!r}",
            status=422,
        )


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


def _can_be_shown(picture: bytes) -> bool:
    return (
        cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
    )


def _number(id_: str) -> int | None:
    is_number = id_.isascii() and id_.isdecimal() and len(id_) <= 18
    return int(id_) if is_number else None
