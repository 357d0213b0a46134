"""The store of pictures worth a label.

One SQLite file, mode 0600, bounded in pictures and in bytes. A picture is the part of a frame
around its zone, never the frame. Beyond the bounds the most redundant goes first, or else the
oldest; one that somebody has labelled goes last. What looks like a kept picture of the same zone is
counted there and not kept again; where it comes with a label, that is the label of both.

Pictures lie in a table of their own, so that a start reads none of them and a label writes none.
They can be lost without harm, so a store that cannot be written is a warning, and no error.
"""

import itertools
import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.sample import Sample
from edge_runtime.sample_index import Kept, SampleIndex
from edge_runtime.sample_row import COLUMNS, SCHEMA, from_row, packed, to_row, unpacked
from edge_runtime.sqlite_file import error_code, quick_check, set_aside, touch_private
from transom.config import SamplesConfig
from transom.errors import SampleError

_log = logging.getLogger(__name__)

FILE_NAME = "samples.sqlite3"

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Not by the times alone: a clock that is set back would make the newest label an old one. What was
# labelled before there were numbers has none, and comes last.
_NEWEST = (
    "(SELECT number FROM labelled AS l WHERE l.id = samples.id) DESC, labelled_at DESC, id DESC"
)
_NUMBER = "INSERT OR REPLACE INTO labelled (id) VALUES (?)"
_ROW_BYTES = 4096  # beside the picture: embedding, columns, the page that is not full


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """What the store holds: pictures, their bytes, those with a label."""

    samples: int
    stored_bytes: int
    labelled: int


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
        self._is_open = False
        self._index = SampleIndex()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._begin_or_anew()
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
            twin = self._index.twin(sample)
            return self._insert(sample) if twin is None else self._count_copy(twin, sample)

    def version(self, zone: str) -> int:
        """Return a number that changes when labels of a zone do."""
        return self._index.version(zone)

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
            kept = self._index.get(id_)
            numbered = () if label is None else (_NUMBER, (id_,))
            if kept is None or not self._attempt(query, values, *numbered):
                return False
            self._index.label(kept, label)
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
            packed(sample.embedding),
            " ".join(sample.classes),
            packed(sample.probabilities),
            sample.label,
            sample.id,
        )
        with self._lock:
            kept = self._index.get(sample.id)
            if kept is None or not self._attempt(query, values):
                return False
            kept.model, kept.embedding = sample.model, sample.embedding
            self._index.label(kept, sample.label)
            return True

    def lessons(self, zone: str, task: str, most: int | None = None) -> Iterator[Sample]:
        """Yield the labelled pictures of a zone's task, the newest label first.

        Args:
            zone: The zone's name.
            task: The task.
            most: Pictures of each label, the newest ones; None = all.
        """
        ranked = (
            f"SELECT id, row_number() OVER (PARTITION BY label ORDER BY {_NEWEST})"  # noqa: S608
            " AS place FROM samples WHERE zone = ? AND task = ? AND label IS NOT NULL"
        )
        where = f"id IN (SELECT id FROM ({ranked}) WHERE place <= ?)"  # noqa: S608
        limit = self._config.max_count if most is None else most
        return self._read(f"{where} ORDER BY {_NEWEST}", zone, task, limit)

    def samples(self) -> Iterator[Sample]:
        """Yield what is kept, the newest first, one at a time."""
        return self._read("1 ORDER BY id DESC")

    def outlines(self, most: int) -> list[Sample]:
        """Return what is said of the newest pictures, each with an empty picture.

        Args:
            most: How many, at most.
        """
        query = f"SELECT {COLUMNS}, id, x'' FROM samples ORDER BY id DESC LIMIT ?"  # noqa: S608
        return list(self._whole(self._rows(query, (most,))))

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
            index = self._index
            return SampleCounts(len(index), index.stored_bytes, index.labelled)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._store.close()

    # ---------------------------------------------------------------- what changes

    def _make_room(self, size: int) -> bool:
        while self._index and (
            len(self._index) >= self._config.max_count
            or self._index.stored_bytes + size > self._config.max_bytes
        ):
            if not self._delete(self._index.victim().id):
                return False
        return size <= self._config.max_bytes

    def _insert(self, sample: Sample) -> int | None:
        size = len(sample.picture) + _ROW_BYTES
        if size > self._config.max_bytes or not self._make_room(size):
            return None
        marks = ", ".join("?" * 15)
        query = f"INSERT INTO samples ({COLUMNS}, picture_bytes) VALUES ({marks})"  # noqa: S608
        values = (*to_row(sample), len(sample.picture))
        picture = "INSERT INTO pictures VALUES (last_insert_rowid(), ?)"
        number = "INSERT INTO labelled (id) VALUES (last_insert_rowid())"
        numbered = () if sample.label is None else (number, ())
        if not self._attempt(query, values, picture, (sample.picture,), *numbered):
            return None
        id_ = int(self._store.execute("SELECT max(id) FROM samples").fetchone()[0])
        self._index.add(
            Kept(id_, sample.zone, sample.model, sample.label, sample.drawn, size, sample.embedding)
        )
        return id_

    def _count_copy(self, twin: Kept, sample: Sample) -> int | None:
        """Count a picture where its twin is; its label, where it has one, is the newer."""
        label = twin.label if twin.label in sample.names else sample.label  # which says more
        query = (
            "UPDATE samples SET copies = copies + 1, drawn = drawn + ?, label = coalesce(?, label),"
            " labelled_by = coalesce(?, labelled_by), labelled_at = coalesce(?, labelled_at)"
            " WHERE id = ?"
        )
        values = (sample.drawn, label, sample.labelled_by, sample.labelled_at, twin.id)
        numbered = () if label is None else (_NUMBER, (twin.id,))
        if not self._attempt(query, values, *numbered):
            return None
        twin.drawn += sample.drawn
        if label is not None:
            self._index.label(twin, label)
        return twin.id

    def _delete(self, *ids: int) -> bool:
        """Delete pictures and all that is known of them, all or none; return whether it is done."""
        which = (json.dumps(ids),)
        queries = [
            (f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))", which)  # noqa: S608
            for table in ("samples", "pictures", "labelled")
        ]
        if not self._attempt(*itertools.chain(*queries)):
            return False
        for id_ in ids:
            self._index.remove(id_)
        return True

    # ---------------------------------------------------------------- the file

    def _begin(self) -> None:
        self._store, kept = _open(self._path)
        self._index.fill(kept)
        self._is_open = True
        self._shrink()

    def _shrink(self) -> None:
        """Delete all that is too much by now: the bounds were larger when it was kept."""
        config = self._config
        ids = [one.id for one in self._index.surplus(config.max_count, config.max_bytes)]
        if ids and self._delete(*ids):
            _log.info("kept pictures are too many for the bounds and deleted count=%d", len(ids))

    def _begin_or_anew(self) -> None:
        """Open the store, or an empty one in place of a file that is damaged."""
        try:
            self._begin()
        except (sqlite3.DatabaseError, ValueError) as error:
            if not _is_damage(error):
                raise
            _set_aside(self._path, error)
            self._begin()

    def _begin_late(self) -> bool:
        """Open what could not be opened in place of a damaged file; return whether it is open."""
        with suppress(sqlite3.Error, OSError, ValueError):
            self._begin_or_anew()
        return self._is_open

    def _attempt(self, *queries: Any) -> bool:
        """Run queries, each followed by its values, in one transaction; whether it is done."""
        if not self._is_open and not self._begin_late():
            return False
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
        query = f"SELECT {COLUMNS}, id, picture FROM samples JOIN pictures USING (id) WHERE id = ?"  # noqa: S608
        for id_ in ids:
            yield from self._whole(self._rows(query, (id_,)))

    def _whole(self, rows: Iterable[Any]) -> Iterator[Sample]:
        """Yield the samples of rows; one that the card has damaged is of no use, and is deleted."""
        for row in rows:
            try:
                yield from_row(row)
            except (ValueError, TypeError, AttributeError) as error:
                id_ = row[-2]
                _log.warning("kept picture is damaged and is deleted id=%s reason=%s", id_, error)
                self.forget(id_)

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
            self._is_open = False
            self._index.outdate()
            try:
                _set_aside(self._path, error)
                self._begin()
            except (sqlite3.Error, OSError) as obstacle:
                error = sqlite3.OperationalError(str(obstacle))
            else:
                return
        if not self._in_trouble:
            _log.warning("samples cannot be used path=%s error=%s", self._path, error)
        self._in_trouble = True


def _open(path: Path) -> tuple[sqlite3.Connection, list[Kept]]:
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
        store.executescript(SCHEMA)
        quick_check(store, "samples")
        rows = store.execute(
            "SELECT id, zone, model, label, drawn, picture_bytes, embedding FROM samples"
            " ORDER BY id"
        )
        return store, list(map(_kept, rows))
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


def _kept(row: Any) -> Kept:
    id_, zone, model, label, drawn, size, embedding = row
    return Kept(id_, zone, model, label, drawn, size + _ROW_BYTES, unpacked(embedding))
