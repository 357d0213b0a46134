"""What the page of a device shows and does of kept pictures: clusters, labels, lessons."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from edge_runtime.clock import Clock, iso
from edge_runtime.lessons import ZoneLessons
from edge_runtime.sample import Sample
from edge_runtime.samples import SampleStore
from edge_runtime.web.answers import Aside, Counts, Labelled, Lesson, Samples
from edge_runtime.web.asked import IdsBody, LabelBody, SamplesQuery
from edge_runtime.web.call import Answer, Call, read_body, read_query
from edge_runtime.web.clusters import Item, clusters
from edge_runtime.web.said import describe_clusters, lesson_of
from edge_runtime.zone_watch import ZoneWatch
from transom.errors import PageError
from transom.few_shot import Head

BY = "page"
"""Who labelled, in the store."""

MOST_SHOWN = 2000
"""Pictures that are put in order at a time, the newest."""

_LOOKED_AT = 300
"""Pictures that are looked at for damage in one call, each once."""


class DeviceSamples:
    """Answers about the pictures; one call at a time.

    Args:
        samples: Where they are kept; None = none are.
        zones: Of the device, by name.
        clock: The daemon's.

    Attributes:
        operations: What may be asked, by its name in `api.OPERATIONS`.
    """

    def __init__(
        self, samples: SampleStore | None, zones: Mapping[str, ZoneWatch], clock: Clock
    ) -> None:
        self._store = samples
        self._zones = zones
        self._clock = clock
        self._is_whole: dict[int, bool] = {}
        self.operations: dict[str, Callable[[Call], Answer]] = {
            "samples": self._list,
            "sample": self._sample,
            "label": self._label,
            "forget": self._forget,
        }

    @property
    def are_kept(self) -> bool:
        """Whether this device keeps pictures."""
        return self._store is not None

    def store(self) -> SampleStore:
        """Return where pictures are kept.

        Raises:
            PageError: None are.
        """
        if self._store is None:
            raise PageError(
                "this device keeps no pictures; add a table [samples] to its configuration",
                status=409,
            )
        return self._store

    def _list(self, call: Call) -> Answer:
        query = read_query(call, SamplesQuery)
        store = self.store()
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
        sample = None if number is None else self.store().get(number)
        if sample is None:
            raise PageError(f"picture {call.of[:80]!r} is no longer kept", status=404)
        if not _can_be_shown(sample.picture):
            raise PageError(f"picture {sample.id} is damaged", status=422)
        return sample.picture

    def _label(self, call: Call) -> Answer:
        store, body = self.store(), read_body(call, LabelBody)
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
                _check_gone(store, sample.id)
                missing.append(id_)
        after, _ = self._items(store.outlines(MOST_SHOWN))
        places = sorted({sample.zone for sample in labelled.values()})
        return Labelled(
            before={id_: sample.label for id_, sample in labelled.items() if id_ not in missing},
            missing=missing,
            lessons=[lesson for place in places for lesson in self._lesson(place, before, after)],
        )

    def _forget(self, call: Call) -> Answer:
        store = self.store()
        numbers = [_number(id_) for id_ in read_body(call, IdsBody).ids]
        for number in numbers:
            if number is not None and not store.forget(number):
                _check_gone(store, number)
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
                why += f"; its label is {sample.label}" if sample.label else ""
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


def _check_gone(store: SampleStore, number: int) -> None:
    """Refuse to pass over a picture that was not changed though it is there.

    Raises:
        PageError: It is: the card takes nothing.
    """
    if store.get(number) is not None:
        raise PageError(
            f"picture {number} cannot be changed: its store cannot be written; is the card full? "
            "the log says why",
            status=409,
        )


def _can_be_shown(picture: bytes) -> bool:
    return (
        cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
    )


def _number(id_: str) -> int | None:
    is_number = id_.isascii() and id_.isdecimal() and len(id_) <= 18
    return int(id_) if is_number else None
