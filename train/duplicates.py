"""Pictures that are nearly the same: a perceptual hash finds candidates, correlation confirms.

References:
    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010 (the hash of
    DCT coefficients against their median).
"""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

MAX_DISTANCE = 16
"""Bits of 64 in which the hashes of candidates differ at most; unlike pictures differ in 32, and
one pair in 10,000 of them passes, so that the confirmation has little to do."""
MIN_CORRELATION = 0.97
"""Least correlation of two small grey pictures that are the same picture."""

_HASH_SIDE = 32
_COMPARE_SIDE = 24
_BLOCK = 2048

Hashes = npt.NDArray[np.uint64]
Crops = npt.NDArray[np.uint8]


def perceptual_hashes(crops: Crops) -> Hashes:
    """Hash pictures so that a slight change of light, sharpness or coding changes few bits.

    Args:
        crops: (N, S, S, 3) uint8 BGR.

    Returns:
        (N,) uint64.
    """
    return np.array([_hash(crop) for crop in crops], np.uint64)


def near_duplicates(crops: Crops, sides: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Find pictures of one side that nearly equal one of another side.

    Args:
        crops: (N, S, S, 3) uint8 BGR.
        sides: (N,) int64; pictures of one side are not compared with each other.

    Returns:
        Pairs (i, j), i < j, at most one for each j: the most alike.
    """
    hashes, small = perceptual_hashes(crops), _small_grey(crops)
    best: dict[int, tuple[float, int]] = {}
    for i, j in _close_pairs(hashes, sides):
        likeness = (small[i] * small[j]).sum(axis=1)
        for a, b, value in zip(i.tolist(), j.tolist(), likeness.tolist(), strict=True):
            if value >= MIN_CORRELATION and value > best.get(b, (0.0, 0))[0]:
                best[b] = (value, a)
    return sorted((a, b) for b, (_, a) in best.items())


def _hash(crop: npt.NDArray[np.uint8]) -> int:
    grey = cv2.cvtColor(
        cv2.resize(crop, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA),
        cv2.COLOR_BGR2GRAY,
    )
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first coefficient is only the brightness
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _small_grey(crops: Crops) -> npt.NDArray[np.float32]:
    """Small grey pictures of mean 0 and norm 1, (N, pixels) float32; flat ones become 0."""
    side = (_COMPARE_SIDE, _COMPARE_SIDE)
    small = np.empty((len(crops), _COMPARE_SIDE**2), np.float32)
    for index, crop in enumerate(crops):
        reduced = cv2.resize(crop, side, interpolation=cv2.INTER_AREA)
        small[index] = cv2.cvtColor(reduced, cv2.COLOR_BGR2GRAY).ravel()
    small -= small.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(small, axis=1, keepdims=True)
    # A picture with less contrast than sensor noise is like every other such picture.
    return np.asarray(np.where(norms > 2.0 * _COMPARE_SIDE, small / np.maximum(norms, 1e-6), 0.0))


def _close_pairs(
    hashes: Hashes, sides: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Index arrays i < j of other sides whose hashes differ in few bits, block by block."""
    for start in range(0, len(hashes), _BLOCK):
        block = slice(start, start + _BLOCK)
        for other in range(start, len(hashes), _BLOCK):
            against = slice(other, other + _BLOCK)
            close = _bit_count(hashes[block, None] ^ hashes[None, against]) <= MAX_DISTANCE
            close &= sides[block, None] != sides[None, against]
            i, j = np.nonzero(close)
            ahead = i + start < j + other
            yield (i + start)[ahead], (j + other)[ahead]


def _bit_count(words: Hashes) -> npt.NDArray[np.uint8]:
    """Bits set in each word (numpy before 2.0 has no `bitwise_count`)."""
    halves = words.view(np.uint8).reshape(*words.shape, 8)
    return np.asarray(_BITS[halves].sum(axis=-1, dtype=np.uint8))


_BITS = np.array([bin(value).count("1") for value in range(256)], np.uint8)
