"""What one zone is taught: labels for the pictures to come, and a head that is learnt from them.

A label is not stored by itself: it waits for the next look at the zone, and what the network makes
of that look is kept with it. Whoever writes labels into the store, the head is learnt anew at the
next frame, so a page that labels a kept picture teaches as a message does.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.classifier import Classifier
from edge_runtime.sample import SEPARATOR, Sample
from edge_runtime.samples import SampleStore
from edge_runtime.seen import SampledZone, Seen, make_sample
from edge_runtime.two_states import told_probabilities
from transom.crop import crop_zone
from transom.few_shot import Examples, Head, Refusal, learn
from transom.guard import Guard
from transom.messages import Taught
from transom.prediction import softmax
from transom.preprocess import preprocess
from transom.tasks import AJAR, OPEN

_log = logging.getLogger(__name__)

MOST_OF_A_LABEL = 20
"""Examples that are learnt from; a zone that changes, by day or by season, is taught anew."""

WAIT_S = 10.0
"""How long a label waits for a usable picture: after that it may no longer be true."""

LEAST_APART_S = 1.0
"""Between two labels that are kept of a zone: whoever sends more does not wear the card out."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Due:
    """A label that waits for a picture."""

    label: str
    by: str
    from_ns: int
    until_ns: int


class ZoneLessons:
    """What one zone is taught.

    Attributes:
        zone: The zone.

    Args:
        zone: The zone.
        store: Where labelled pictures are kept.
        guard: Pictures of other places, of the classes that the zone tells.
    """

    def __init__(self, zone: SampledZone, store: SampleStore, guard: Examples) -> None:
        self.zone = zone
        self._store = store
        self._guard = guard
        self._due: list[_Due] = []
        self._kept_ns: int | None = None
        self._version: int | None = None
        self._head: Head | Refusal = "few"
        self._labels: Mapping[str, int] = {}
        self._learn()

    def label(self, label: str, by: str, from_ns: int) -> None:
        """Label the first picture from a moment on; a label of the same origin is replaced.

        Args:
            label: A class that the zone tells, or several joined by `|`.
            by: Who says so.
            from_ns: Monotonic.
        """
        if self._kept_ns is not None:
            from_ns = max(from_ns, self._kept_ns + int(LEAST_APART_S * 1e9))
        self._due = [due for due in self._due if due.by != by]
        self._due.append(_Due(label, by, from_ns, from_ns + int(WAIT_S * 1e9)))

    def keep(self, sample: Sample, taken_ns: int, label: str, by: str) -> None:
        """Keep a picture with its label.

        Args:
            sample: The picture.
            taken_ns: When it was taken, monotonic.
            label: What it shows.
            by: Who says so.
        """
        self._kept_ns = max(taken_ns, self._kept_ns or taken_ns)
        labelled = replace(sample, label=label, labelled_by=by, labelled_at=sample.taken_at)
        if self._store.add(labelled) is not None:
            _log.info("zone was taught zone=%s label=%s by=%s", self.zone.name, label, by)

    def forget_last(self) -> None:
        """Take the newest label back."""
        self._take_back(itertools.islice(self._lessons(), 1))

    def forget_all(self) -> None:
        """Take every label back; the bundle then judges alone."""
        self._take_back(self._lessons())

    def is_waiting(self, now_ns: int) -> bool:
        """Return whether the next picture is wanted: a label waits for it, or for being learnt."""
        late = [due for due in self._due if now_ns > due.until_ns]
        for due in late:
            _log.warning(
                "label was not used, no usable picture came zone=%s label=%s by=%s",
                self.zone.name,
                due.label,
                due.by,
            )
            self._due.remove(due)
        is_due = any(due.from_ns <= now_ns for due in self._due)
        return is_due or self._version != self._store.version(self.zone.name)

    def look(self, seen: Seen) -> None:
        """Give a look the label that waits for it, and learn what is new."""
        for due in [due for due in self._due if due.from_ns <= seen.taken_ns <= due.until_ns]:
            self._due.remove(due)
            self.keep(make_sample(self.zone, seen, "taught"), seen.taken_ns, due.label, due.by)
        self._learn()

    def judge(self, seen: Seen) -> tuple[Floats, bool]:
        """Return the probabilities, (C,) float32, and whether the picture is unlike any known.

        A picture like those that were taught is known, whatever it is to the bundle.
        """
        if isinstance(self._head, str):
            return seen.probabilities, seen.is_unlike
        embedding = seen.embedding[None]
        is_unlike = seen.is_unlike and not bool(self._head.is_like_examples(embedding)[0])
        return self._head(seen.probabilities[None], embedding)[0], is_unlike

    def taught(self) -> Taught | None:
        """Return what is published of it; None where nothing is taught."""
        if not self._labels:
            return None
        reason = self._head if isinstance(self._head, str) else None
        return Taught(examples=self._labels, is_used=reason is None, reason=reason)

    def _lessons(self) -> Iterator[Sample]:
        return self._store.lessons(self.zone.name, self.zone.task)

    def _take_back(self, samples: Iterable[Sample]) -> None:
        self._due.clear()
        count = sum([self._store.label(sample.id, None, "", "") for sample in samples])
        _log.info("labels were taken back zone=%s count=%d", self.zone.name, count)

    def learn(self) -> tuple[Head | Refusal, Mapping[str, int]]:
        """Return what the labels in the store teach now, and how many of each are learnt from.

        It changes nothing, and may be called from any thread.
        """
        lessons = [
            sample
            for sample in self._store.lessons(self.zone.name, self.zone.task, MOST_OF_A_LABEL)
            if (sample.model, sample.classes) == (self.zone.model, self.zone.classes)
            and set(sample.names) <= set(self.zone.classes)
        ]
        head = learn(_examples(lessons, self.zone), self._guard) if lessons else "few"
        return head, Counter(sample.label or "" for sample in lessons)

    def _learn(self) -> None:
        version = self._store.version(self.zone.name)
        if version == self._version:
            return
        self._version = version
        self._head, self._labels = self.learn()
        if self._head in ("examples", "guard"):
            _log.warning(
                "what the zone was taught is not used zone=%s: worse than the bundle on its %s",
                self.zone.name,
                self._head,
            )


def guard_examples(guard: Guard, zone: SampledZone, classes: tuple[str, ...]) -> Examples:
    """Return the guard's pictures that are labelled, of the classes that a zone tells.

    Args:
        guard: Of the bundle, or of its goldens.
        zone: The zone.
        classes: Those of the bundle's task.
    """
    targets = guard.targets[zone.task]
    rows = np.flatnonzero(targets >= 0)
    probabilities = softmax(guard.logits[zone.task][rows])
    return Examples(
        guard.embedding[rows],
        _stacked([told_probabilities(row, classes, zone.classes) for row in probabilities], zone),
        np.array([_truth(classes[index], classes, zone) for index in targets[rows]], np.bool_)
        .reshape(-1, len(zone.classes)),
    )  # fmt: skip


def answer_again(
    store: SampleStore, zone: SampledZone, classifier: Classifier, classes: tuple[str, ...]
) -> None:
    """Ask the network about labelled pictures that another one, or for other classes, answered.

    Only the newest of each label are asked about: the others are not learnt from.

    Args:
        store: The store.
        zone: The zone as it is watched now.
        classifier: Of the bundle that serves.
        classes: Those of the bundle's task.
    """
    fed = classifier.manifest.input
    for sample in store.lessons(zone.name, zone.task, MOST_OF_A_LABEL):
        if (sample.model, sample.classes) == (zone.model, zone.classes):
            continue
        picture = cv2.imdecode(np.frombuffer(sample.picture, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:  # damaged, and of no use to anybody
            store.forget(sample.id)
            continue
        crop = crop_zone(np.asarray(picture, np.uint8), sample.shape, fed.size, fed.margin)
        answers = classifier.classify(preprocess(crop, fed.preprocess)[None])
        probabilities = told_probabilities(
            answers.predictions[zone.task].probabilities[0], classes, zone.classes
        )
        # A label of which this bundle knows nothing waits for one that does.
        label = SEPARATOR.join(_named(sample, zone)) or sample.label
        store.answered(
            replace(
                sample,
                model=zone.model,
                classes=zone.classes,
                embedding=answers.embedding[0],
                probabilities=probabilities,
                label=label,
            )
        )


def _examples(samples: list[Sample], zone: SampledZone) -> Examples:
    names = [sample.names for sample in samples]
    return Examples(
        np.stack([sample.embedding for sample in samples]),
        _stacked([sample.probabilities for sample in samples], zone),
        np.array([[name in label for name in zone.classes] for label in names], np.bool_),
    )


def _stacked(rows: list[Floats], zone: SampledZone) -> Floats:
    return np.asarray(rows, np.float32).reshape(-1, len(zone.classes))


def _truth(name: str, classes: tuple[str, ...], zone: SampledZone) -> list[bool]:
    return [told in _told(name, classes, zone) for told in zone.classes]


def _named(sample: Sample, zone: SampledZone) -> list[str]:
    """Return the classes that a label names, as the zone tells them now."""
    found = {told for label in sample.names for told in _told(label, sample.classes, zone)}
    return [name for name in zone.classes if name in found]


def _told(name: str, classes: tuple[str, ...], zone: SampledZone) -> tuple[str, ...]:
    """Return what a zone calls a class of others: `ajar` and `open` may be one there or here."""
    if name == AJAR and AJAR not in zone.classes:
        return (OPEN,)
    if name == OPEN and AJAR in zone.classes and AJAR not in classes:
        return (AJAR, OPEN)
    return (name,)
