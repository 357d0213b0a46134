"""The data set that pictures of devices become: what is where in it, and whose label counts.

A picture lies at `<device>/<camera>/<zone>/<day>/<digest>.jpg`, and these four are its group. Whole
days are held out: every fourth of a device, for ever, so that what judges a network today was not
learnt from yesterday, and all that a camera saw in one light is on one side.

What somebody takes out of `labels.csv` does not come again: `pulled.csv` lists all that ever came.

A label that somebody has written into `labels.csv` stands until the device is corrected later, and
so do groups, splits, labels of other tasks and further columns for good; the column `label` says
what the device said, `ajar|open` where a contact sensor could not tell the two.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from transom.atomic import write_file
from transom.dataset import Row, read_dataset, sole_writer, write_dataset
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.sharing import SamplesOffer, SharedSample
from transom.tasks import Task, TaskSet

SERVING = "serving.json"
"""Which bundle each device served when it was pulled from."""

PULLED = "pulled.csv"
"""All that ever came: a row for each, by which those that were taken out are known."""

ASIDE = "aside"
"""Folder of what came and cannot be used."""

HELD_OUT_EVERY = 4
FORMER = "former"
"""In place of the camera, for zones that a device no longer watches."""

_LONGEST_PX = 4096
_KEY = ("device", "zone_name", "sha256")
_UNCERTAIN = "|"
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)


@dataclass(frozen=True)
class Taken:
    """What has become of a sample: whether its picture is new, whether its label is."""

    is_new: bool
    has_new_label: bool


class PulledDataset:
    """A data set that grows by pictures of devices.

    Args:
        folder: Made where it is missing.

    Attributes:
        rows: By device, zone and the picture's digest.

    Raises:
        DatasetError: The folder holds a data set that cannot be read whole, or something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = folder.resolve().name or "pulled"
        self._tasks = TaskSet([])
        self._serving: dict[str, Any] = {}
        self.rows: dict[tuple[str, str, str], Row] = {}
        self._known: dict[tuple[str, str, str], Row] = {}  # as they stand in the file
        self._removed: set[tuple[str, str, str]] = set()
        self._stamp: tuple[int, int] | None = None
        self._changed = False
        if (folder / "dataset.toml").exists():
            self._read()
            self._removed = self._read_pulled() - self.rows.keys()
            self._read_serving()
        elif folder.exists() and any(folder.iterdir()):
            raise DatasetError(
                f"{folder}: is neither empty nor a data set; name another folder for what is pulled"
            )
        self._unfinished = list(folder.glob("*/*/*/*/.*.jpg.*"))

    def _read(self) -> None:
        stamp = self._stamp_now()  # what is written while this reads is read once more
        dataset = read_dataset(self.folder)
        wrong = [mistake for mistake in dataset.mistakes if mistake.is_error]
        if wrong:
            raise DatasetError(
                f"{wrong[0]}\n{self.folder}: has {len(wrong)} rows that cannot be used, which "
                "pulling would lose; mend them first (transom data check)"
            )
        self._name, self._tasks = dataset.name, dataset.tasks.joined(self._tasks)
        gone = set(self._known)
        for row in (replace(row, line=0) for row in dataset.rows):
            key = _key_of(row)
            gone.discard(key)
            known = self._known.get(key)
            if row != known:
                self.rows[key] = row if known is None else _edited(row, known, self.rows[key])
                self._known[key] = row
        for key in gone:
            del self.rows[key], self._known[key]
        self._removed = (self._removed | gone) - self._known.keys()
        self._stamp = stamp

    def _read_pulled(self) -> set[tuple[str, str, str]]:
        """Return what ever came; nothing where nobody wrote it down yet."""
        path = self.folder / PULLED
        try:
            with path.open(encoding="utf-8", newline="") as file:
                found = [tuple(row[name] for name in _KEY) for row in csv.DictReader(file)]
        except FileNotFoundError:
            return set()
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise DatasetError(
                f"{path}: is no table of {', '.join(_KEY)}: {error!r}; delete it, and what was "
                "taken out of labels.csv comes again"
            ) from error
        return {(device, zone, digest) for device, zone, digest in found}

    def _write_pulled(self) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_KEY, *sorted(self.rows.keys() | self._removed)])
        write_file(self.folder / PULLED, text.getvalue().encode())

    def _read_serving(self) -> None:
        path = self.folder / SERVING
        try:
            self._serving = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise DatasetError(
                f"{path}: is not JSON: {error}; delete it, and pulling writes a new one"
            ) from error

    def _stamp_now(self) -> tuple[int, int] | None:
        """Return what changes when somebody writes labels; None where there are none."""
        path = self.folder / "labels.csv"
        if not path.exists():
            return None
        found = path.stat()
        return found.st_ino, found.st_mtime_ns

    def meet(self, device: str, offer: SamplesOffer) -> None:
        """Take in which bundle a device serves, and the tasks of it.

        Raises:
            DatasetError: They contradict those that are here.
        """
        theirs = TaskSet(
            Task(name=name, classes=task.classes, ordinal=task.ordinal)
            for name, task in offer.tasks.items()
        )
        try:
            self._tasks = self._tasks.joined(theirs)
        except ValueError as error:
            raise DatasetError(
                f"{device}: {error}; pull devices whose bundles tell other classes into a data set "
                "of their own"
            ) from error
        self._serving[device] = {
            "model": offer.model,
            "sequence": offer.sequence,
            "digest": offer.digest,
        }
        self._changed = True

    def was_removed(self, device: str, sample: SharedSample) -> bool:
        """Return whether somebody has taken a sample out of `labels.csv`."""
        return (device, sample.zone, sample.sha256) in self._removed

    def has(self, device: str, sample: SharedSample) -> bool:
        """Return whether a sample's picture is here, whole."""
        path = self._path(device, sample)
        return path.exists() and path.stat().st_size == sample.size_bytes

    def take(self, device: str, sample: SharedSample, picture: bytes | None) -> Taken:
        """Take in a sample.

        Args:
            device: Whose it is.
            sample: What is known of it.
            picture: JPEG; None = it is here already.

        Raises:
            ValueError: The picture is none, or what is said of it cannot be.
            OSError: It cannot be written.
        """
        zone = Zone.from_text(sample.shape)
        self._check_label(sample)
        path = self._path(device, sample)
        if picture is not None:
            check_picture(picture)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, picture)
        key = (device, sample.zone, sample.sha256)
        before = self.rows.get(key)
        row = Row(
            image=path.relative_to(self.folder).as_posix(),
            zone=zone,
            group=path.parent.relative_to(self.folder).as_posix(),
            labels=_labels(sample, self._tasks[sample.task]),
            extra=_extra(device, sample),
        )
        if before is not None:
            row = _beside(before, row, self._tasks[sample.task])
        self.rows[key] = row
        self._changed = True
        has_new_label = bool(row.labels) and (before is None or before.labels != row.labels)
        return Taken(before is None, has_new_label)

    def put_aside(self, device: str, sample: SharedSample, data: bytes) -> Path:
        """Keep what came in place of a picture, for a person to look at; return where."""
        path = self.folder / ASIDE / f"{device}-{sample.zone}-{sample.sha256[:16]}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
        return path

    def save(self) -> None:
        """Write the data set, where anything has changed; what others have written meanwhile stays.

        Raises:
            DatasetError: It would not be read back.
            OSError: It cannot be written.
        """
        if not self._changed or not len(self._tasks):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.folder):
            self._save()

    def _save(self) -> None:
        if self._stamp_now() != self._stamp:
            self._read()
        rows = list(hold_out_days(self.rows.values()))
        write_dataset(self.folder, name=self._name, tasks=self._tasks, rows=rows)
        write_file(
            self.folder / SERVING, msgspec.json.format(msgspec.json.encode(self._serving)) + b"\n"
        )
        self._write_pulled()  # after the rows: one that is listed and not there was taken out
        self.rows = {_key_of(row): row for row in rows}
        self._known, self._stamp = dict(self.rows), self._stamp_now()
        self._changed = False

    def clear_unfinished(self) -> None:
        """Remove what a kill has left in the middle of writing, once a pull is over.

        What was there when it began and is there now nobody writes any more: another pull at the
        same time has long finished its picture.
        """
        for path in self._unfinished:
            path.unlink(missing_ok=True)

    def _check_label(self, sample: SharedSample) -> None:
        if sample.task not in self._tasks:
            raise ValueError(f"is of task {sample.task!r}, which the device's bundle does not have")
        known = self._tasks[sample.task].classes
        for name in (sample.label or known[0]).split(_UNCERTAIN):
            if name not in known:
                raise ValueError(f"has the label {name!r}, must be of {', '.join(known)}")

    def _path(self, device: str, sample: SharedSample) -> Path:
        camera, day = sample.camera or FORMER, sample.taken_at[:10]
        known = self.rows.get((device, sample.zone, sample.sha256))
        if known is not None:  # whatever camera its zone belongs to by now
            return self.folder / known.image
        return self.folder / device / camera / sample.zone / day / f"{sample.sha256[:16]}.jpg"


def hold_out_days(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows with their splits: of each device every fourth day is `val`.

    The second day is held out first; a device of one day has its split by group. A day keeps its
    split, which is that of most of its rows; so does a row of a split that somebody has set.
    """
    rows = list(rows)
    said: dict[str, dict[str, Counter[str]]] = {}
    for row in sorted(rows, key=lambda row: row.extra["taken_at"]):
        device, day = _device_and_day(row)
        said.setdefault(device, {}).setdefault(day, Counter())[row.split] += bool(row.split)
    days = {
        device: {day: counted.most_common(1)[0][0] for day, counted in found.items()}
        for device, found in said.items()
    }
    for found in days.values():
        _share_out(found)
    for row in rows:
        device, day = _device_and_day(row)
        yield row if row.split else replace(row, split=days[device][day])


def _device_and_day(row: Row) -> tuple[str, str]:
    return row.extra["device"], row.extra["taken_at"][:10]


def _share_out(days: dict[str, str]) -> None:
    """Give days, the oldest first, the splits that they lack; none where there is but one."""
    if len(days) < 2:
        return
    for number, (day, split) in enumerate(days.items()):
        held_out = sum(other == "val" for other in list(days.values())[:number])
        days[day] = split or ("val" if held_out * HELD_OUT_EVERY < number else "train")


def check_picture(data: bytes) -> None:
    """Refuse what is no JPEG of a size that a device keeps, before it takes any memory.

    Raises:
        ValueError: It is not.
    """
    height, width = _jpeg_shape(data)
    if not 0 < max(height, width) <= _LONGEST_PX:
        raise ValueError(f"has {width} x {height} pixels, at most {_LONGEST_PX} a side are taken")
    if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None:
        raise ValueError("is damaged: it cannot be decoded")


def _jpeg_shape(data: bytes) -> tuple[int, int]:
    """Return height and width as a JPEG's frame header has them (ITU T.81, annex B)."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in _START_OF_FRAME:
            height, width = data[place + 5 : place + 7], data[place + 7 : place + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise ValueError("is no JPEG")


_LABEL = ("label", "labelled_by", "labelled_at")
_EXTRA = ("device", "camera", "zone_name", "taken_at", "why", "model", "said", "confidence")


def _extra(device: str, sample: SharedSample) -> dict[str, str]:
    best = max(range(len(sample.probabilities)), key=sample.probabilities.__getitem__, default=None)
    said = "" if best is None or best >= len(sample.classes) else sample.classes[best]
    return {
        "device": device,
        "camera": sample.camera or FORMER,
        "zone_name": sample.zone,
        "taken_at": sample.taken_at,
        "why": sample.why,
        "model": sample.model,
        "said": said,
        "confidence": "" if best is None else f"{sample.probabilities[best]:.4f}",
        "copies": str(sample.copies),
        "drawn": str(sample.drawn),
        "sha256": sample.sha256,
        "label": sample.label or "",
        "labelled_by": sample.labelled_by or "",
        "labelled_at": sample.labelled_at or "",
    }


def _labels(sample: SharedSample, task: Task) -> dict[str, str]:
    """Return what is surely known: a label that leaves classes open labels nothing."""
    return {task.name: sample.label} if sample.label in task.classes else {}


def _beside(before: Row, row: Row, task: Task) -> Row:
    """Return what a device says now of a row, with what somebody has written into the row here."""
    said = dict(row.extra)
    labels = {name: label for name, label in before.labels.items() if name != task.name}
    its = row.labels
    # Not by which of the two is later: the device's clock may have been wrong at either.
    is_news = said["labelled_at"] not in ("", before.extra["labelled_at"])
    if _was_labelled_here(before, task) and not is_news:
        said |= {name: before.extra[name] for name in _LABEL}
        its = {task.name: before.labels[task.name]} if task.name in before.labels else {}
    return replace(
        row,
        group=before.group,
        split=before.split,
        labels={**labels, **its},
        extra={**before.extra, **said},
    )


def _edited(row: Row, known: Row, ours: Row) -> Row:
    """Return a row that somebody has written into since it was known, with what came of it here."""
    return replace(
        ours,
        group=row.group,
        split=row.split,
        labels=ours.labels if row.labels == known.labels else row.labels,
        extra={**row.extra, **ours.extra},
    )


def _was_labelled_here(row: Row, task: Task) -> bool:
    """Return whether somebody has written into `labels.csv` what no device said."""
    said = row.extra["label"]
    return row.labels.get(task.name, "") != (said if said in task.classes else "")


def _key_of(row: Row) -> tuple[str, str, str]:
    try:
        row.extra["taken_at"]  # by which days are held out
        return row.extra["device"], row.extra["zone_name"], row.extra["sha256"]
    except KeyError as error:
        raise DatasetError(
            f"row {row.image!r} has no column {error}: this data set was not pulled; name another "
            "folder for what is pulled"
        ) from None
