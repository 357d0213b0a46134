"""How far a picture lies from everything that a network was trained on, by its embedding.

A network that tells doors apart is as sure of a cat. Neither its softmax nor its energy told other
pictures apart where it had learnt from one data set; where their embedding lies does.

The distance is Mahalanobis's to the nearest of the training classes, less that to all training
pictures together, so that directions in which all pictures differ count little.

References:
    Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018.
    Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from transom.atomic import write_file
from transom.errors import RunError

NAME = "distance.safetensors"
"""File in a run's folder; a run without one knows no distance."""
MOST_ROWS = 2000
"""Training rows that are looked at; more move the distance little."""

_LEAST_ROWS = 50
_LEAST_OF_A_CLASS = 8  # a mean of fewer is no place; they count to the rest
_MAX_EMBEDDING = 1024  # the matrix grows with its square, and travels in every bundle
_SHRINKAGE = 0.15  # of a covariance towards equal variances

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Distance:
    """A quadratic function of the embedding: ((z Q) z + min_k (z L + c)_k), z = embedding - mean.

    Attributes:
        mean: (D,) float32, of all training pictures.
        quadratic: Q, (D, D) float32.
        linear: L, (D, K) float32, a column for each class of training pictures.
        constant: c, (K,) float32.
    """

    mean: Floats
    quadratic: Floats
    linear: Floats
    constant: Floats

    def __call__(self, embedding: Floats) -> Floats:
        """Return the distance of each picture, (N,) float32; high = unlike training.

        Args:
            embedding: (N, D) float32.
        """
        z = embedding - self.mean
        nearest = (z @ self.linear + self.constant).min(axis=1)
        return np.asarray((z @ self.quadratic * z).sum(axis=1) + nearest, np.float32)

    def write(self, folder: Path) -> None:
        """Write it into a run's folder."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        write_file(folder / NAME, safetensors.numpy.save(tensors))


def read_distance(folder: Path) -> Distance | None:
    """Read a run's distance; None where it has none.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / NAME
    try:
        return Distance(**safetensors.numpy.load(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, safetensors.SafetensorError, TypeError) as error:
        raise RunError(f"{path}: cannot be read: {error}; train again") from error


def fit_distance(embedding: Floats, classes: Indices) -> Distance | None:
    """Return the distance from training pictures; None where they are too few, or all the same.

    Args:
        embedding: (N, D) float32 of training pictures.
        classes: (N,) int64, equal where pictures are labelled the same.
    """
    if len(embedding) < _LEAST_ROWS or embedding.shape[1] > _MAX_EMBEDDING:
        return None
    points = embedding.astype(np.float64)
    mean = points.mean(axis=0)
    points = points - mean
    names = _large_classes(classes)
    centres = np.stack([points[names == name].mean(axis=0) for name in np.unique(names)])
    within = points - centres[np.unique(names, return_inverse=True)[1]]
    spread, inside = (float(some.var(axis=0, ddof=1).sum()) for some in (points, within))
    if not np.isfinite(spread) or spread <= 0.0 or inside <= 1e-9 * spread:
        return None
    inner, outer = _precision(within), _precision(points)
    one_class = len(centres) == 1  # the two would cancel each other
    size = points.shape[1]  # distances of networks of other sizes are then of the same order
    pull = inner @ centres.T
    return Distance(
        mean=mean.astype(np.float32),
        quadratic=((inner if one_class else inner - outer) / size).astype(np.float32),
        linear=(-2.0 * pull / size).astype(np.float32),
        constant=((centres.T * pull).sum(axis=0) / size).astype(np.float32),
    )


def reference_rows(groups: Sequence[str]) -> Indices:
    """Return at most `MOST_ROWS` of N rows, spread over the groups as they come.

    Args:
        groups: (N,) names.
    """
    order = np.argsort(np.asarray(groups, dtype=np.str_), kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(MOST_ROWS, len(order))).astype(np.int64)]
    return np.sort(picked) if len(order) else np.zeros(0, np.int64)


def _large_classes(classes: Indices) -> Indices:
    """The classes, those of few pictures as one."""
    names, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    rest = len(names)
    found = np.where(counts[places] >= _LEAST_OF_A_CLASS, places, rest)
    few = int((found == rest).sum())
    if 0 < few < _LEAST_OF_A_CLASS and few < len(found):  # they join the largest class
        found[found == rest] = int(counts.argmax())
    return np.asarray(found, np.int64)


def _precision(points: Matrix) -> Matrix:
    covariance = np.cov(points.T).reshape(points.shape[1], points.shape[1])
    level = np.trace(covariance) / len(covariance)
    shrunk = (1.0 - _SHRINKAGE) * covariance + _SHRINKAGE * level * np.eye(len(covariance))
    return np.asarray(np.linalg.inv(shrunk))
