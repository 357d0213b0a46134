"""What the page of a data set shows and does: its pictures, and labels in its `labels.csv`.

A network looks at the rows in the background; those that it has looked at are shown. What labels of
one group teach is learnt as a device learns it, a group at a time.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.classifier import Classifier
from edge_runtime.lessons import MOST_OF_A_LABEL
from edge_runtime.web.answers import Aside, Counts, Labelled, Lesson, Samples, Status
from edge_runtime.web.asked import LabelBody, SamplesQuery
from edge_runtime.web.call import Answer, Call, Reply, answer_with, read_body, read_query
from edge_runtime.web.clusters import Floats, Item, clusters
from edge_runtime.web.labels_file import named_rows, write_labels
from edge_runtime.web.said import describe_clusters, lesson_of
from transom.bundle import Bundle
from transom.crop import crop_zone, cut_around
from transom.dataset import Dataset, Row, read_dataset
from transom.errors import DatasetError, PageError
from transom.few_shot import Examples, Head, learn
from transom.guard import UNLABELLED
from transom.image_file import ImageError, read_image
from transom.prediction import softmax
from transom.preprocess import preprocess
from transom.tasks import OTHER

STATE = "state"

_SHOWN_MARGIN = 0.25
_LONGEST_PX = 512
_QUALITY = 90


@dataclass(frozen=True)
class _Look:
    """What the network says of a row.

    Attributes:
        embedding: (D,) float32.
        said: By task of the bundle, (C,) float32.
    """

    embedding: Floats
    said: dict[str, Floats]


class DatasetDesk:
    """Answers for a data set.

    Args:
        folder: The data set's.
        bundle: Whose network puts the pictures in order.

    Raises:
        DatasetError: The data set cannot be read.
        ClassifierError: The network does not run here.
    """

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self._folder = folder
        self._bundle = bundle
        self._classifier = Classifier(bundle)
        self._guard = bundle.goldens.guarding(
            lambda crops: self._classifier.classify(crops).embedding
        )
        self._lock = threading.Lock()
        self._looks: dict[str, _Look | str] = {}  # a text says why there is none
        self._heads: dict[tuple[str, str], tuple[object, Head | str]] = {}
        self._stamp = _stamp_of(folder / "labels.csv")
        self._take(read_dataset(folder))
        self._operations: dict[str, Callable[[Call], Answer]] = {
            "status": self._status,
            "samples": self._list,
            "sample": self._sample,
            "label": self._label,
        }

    def answer(self, call: Call) -> Reply:
        """Carry a request out; one at a time."""
        with self._lock:
            return answer_with(self._operations, call)

    def look(self) -> bool:
        """Let the network look at one more row; return whether there was one.

        Only one thread may call it.
        """
        with self._lock:
            self._read_again()
            waiting = [(name, row) for name, row in self._rows.items() if name not in self._looks]
        if not waiting:
            return False
        name, row = waiting[0]
        look = self._look_at(row)
        with self._lock:
            self._looks[name] = look
        return True

    def _read_again(self) -> None:
        """Take in what others have written into the file, as `transom pull` does, if anything."""
        stamp = _stamp_of(self._folder / "labels.csv")
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            with suppress(DatasetError):  # somebody is in the middle of it, and writes it once more
                self._take(read_dataset(self._folder))

    def _take(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows = named_rows(dataset.rows)

    # ---------------------------------------------------------------- operations

    def _status(self, _call: Call) -> Answer:
        return Status(kind="dataset", name=self._dataset.name, keeps_samples=True, cameras=[])

    def _list(self, call: Call) -> Answer:
        query = read_query(call, SamplesQuery)
        task = self._task(query.task)
        asked = [row for row in self._rows.values() if _applies(task, row)]
        total, shown = describe_clusters(clusters(self._items(task, query.place)), query)
        return Samples(
            tasks=self._dataset.tasks.names,
            task=task,
            places=sorted({row.group for row in self._rows.values()} - {""}),
            counts=Counts(samples=len(asked), labelled=sum(task in row.labels for row in asked)),
            waiting=len(self._rows.keys() - self._looks.keys()),
            total=total,
            clusters=shown,
            aside=self._aside(),
            can_forget=False,
        )

    def _sample(self, call: Call) -> Answer:
        row = self._rows.get(call.of)
        if row is None:
            raise PageError(f"there is no row {call.of[:80]!r}", status=404)
        try:
            image = read_image(self._dataset.path(row))
        except ImageError as error:
            raise PageError(str(error), status=422) from error
        part, _ = cut_around(image, row.zone, _SHOWN_MARGIN)
        longest = max(part.shape[:2])
        if longest > _LONGEST_PX:
            scale = _LONGEST_PX / longest
            part = np.asarray(
                cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        _, jpeg = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return jpeg.tobytes()

    def _label(self, call: Call) -> Answer:
        body = read_body(call, LabelBody)
        task = self._task(body.task)
        classes = self._dataset.tasks[task].classes
        for label in body.labels.values():
            if label is not None and label not in classes:
                raise PageError(
                    f"label must be one of {', '.join(classes)}, got {label[:80]!r}", status=422
                )
        before = self._items(task)
        labels = {name: label for name, label in body.labels.items() if name in self._rows}
        was = {name: self._rows[name].labels.get(task) for name in labels}
        try:
            self._take(write_labels(self._folder, task, labels))
        except DatasetError as error:
            raise PageError(f"nothing was written: {error}", status=409) from error
        except OSError as error:
            raise PageError(
                f"{self._folder / 'labels.csv'} cannot be written: {error.strerror}", status=409
            ) from error
        there = {name: label for name, label in was.items() if name in self._rows}
        places = sorted({self._rows[name].group for name in there})
        after = self._items(task)
        return Labelled(
            before=there,
            missing=[name for name in body.labels if name not in there],
            lessons=[self._lesson(place, task, before, after) for place in places],
        )

    def _task(self, name: str) -> str:
        names = self._dataset.tasks.names
        if not name:
            return STATE if STATE in names else names[0]
        if name not in names:
            raise PageError(
                f"task must be one of {', '.join(names)}, got {name[:80]!r}", status=422
            )
        return name

    # ---------------------------------------------------------------- pictures and lessons

    def _look_at(self, row: Row) -> "_Look | str":
        try:
            image = read_image(self._dataset.path(row))
        except ImageError as error:
            return str(error)
        fed = self._bundle.manifest.input
        crop = preprocess(crop_zone(image, row.zone, fed.size, fed.margin), fed.preprocess)
        answers = self._classifier.classify(crop[None])
        said = {name: found.probabilities[0] for name, found in answers.predictions.items()}
        return _Look(answers.embedding[0], said)

    def _items(self, task: str, place: str = "") -> list[Item]:
        """Return the rows that were looked at, answered with what their group's labels teach."""
        groups: dict[str, list[Item]] = defaultdict(list)
        for name, row in self._rows.items():
            look = self._looks.get(name)
            is_wanted = (not place or row.group == place) and _applies(task, row)
            if isinstance(look, _Look) and is_wanted:
                groups[row.group].append(self._item(name, row, look, task))
        return [item for items in groups.values() for item in self._judged(items, task)]

    def _item(self, name: str, row: Row, look: _Look, task: str) -> Item:
        said = self._told(look.said.get(task), task)
        classes = self._dataset.tasks[task].classes
        label = row.labels.get(task)
        differs = label is not None and classes[int(said.argmax())] != label
        return Item(
            id=name,
            place=row.group,
            model=self._bundle.digest,
            classes=classes,
            embedding=look.embedding,
            said=said,
            judged=said,
            label=label,
            why="disagrees" if differs else "",
        )

    def _told(self, probabilities: Floats | None, task: str) -> Floats:
        """Return the bundle's (C,) probabilities for the data set's classes, joined by name."""
        spec = next((one for one in self._bundle.manifest.tasks if one.name == task), None)
        classes = self._dataset.tasks[task].classes
        found = np.zeros(len(classes), np.float32)
        if spec is not None and probabilities is not None:
            by_name = dict(zip(spec.classes, probabilities.tolist(), strict=True))
            found = np.array([by_name.get(name, 0.0) for name in classes], np.float32)
        total = float(found.sum())
        blank = np.full(len(classes), 1.0 / len(classes), np.float32)
        return np.asarray(found / total, np.float32) if total > 0.0 else blank

    def _judged(self, items: list[Item], task: str) -> list[Item]:
        head, _ = self._learn(items, task)
        if isinstance(head, str):
            return items
        judged = head(np.stack([i.said for i in items]), np.stack([i.embedding for i in items]))
        return [replace(item, judged=row) for item, row in zip(items, judged, strict=True)]

    def _learn(self, items: Sequence[Item], task: str) -> tuple[Head | str, dict[str, int]]:
        """Return what the labels of one group teach, and how many of each are learnt from."""
        by_label: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            if item.label is not None:
                by_label[item.label].append(item)
        taken = [item for same in by_label.values() for item in same[-MOST_OF_A_LABEL:]]
        counts = {label: min(len(same), MOST_OF_A_LABEL) for label, same in by_label.items()}
        if len(by_label) < 2:
            return "few", counts
        place, of = (task, taken[0].place), [(item.id, item.label) for item in taken]
        known = self._heads.get(place)
        if known is None or known[0] != of:
            known = self._heads[place] = of, self._fit(taken, task)
        return known[1], counts

    def _fit(self, taken: Sequence[Item], task: str) -> Head | str:
        truth = np.array([[name == item.label for name in item.classes] for item in taken])
        examples = Examples(
            np.stack([item.embedding for item in taken]),
            np.stack([item.said for item in taken]),
            truth,
        )
        return learn(examples, self._guard_of(task))

    def _guard_of(self, task: str) -> Examples:
        """Return the guard's pictures whose true class the data set knows."""
        classes = self._dataset.tasks[task].classes
        spec = next((one for one in self._bundle.manifest.tasks if one.name == task), None)
        targets = self._guard.targets.get(task)
        if spec is None or targets is None:
            width = self._guard.embedding.shape[1]
            return _examples(np.zeros((0, width), np.float32), [], [], len(classes))
        names = [spec.classes[i] if i != UNLABELLED else "" for i in targets.tolist()]
        rows = [index for index, name in enumerate(names) if name in classes]
        said = softmax(self._guard.logits[task])
        return _examples(
            self._guard.embedding[rows],
            [self._told(said[index], task) for index in rows],
            [[name == names[index] for name in classes] for index in rows],
            len(classes),
        )

    def _lesson(
        self, place: str, task: str, before: Sequence[Item], after: Sequence[Item]
    ) -> Lesson:
        then = {item.id: item for item in before}
        now = [item for item in after if item.place == place and item.id in then]
        head, counts = self._learn(now, task)
        return lesson_of(
            place,
            task,
            [then[item.id] for item in now],
            now,
            counts,
            head if isinstance(head, str) else None,
        )

    def _aside(self) -> list[Aside]:
        pictures = [
            Aside(id=name, place=row.image, why=look)
            for name, row in self._rows.items()
            if isinstance(look := self._looks.get(name), str)
        ]
        wrong = [
            Aside(id="", place="", why=str(mistake))
            for mistake in self._dataset.mistakes
            if mistake.is_error
        ]
        return pictures + wrong


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Return what is another when a file was written; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _applies(task: str, row: Row) -> bool:
    """Return whether a task has an answer for a row; what has one already is shown with it."""
    is_other = any(label == OTHER for name, label in row.labels.items() if name != task)
    return task in row.labels or not is_other


def _examples(
    embedding: Floats, said: list[Floats], truth: list[list[bool]], classes: int
) -> Examples:
    return Examples(
        embedding,
        np.asarray(said, np.float32).reshape(-1, classes),
        np.asarray(truth, np.bool_).reshape(-1, classes),
    )
