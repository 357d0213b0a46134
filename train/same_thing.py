"""Pictures of the same thing in another view or light: an embedding proposes, details confirm.

A copy that was cropped, turned or mirrored, or a second photograph of the same door, has another
perceptual hash. A network's embedding is near, but so is that of another door of the same make:
only where details of both pictures lie over each other by one affine map is it the same thing.

References:
    Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004 (SIFT, ratio test).
    Fischler and Bolles, Random Sample Consensus, CACM 1981.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from train.progress import Progress

MIN_COSINE = 0.7
"""Least cosine of two embeddings, less their mean, that are compared in detail."""
NEIGHBOURS = 3
"""How many of the nearest pictures are."""
MIN_POINTS = 10
"""Least number of details that must lie over each other."""

_FEATURES = 200
_MIN_CONTRAST = 0.02
_RATIO = 0.8
_MAX_ERROR_PX = 3.0
_SHRINK = (0.25, 4.0)  # areas: a map that folds a picture into a corner has found a texture
_BLOCK = 256
_KEPT = 2048  # pictures whose details are remembered, about 30 kB each

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Details = tuple[Floats, Crops]


@dataclass(frozen=True)
class Match:
    """Two pictures of the same thing.

    Attributes:
        held: Place of the one on the later side.
        known: Place of the one on the earlier side.
        points: How many details lie over each other.
    """

    held: int
    known: int
    points: int


def same_things(
    crops: Crops, embedding: Floats, sides: Indices, *, progress: Progress | None = None
) -> list[Match]:
    """Find, for each picture, one of an earlier side that shows the same thing.

    Args:
        crops: (N, S, S, 3) uint8 BGR; details need S of about 100 or more.
        embedding: (N, D) float32, of the same pictures.
        sides: (N,) int64; pictures of one side are not compared with each other.
        progress: Told how many pictures have been compared.

    Returns:
        At most one match a picture, that with most points, by place.
    """
    if not len(crops):
        return []
    remembered = lru_cache(_KEPT)(lambda place: _details(crops[place]))
    best: dict[int, Match] = {}
    later = np.flatnonzero(sides > sides.min())
    cv2.setRNGSeed(0)  # of the random samples: the same pictures, the same answer
    for done, (held, known) in enumerate(_neighbours(embedding, sides, later), start=1):
        views = [_details(crops[held]), _details(crops[held][:, ::-1])] if len(known) else []
        for place in known.tolist():
            points = max(_common_points(view, remembered(place)) for view in views)
            if points >= MIN_POINTS and (held not in best or points > best[held].points):
                best[held] = Match(held, place, points)
        if progress:
            progress(done, len(later))
    return [best[held] for held in sorted(best)]


def _neighbours(embedding: Floats, sides: Indices, later: Indices) -> Iterator[tuple[int, Indices]]:
    """Yield each of the later pictures with its nearest ones of earlier sides, nearest first."""
    centred = embedding - embedding.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    for start in range(0, len(later), _BLOCK):
        block = later[start : start + _BLOCK]
        cosine = unit[block] @ unit.T
        cosine[sides[block, None] <= sides[None, :]] = -1.0
        count = min(NEIGHBOURS, len(unit))
        nearest = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        for row, held in enumerate(block.tolist()):
            order = nearest[row][np.argsort(-cosine[row, nearest[row]], kind="stable")]
            yield held, order[cosine[row, order] >= MIN_COSINE].astype(np.int64)


def _details(crop: Crops) -> Details:
    """Return places (K, 2) float32 and SIFT descriptors (K, 128) uint8 of a crop's details."""
    detector = cv2.SIFT.create(nfeatures=_FEATURES, contrastThreshold=_MIN_CONTRAST)
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_BGR2GRAY)
    points, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    return np.array([point.pt for point in points], np.float32), descriptors.astype(np.uint8)


def _common_points(one: Details, other: Details) -> int:
    """Return how many details of two pictures one affine map lays over each other."""
    if min(len(one[0]), len(other[0])) < 2:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(one[1], other[1], 2)
    clear = [first for first, second in pairs if first.distance < _RATIO * second.distance]
    if len(clear) < MIN_POINTS:
        return 0
    source = one[0][[match.queryIdx for match in clear]]
    target = other[0][[match.trainIdx for match in clear]]
    found, inside = cv2.estimateAffine2D(source, target, ransacReprojThreshold=_MAX_ERROR_PX)
    if found is None or not _SHRINK[0] < np.linalg.det(found[:, :2]) < _SHRINK[1]:
        return 0
    chosen = inside.ravel().astype(bool)
    # Several details at one place are one: a texture has them.
    return min(len(np.unique(np.round(side[chosen]), axis=0)) for side in (source, target))
