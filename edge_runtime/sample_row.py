"""How a sample lies in the store's file: the tables, and the way into a row and back."""

from typing import Any, get_args

import numpy as np

from edge_runtime.sample import Floats, Sample, Why
from transom.geometry import Zone

SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, zone TEXT NOT NULL, task TEXT NOT NULL, why TEXT NOT NULL,
    taken_at TEXT NOT NULL, shape TEXT NOT NULL, model TEXT NOT NULL, embedding BLOB NOT NULL,
    classes TEXT NOT NULL, probabilities BLOB NOT NULL, label TEXT, labelled_by TEXT,
    labelled_at TEXT, copies INTEGER NOT NULL, drawn INTEGER NOT NULL,
    picture_bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pictures (id INTEGER PRIMARY KEY, picture BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS labelled (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER UNIQUE NOT NULL);
CREATE INDEX IF NOT EXISTS labels ON samples (zone, labelled_at) WHERE label IS NOT NULL;
"""
COLUMNS = (
    "zone, task, why, taken_at, shape, model, embedding, classes, probabilities, label, "
    "labelled_by, labelled_at, copies, drawn"
)
"""What `to_row` gives and `from_row` takes."""


def packed(values: Floats) -> bytes:
    """Return float32 numbers as they lie in a column."""
    return np.asarray(values, "<f4").tobytes()


def unpacked(data: bytes) -> Floats:
    """Undo `packed`."""
    return np.frombuffer(data, "<f4").astype(np.float32)


def to_row(sample: Sample) -> tuple[Any, ...]:
    """Return a sample's `COLUMNS`."""
    return (
        sample.zone,
        sample.task,
        sample.why,
        sample.taken_at,
        sample.shape.to_text(),
        sample.model,
        packed(sample.embedding),
        " ".join(sample.classes),
        packed(sample.probabilities),
        sample.label,
        sample.labelled_by,
        sample.labelled_at,
        sample.copies,
        sample.drawn,
    )


def from_row(row: Any) -> Sample:
    """Return the sample of a row: its `COLUMNS`, its id, its picture."""
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
        embedding=unpacked(embedding),
        classes=tuple(classes.split()),
        probabilities=unpacked(probabilities),
        label=label,
        labelled_by=labelled_by,
        labelled_at=labelled_at,
        copies=copies,
        drawn=drawn,
        id=id_,
    )
