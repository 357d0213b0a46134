"""The store of pictures worth a label.

One SQLite file, mode 0600, bounded in pictures and in bytes. A picture is the part of a frame
around its zone, never the frame. Beyond the bounds the most redundant goes first, or else the
oldest; one that somebody has labelled goes last. What looks like a kept picture of the same zone is
counted there and not kept again; where it comes with a label, that is the label of both.

Pictures lie in a table of their own, so that a start reads none of them and a label writes none.
They can be lost without harm, so a store that cannot be written is a warning, and no error.
"""

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from edge_runtime.sample import Floats, Sample, Why, likeness
from edge_runtime.sqlite_file import error_code, set_aside, touch_private
from transom.config import SamplesConfig
from transom.errors import SampleError
from transom.geometry import Zone

_log = logging.getLogger(__name__)

FILE_NAME = "samples.sqlite3"

ALIKE = 0.98
"""Likeness (see `likeness`) from which on two pictures are the same one.

Of the real window clip, neighbouring frames are 0.990 and 0.998 alike (one pane, whole picture),
those of one state two seconds apart 0.885 and 0.981 (`benchmarks/few_shot.py`, medians).
"""

REDUNDANT = 0.9
"""Likeness below which no picture is redundant: then the oldest goes first."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ROW_BYTES = 4096  # beside the picture: embedding, columns, the page that is not full
_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, zone TEXT NOT NULL, task TEXT NOT NULL, why TEXT NOT NULL,
    taken_at TEXT NOT NULL, shape TEXT NOT NULL, model TEXT NOT NULL, embedding BLOB NOT NULL,
    classes TEXT NOT NULL, probabilities BLOB NOT NULL, label TEXT, labelled_by TEXT,
    labelled_at TEXT, copies INTEGER NOT NULL, drawn INTEGER NOT NULL,
    picture_bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pictures (id INTEGER PRIMARY KEY, picture BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS labels ON samples (zone, labelled_at) WHERE label IS NOT NULL;
"""
_COLUMNS = (
    "zone, task, why, taken_at, shape, model, embedding, classes, probabilities, label, "
    "labelled_by, labelled_at, copies, drawn"
)


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """What the store holds: pictures, their bytes, those with a label."""

    samples: int
    stored_bytes: int
    labelled: int


@dataclass(slots=True)
class _Kept:
    """What is known of a stored picture without reading it."""

    id: int
    zone: str
    model: str
    label: str | None
    drawn: int
    size: int
    embedding: Floats


class SampleStore:
    """Pictures worth a label. Safe to use from several threads.

    Args:
        path: The store's file; its folder is made if it is missing.
        config: The bounds.

    Raises:
        SampleError: The file cannot be opened. A damaged one is no error: it is kept as
            `<name>.damaged` and a new one is made.
    """

    def __init__(self, path: Path, config: SamplesConfig) -> None:
        self._path = path
        self._config = config
        self._lock = threading.RLock()
        self._in_trouble = False
        self._versions: Counter[str] = Counter()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._store, self._kept = _open(path)
            except (sqlite3.DatabaseError, ValueError) as error:
                if not _is_damage(error):
                    raise
                _set_aside(path, error)
                self._store, self._kept = _open(path)
        except (sqlite3.Error, OSError) as error:
            raise SampleError(
                f"{path}: cannot be opened: {error}; its folder must be writable"
            ) from error

    def add(self, sample: Sample) -> int | None:
        """Keep a picture, or count it where one like it is kept.

        Returns:
            The id of the picture that is kept; None where it could not be written.
        """
        with self._lock:
            twin = self._twin(sample)
            return self._insert(sample) if twin is None else self._count_copy(twin, sample)

    def version(self, zone: str) -> int:
        """Return a number that changes when labels of a zone do."""
        return self._versions[zone]

    def label(self, id_: int, label: str | None, by: str, at: str) -> bool:
        """Say what a kept picture shows, or take it back; return whether that is done.

        Args:
            id_: The picture's.
            label: A class, or several that may be true, joined by `|`; None takes it back.
            by: Who says so.
            at: UTC, ISO 8601.
        """
        values = (None, None, None, id_) if label is None else (label, by, at, id_)
        query = "UPDATE samples SET label = ?, labelled_by = ?, labelled_at = ? WHERE id = ?"
        with self._lock:
            kept = self._kept.get(id_)
            if kept is None or not self._attempt(query, values):
                return False
            self._note_label(kept, label)
            return True

    def forget(self, *ids: int) -> bool:
        """Delete pictures; return whether that is done."""
        with self._lock:
            done = [self._delete(id_) for id_ in ids]
        return all(done)

    def answered(self, sample: Sample) -> bool:
        """Note what another network says of a kept picture; return whether that is done."""
        query = (
            "UPDATE samples SET model = ?, embedding = ?, classes = ?, probabilities = ?,"
            " label = ? WHERE id = ?"
        )
        values = (
            sample.model,
            _packed(sample.embedding),
            " ".join(sample.classes),
            _packed(sample.probabilities),
            sample.label,
            sample.id,
        )
        with self._lock:
            kept = self._kept.get(sample.id)
            if kept is None or not self._attempt(query, values):
                return False
            kept.model, kept.embedding = sample.model, sample.embedding
            self._note_label(kept, sample.label)
            return True

    def lessons(self, zone: str, task: str, most: int | None = None) -> Iterator[Sample]:
        """Yield the labelled pictures of a zone's task, the newest label first.

        Args:
            zone: The zone's name.
            task: The task.
            most: Pictures of each label, the newest ones; None = all.
        """
        ranked = (
            "SELECT id, row_number() OVER (PARTITION BY label ORDER BY labelled_at DESC, id DESC)"
            " AS place FROM samples WHERE zone = ? AND task = ? AND label IS NOT NULL"
        )
        where = f"id IN (SELECT id FROM ({ranked}) WHERE place <= ?)"  # noqa: S608
        limit = self._config.max_count if most is None else most
        return self._read(f"{where} ORDER BY labelled_at DESC, id DESC", zone, task, limit)

    def samples(self) -> Iterator[Sample]:
        """Yield what is kept, the newest first, one at a time."""
        return self._read("1 ORDER BY id DESC")

    def outlines(self, most: int) -> list[Sample]:
        """Return what is said of the newest pictures, each with an empty picture.

        Args:
            most: How many, at most.
        """
        query = f"SELECT {_COLUMNS}, id, x'' FROM samples ORDER BY id DESC LIMIT ?"  # noqa: S608
        return [_sample(row) for row in self._rows(query, (most,))]

    def after(self, id_: int, most: int) -> Iterator[Sample]:
        """Yield the pictures that were kept after one, the oldest first.

        Args:
            id_: That one's; 0 = from the first on.
            most: How many.
        """
        return self._read("id > ? ORDER BY id LIMIT ?", id_, most)

    def get(self, id_: int) -> Sample | None:
        """Return a picture; None where it is no longer kept."""
        return next(self._read("id = ?", id_), None)

    def counts(self) -> SampleCounts:
        """Return what is kept."""
        with self._lock:
            kept = self._kept.values()
            return SampleCounts(
                len(kept),
                sum(one.size for one in kept),
                sum(one.label is not None for one in kept),
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._store.close()

    # ---------------------------------------------------------------- what goes, what stays

    def _twin(self, sample: Sample) -> _Kept | None:
        """Return the kept picture that shows the same."""
        same = [k for k in self._kept.values() if (k.zone, k.model) == (sample.zone, sample.model)]
        if not same:
            return None
        alike = likeness(sample.embedding[None], np.stack([kept.embedding for kept in same]))[0]
        best = int(alike.argmax())
        return same[best] if alike[best] >= ALIKE else None

    def _victim(self) -> _Kept:
        """Return what goes first: of the two that are most alike the older, else the oldest.

        Drawn ones are no more than the others' equals in age: taken out for being alike, they
        would no longer be a random share.
        """
        free = [kept for kept in self._kept.values() if kept.label is None]
        candidates = free or list(self._kept.values())
        alike: list[tuple[float, _Kept]] = []
        for zone in {(kept.zone, kept.model) for kept in candidates}:
            same = [k for k in candidates if (k.zone, k.model) == zone and not k.drawn]
            if len(same) > 1:
                alike.append(_most_alike(same))
        if alike:
            closest, older = max(alike, key=lambda found: (found[0], -found[1].id))
            if closest >= REDUNDANT:
                return older
        return min(candidates, key=lambda kept: kept.id)

    def _make_room(self, size: int) -> bool:
        while self._kept and (
            len(self._kept) >= self._config.max_count
            or self.counts().stored_bytes + size > self._config.max_bytes
        ):
            if not self._delete(self._victim().id):
                return False
        return size <= self._config.max_bytes

    def _insert(self, sample: Sample) -> int | None:
        size = len(sample.picture) + _ROW_BYTES
        if size > self._config.max_bytes or not self._make_room(size):
            return None
        marks = ", ".join("?" * 15)
        query = f"INSERT INTO samples ({_COLUMNS}, picture_bytes) VALUES ({marks})"  # noqa: S608
        values = (*_row(sample), len(sample.picture))
        picture = "INSERT INTO pictures VALUES (last_insert_rowid(), ?)"
        if not self._attempt(query, values, picture, (sample.picture,)):
            return None
        id_ = int(self._store.execute("SELECT last_insert_rowid()").fetchone()[0])
        self._kept[id_] = _Kept(
            id_, sample.zone, sample.model, sample.label, sample.drawn, size, sample.embedding
        )
        if sample.label is not None:
            self._versions[sample.zone] += 1
        return id_

    def _count_copy(self, twin: _Kept, sample: Sample) -> int | None:
        """Count a picture where its twin is; its label, where it has one, is the newer."""
        label = twin.label if twin.label in sample.names else sample.label  # which says more
        query = (
            "UPDATE samples SET copies = copies + 1, drawn = drawn + ?, label = coalesce(?, label),"
            " labelled_by = coalesce(?, labelled_by), labelled_at = coalesce(?, labelled_at)"
            " WHERE id = ?"
        )
        values = (sample.drawn, label, sample.labelled_by, sample.labelled_at, twin.id)
        if not self._attempt(query, values):
            return None
        twin.drawn += sample.drawn
        if label is not None:
            self._note_label(twin, label)
        return twin.id

    def _delete(self, id_: int) -> bool:
        if not self._attempt(
            "DELETE FROM samples WHERE id = ?", (id_,), "DELETE FROM pictures WHERE id = ?", (id_,)
        ):
            return False
        kept = self._kept.pop(id_, None)
        if kept is not None and kept.label is not None:
            self._versions[kept.zone] += 1
        return True

    def _note_label(self, kept: _Kept, label: str | None) -> None:
        kept.label = label
        self._versions[kept.zone] += 1

    # ---------------------------------------------------------------- the file

    def _attempt(self, *queries: Any) -> bool:
        """Run queries, each followed by its values, in one transaction; whether it is done."""
        try:
            self._store.execute("BEGIN IMMEDIATE")
            for query, values in zip(queries[::2], queries[1::2], strict=True):
                self._store.execute(query, values)
            self._store.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # it may have done so by itself
                self._store.execute("ROLLBACK")
            self._meet(error)
            return False
        if self._in_trouble:
            _log.info("samples can be written again path=%s", self._path)
        self._in_trouble = False
        return True

    def _read(self, where: str, *values: Any) -> Iterator[Sample]:
        ids = [row[0] for row in self._rows(f"SELECT id FROM samples WHERE {where}", values)]  # noqa: S608
        query = f"SELECT {_COLUMNS}, id, picture FROM samples JOIN pictures USING (id) WHERE id = ?"  # noqa: S608
        for id_ in ids:
            yield from map(_sample, self._rows(query, (id_,)))

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._store.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._meet(error)
            return []

    def _meet(self, error: sqlite3.Error) -> None:
        """Say once what is wrong; begin anew where the file is damaged."""
        if error_code(error) & 0xFF in _DAMAGED:
            self._store.close()
            self._versions.update(kept.zone for kept in self._kept.values())
            try:
                _set_aside(self._path, error)
                self._store, self._kept = _open(self._path)
            except (sqlite3.Error, OSError) as obstacle:
                error = sqlite3.OperationalError(str(obstacle))
            else:
                return
        if not self._in_trouble:
            _log.warning("samples cannot be used path=%s error=%s", self._path, error)
        self._in_trouble = True


def _open(path: Path) -> tuple[sqlite3.Connection, dict[int, _Kept]]:
    """Open a store, or make one; return it and what it holds.

    Raises:
        sqlite3.Error: It cannot be used.
        OSError: It cannot be reached.
        ValueError: It holds something else than samples.
    """
    touch_private(path)
    path.chmod(0o600)
    store = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = FULL")
        store.execute("PRAGMA secure_delete = ON")  # what was taken back is gone
        store.executescript(_SCHEMA)
        verdict = store.execute("PRAGMA quick_check(samples)").fetchone()[0]
        if verdict != "ok":
            raise ValueError(verdict)
        rows = store.execute(
            "SELECT id, zone, model, label, drawn, picture_bytes, embedding FROM samples"
        )
        return store, {kept.id: kept for kept in map(_kept, rows)}
    except BaseException:
        store.close()
        raise


def _is_damage(error: sqlite3.DatabaseError | ValueError) -> bool:
    """Whether a file that was opened is none that was written here."""
    return isinstance(error, ValueError) or error_code(error) & 0xFF in (
        *_DAMAGED,
        sqlite3.SQLITE_ERROR,
    )


def _set_aside(path: Path, error: Exception) -> None:
    aside = set_aside(path)
    _log.warning("store of samples was damaged and is new kept=%s error=%s", aside, error)


def _most_alike(kept: list[_Kept]) -> tuple[float, _Kept]:
    """Return how alike the two most alike are, and the older of them."""
    embedding = np.stack([one.embedding for one in kept])
    alike = likeness(embedding, embedding)
    np.fill_diagonal(alike, -np.inf)
    first, second = np.unravel_index(int(alike.argmax()), alike.shape)
    older = min(kept[int(first)], kept[int(second)], key=lambda one: one.id)
    return float(alike[first, second]), older


def _packed(values: Floats) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def _unpacked(data: bytes) -> Floats:
    return np.frombuffer(data, "<f4").astype(np.float32)


def _kept(row: Any) -> _Kept:
    id_, zone, model, label, drawn, size, embedding = row
    return _Kept(id_, zone, model, label, drawn, size + _ROW_BYTES, _unpacked(embedding))


def _row(sample: Sample) -> tuple[Any, ...]:
    return (
        sample.zone,
        sample.task,
        sample.why,
        sample.taken_at,
        sample.shape.to_text(),
        sample.model,
        _packed(sample.embedding),
        " ".join(sample.classes),
        _packed(sample.probabilities),
        sample.label,
        sample.labelled_by,
        sample.labelled_at,
        sample.copies,
        sample.drawn,
    )


def _sample(row: Any) -> Sample:
    zone, task, why, taken_at, shape, model, embedding, classes, probabilities, *rest = row
    label, labelled_by, labelled_at, copies, drawn, id_, picture = rest
    whys: tuple[Why, ...] = get_args(Why)
    return Sample(
        zone=zone,
        task=task,
        why=whys[whys.index(why)],
        taken_at=taken_at,
        shape=Zone.from_text(shape),
        picture=bytes(picture),
        model=model,
        embedding=_unpacked(embedding),
        classes=tuple(classes.split()),
        probabilities=_unpacked(probabilities),
        label=label,
        labelled_by=labelled_by,
        labelled_at=labelled_at,
        copies=copies,
        drawn=drawn,
        id=id_,
    )
