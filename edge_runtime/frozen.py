"""Whether a camera's picture has stopped while its stream goes on.

A sensor's noise is new in every picture, but an encoder leaves it out where it may: between two
key frames of a still scene, H.264 repeats the picture bit for bit, for as long as it likes. A key
frame however is made of the sensor's picture of that moment, and noise decides how its
coefficients are rounded: something in it is new, even where the noise itself is too weak to be
coded. So a picture is frozen when several key frames brought nothing that had not been seen. A
stuck picture gives the same few decoded pictures over and over: a key frame, then what refines it.

An encoder that must fill a bit rate refines a stuck picture in a slightly other way each time; it
cannot be told from a still scene (`benchmarks/picture_health.py` shows both).
"""

import numpy as np
import numpy.typing as npt

from transom.crop import Image

FROZEN_S = 4.0
FROZEN_PICTURES = 4
FROZEN_KEY_FRAMES = 3
"""A picture is frozen after this much time, this many pictures and this many key frames without
anything new."""
KEYLESS_S = 600.0
"""The time alone after which it is frozen: some streams have no key frame after the first."""

_TILES = 8  # across and down
_SAMPLED_ROWS = 120
_REMEMBERED = 12
"""Pictures that count as seen: what a stuck stream repeats within two seconds, less than what a
clip repeats that is played over and over."""
_LEVELS = (16.0, 240.0)
"""Mean grey of a tile in which noise must show; beyond, a sensor is cut off."""
_STIRRING_SHARE = 1.0 / 16.0
"""Share of those tiles that may go on changing in a frozen picture: a clock that the camera writes
into it."""

_Prints = npt.NDArray[np.uint64]


class FreezeWatch:
    """Watches the pictures of one camera, one after another."""

    def __init__(self) -> None:
        self._seen = np.empty((0, _TILES * _TILES), np.uint64)
        self._weights = np.empty((0, 0), np.uint64)
        self._is_frozen = False
        self._pictures = 0
        self._news_s = 0.0
        self._news_key = 0
        self._news = 0
        self._repeats = 0

    def is_frozen(self, image: Image, now_s: float, key_frames: int | None) -> bool:
        """Return whether the picture has stopped.

        Args:
            image: (H, W, 3) uint8 BGR, in the order in which the camera took them.
            now_s: When it was taken, monotonic seconds.
            key_frames: How many key frames the stream has had up to this picture; None = each
                picture stands for itself.
        """
        rows = image[:: max(image.shape[0] // _SAMPLED_ROWS, 1)]
        self._pictures += 1
        key = self._pictures if key_frames is None else key_frames
        if self._has_news(rows):
            self._take_news(now_s, key)
        else:
            self._news = 0
            self._repeats += 1
            quiet_s = now_s - self._news_s
            has_stopped = self._repeats >= FROZEN_PICTURES and quiet_s >= FROZEN_S
            if has_stopped and (key - self._news_key >= FROZEN_KEY_FRAMES or quiet_s >= KEYLESS_S):
                self._is_frozen = True
        return self._is_frozen

    def _take_news(self, now_s: float, key: int) -> None:
        self._news += 1
        # An encoder changes its mind about a stuck picture now and then, for one key frame.
        is_back = 0 < key - self._news_key <= FROZEN_KEY_FRAMES or self._news >= FROZEN_PICTURES
        self._is_frozen = self._is_frozen and not is_back
        self._news_s, self._news_key, self._repeats = now_s, key, 0

    def _has_news(self, rows: Image) -> bool:
        prints = self._fingerprints(rows)
        if prints is None:
            return True  # too small to judge, and no camera's picture
        is_new = (self._seen != prints).all(axis=0)
        count = int(is_new.sum())
        if not count:
            return False
        self._seen = np.concatenate([self._seen[-_REMEMBERED + 1 :], prints[None]])
        if count > _STIRRING_SHARE * is_new.size:
            return True
        return count > _STIRRING_SHARE * _lit_tiles(rows)

    def _fingerprints(self, rows: Image) -> _Prints | None:
        """Return a number for each tile, uint64 (64,), which any change of a pixel changes."""
        words = rows.shape[1] * 3 // 8 // _TILES * _TILES
        count = rows.shape[0] // _TILES * _TILES
        if not words or not count:
            return None
        if self._weights.shape != (count, words):
            # Odd, so that no single difference of a pixel vanishes modulo 2^64.
            random = np.random.default_rng(0).integers(0, 2**63, (count, words), np.uint64)
            self._weights = random * np.uint64(2) + np.uint64(1)
            self._seen = np.empty((0, _TILES * _TILES), np.uint64)
        flat = np.ascontiguousarray(rows[:count].reshape(count, -1)[:, : words * 8])
        mixed = flat.view(np.uint64) * self._weights
        columns = mixed.reshape(_TILES, count // _TILES, words).sum(axis=1)
        return np.asarray(columns.reshape(_TILES * _TILES, words // _TILES).sum(axis=1))


def _lit_tiles(rows: Image) -> int:
    """Return in how many tiles a sensor's noise must show."""
    height, width = rows.shape[0] // _TILES * _TILES, rows.shape[1] // _TILES * _TILES
    green = rows[:height, :width, 1].reshape(_TILES, height // _TILES, _TILES, width // _TILES)
    levels = green.mean(axis=(1, 3))
    return int(((levels >= _LEVELS[0]) & (levels <= _LEVELS[1])).sum())
