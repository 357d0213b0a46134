"""The store of pictures worth a label: zones' crops, what was said of them, what is true.

One SQLite file, mode 0600, bounded in pictures and in bytes. A picture is the part of a frame
around its zone, never the frame. Beyond the bounds the most redundant goes first, or else the
oldest; one that somebody has labelled goes last. What looks like a kept picture of the same zone is
counted there and not kept again; where it comes with a label, that is the label of both.

Pictures can be lost without harm, so a store that cannot be written is a warning, and no error.
"""

import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from transom.config import SamplesConfig
from transom.errors import SampleError
from transom.geometry import Zone

_log = logging.getLogger(__name__)

FILE_NAME = "samples.sqlite3"

ALIKE = 0.98
"""Likeness (see `likeness`) from which on two pictures are the same one.

Of the real window clip, neighbouring frames at rest are 0.98 to 0.995 alike, and frames of one
state some seconds apart 0.93 to 0.96.
"""

REDUNDANT = 0.9
"""Likeness below which no picture is redundant: then the oldest goes first."""

Why = Literal["unsure", "unlike", "transition", "random", "taught"]
"""Why a picture was kept; `taught` = because somebody, or a sensor, said what it shows."""

Floats = npt.NDArray[np.float32]

_ROW_BYTES = 4096  # beside the picture: embedding, columns, the page that is not full
_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY, zone TEXT NOT NULL, task TEXT NOT NULL, why TEXT NOT NULL,
    taken_at TEXT NOT NULL, shape TEXT NOT NULL, picture BLOB NOT NULL, model TEXT NOT NULL,
    embedding BLOB NOT NULL, classes TEXT NOT NULL, probabilities BLOB NOT NULL,
    label TEXT, labelled_by TEXT, labelled_at TEXT,
    copies INTEGER NOT NULL, drawn INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS labels ON samples (zone, labelled_at) WHERE label IS NOT NULL;
"""
_COLUMNS = (
    "zone, task, why, taken_at, shape, picture, model, embedding, classes, probabilities, "
    "label, labelled_by, labelled_at, copies, drawn"
)


@dataclass(frozen=True)
class Sample:
    """A picture of a zone.

    Attributes:
        zone: The zone's name.
        task: The task whose class is the zone's state.
        why: Why it is kept.
        taken_at: UTC, ISO 8601.
        shape: The zone in the picture, in fractions of it.
        picture: JPEG of the part of the frame around the zone.
        model: Digest of the bundle that answered.
        embedding: (D,) float32, of that bundle's network.
        classes: What the zone tells, C of them.
        probabilities: (C,) float32, what the bundle alone said.
        label: The true class; several that may be true, joined by `|`; None = nobody said.
        labelled_by: `mqtt`, `contact` or another word for who said so.
        labelled_at: UTC, ISO 8601.
        copies: Pictures that it stands for.
        drawn: Those of them that were drawn at random: what an honest figure may count.
        id: In the store; 0 before it is there.
    """

    zone: str
    task: str
    why: Why
    taken_at: str
    shape: Zone
    picture: bytes
    model: str
    embedding: Floats
    classes: tuple[str, ...]
    probabilities: Floats
    label: str | None = None
    labelled_by: str | None = None
    labelled_at: str | None = None
    copies: int = 1
    drawn: int = 0
    id: int = 0


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
            if twin is not None:
                return twin.id if self._attempt(self._count_copy, twin, sample) else None
            return self._insert(sample)

    def version(self, zone: str) -> int:
        """Return a number that changes when labels of a zone do."""
        return self._versions[zone]

    def label(self, id_: int, label: str | None, by: str, at: str) -> bool:
        """Say what a kept picture shows, or take it back; return whether that is done."""
        with self._lock:
            kept = self._kept.get(id_)
            query = "UPDATE samples SET label = ?, labelled_by = ?, labelled_at = ? WHERE id = ?"
            values = (None, None, None, id_) if label is None else (label, by, at, id_)
            if kept is None or not self._attempt(self._write, query, values):
                return False
            self._note_label(kept, label)
            return True

    def forget(self, *ids: int) -> bool:
        """Delete pictures; return whether that is done."""
        with self._lock:
            return self._attempt(self._delete, ids)

    def answered(self, sample: Sample) -> bool:
        """Note what another network says of a kept picture; return whether that is done."""
        with self._lock:
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
            kept = self._kept.get(sample.id)
            if kept is None or not self._attempt(self._write, query, values):
                return False
            kept.model, kept.embedding = sample.model, sample.embedding
            self._note_label(kept, sample.label)
            return True

    def lessons(self, zone: str, task: str) -> list[Sample]:
        """Return the labelled pictures of a zone's task, the newest label first."""
        where = "zone = ? AND task = ? AND label IS NOT NULL ORDER BY labelled_at DESC, id DESC"
        return list(self.samples(where, (zone, task)))

    def get(self, id_: int) -> Sample | None:
        """Return a picture; None where it is no longer kept."""
        return next(self.samples("id = ?", (id_,)), None)

    def samples(
        self, where: str = "1 ORDER BY id DESC", values: tuple[Any, ...] = ()
    ) -> Iterator[Sample]:
        """Yield what is kept, the newest first unless asked otherwise, one at a time.

        Args:
            where: A condition of SQL on the columns; a constant of the program, never input.
            values: What its question marks stand for.
        """
        with self._lock:
            ids = [row[0] for row in self._rows(f"SELECT id FROM samples WHERE {where}", values)]  # noqa: S608
        for id_ in ids:
            with self._lock:
                rows = self._rows(f"SELECT {_COLUMNS}, id FROM samples WHERE id = ?", (id_,))  # noqa: S608
            yield from map(_sample, rows)

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

    def _insert(self, sample: Sample) -> int | None:
        size = len(sample.picture) + _ROW_BYTES
        if size > self._config.max_bytes:
            return None
        while self._kept and (
            len(self._kept) >= self._config.max_count
            or self.counts().stored_bytes + size > self._config.max_bytes
        ):
            if not self._attempt(self._delete, (self._victim().id,)):
                return None
        marks = ", ".join("?" * 15)
        query = f"INSERT INTO samples ({_COLUMNS}) VALUES ({marks})"  # noqa: S608
        inserted: list[int] = []
        if not self._attempt(self._write, query, _row(sample), inserted):
            return None
        self._kept[inserted[0]] = _Kept(
            inserted[0],
            sample.zone,
            sample.model,
            sample.label,
            sample.drawn,
            size,
            sample.embedding,
        )
        if sample.label is not None:
            self._versions[sample.zone] += 1
        return inserted[0]

    def _count_copy(self, twin: _Kept, sample: Sample) -> None:
        """Count a picture where its twin is; its label, where it has one, is the newer."""
        label = sample.label
        if label is not None and twin.label in label.split("|"):
            label = twin.label  # what is known already says more
        self._store.execute(
            "UPDATE samples SET copies = copies + 1, drawn = drawn + ?, label = coalesce(?, label),"
            " labelled_by = coalesce(?, labelled_by), labelled_at = coalesce(?, labelled_at)"
            " WHERE id = ?",
            (sample.drawn, label, sample.labelled_by, sample.labelled_at, twin.id),
        )
        twin.drawn += sample.drawn
        if label is not None:
            self._note_label(twin, label)

    def _note_label(self, kept: _Kept, label: str | None) -> None:
        kept.label = label
        self._versions[kept.zone] += 1

    def _delete(self, ids: tuple[int, ...]) -> None:
        self._store.executemany("DELETE FROM samples WHERE id = ?", [(id_,) for id_ in ids])
        for id_ in ids:
            kept = self._kept.pop(id_, None)
            if kept is not None and kept.label is not None:
                self._versions[kept.zone] += 1

    # ---------------------------------------------------------------- the file

    def _write(
        self, query: str, values: tuple[Any, ...], inserted: list[int] | None = None
    ) -> None:
        cursor = self._store.execute(query, values)
        if inserted is not None and cursor.lastrowid is not None:
            inserted.append(cursor.lastrowid)

    def _attempt(self, work: Any, *arguments: Any) -> bool:
        try:
            work(*arguments)
        except sqlite3.Error as error:
            self._meet(error)
            return False
        if self._in_trouble:
            _log.info("samples can be written again path=%s", self._path)
        self._in_trouble = False
        return True

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._store.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._meet(error)
            return []

    def _meet(self, error: sqlite3.Error) -> None:
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
    # SQLite gives its log the mode of the file: nobody else may look into the house.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    store = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = FULL")
        store.execute("PRAGMA secure_delete = ON")  # what was taken back is gone
        verdict = store.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise ValueError(verdict)
        store.executescript(_SCHEMA)
        rows = store.execute(
            "SELECT id, zone, model, label, drawn, length(picture), embedding FROM samples"
        )
        return store, {kept.id: kept for kept in map(_kept, rows)}
    except BaseException:
        store.close()
        raise


def _is_damage(error: sqlite3.DatabaseError | ValueError) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(path.name + ".damaged")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    _log.warning("store of samples was damaged and is new kept=%s error=%s", aside, error)


def likeness(first: Floats, second: Floats) -> Floats:
    """Return how alike embeddings are, (N, M) float32: 1 = the same.

    It is the cosine less what their lengths differ by: 1 - |a - b|^2 / (2 |a| |b|).

    Args:
        first: (N, D) float32.
        second: (M, D) float32.

    Examples:
        >>> a, b = np.eye(2, dtype=np.float32), np.array([[1, 1], [2, 0]], np.float32)
        >>> likeness(a, b).astype(float).round(2).tolist()
        [[0.65, 0.75], [0.65, -0.25]]
    """
    products = first @ second.T
    squares = (first**2).sum(axis=1)[:, None], (second**2).sum(axis=1)[None]
    lengths = np.sqrt(squares[0] * squares[1])
    apart = np.maximum(squares[0] + squares[1] - 2.0 * products, 0.0)
    return np.asarray(1.0 - apart / np.maximum(2.0 * lengths, 1e-30), np.float32)


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
        sample.picture,
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
    zone, task, why, taken_at, shape, picture, model, embedding, classes, probabilities, *rest = row
    return Sample(
        zone,
        task,
        why if why in get_args(Why) else "taught",
        taken_at,
        Zone.from_text(shape),
        bytes(picture),
        model,
        _unpacked(embedding),
        tuple(classes.split()),
        _unpacked(probabilities),
        *rest,
    )
