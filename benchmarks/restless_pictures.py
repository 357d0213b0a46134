"""What makes a picture move all the time without anything happening in it.

Each function here takes a frame and its time, and returns the frame as such a camera would see it:
under trees in the wind, on a pole that shakes, in rain, at night with the gain turned up.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""A frame, (H, W, 3) BGR."""
Disturb = Callable[[Image, float], Image]
"""From a frame and its seconds to the frame as it is seen then."""

_SEED = 77


def trees(frame: Image, now_s: float) -> Image:
    """Shadows of leaves, blots of some 20 pixels, sway over all of it by some 8 pixels."""
    height, width = frame.shape[:2]
    blots = np.random.default_rng(_SEED).normal(size=(height + 64, width + 64)).astype(np.float32)
    blots = cv2.GaussianBlur(blots, (0, 0), 10.0)
    shade = np.asarray(1.0 - 0.4 * (blots > 0.5 * blots.std()), np.float32)
    gust = 0.6 + 0.4 * np.sin(now_s / 5.0)
    right, down = gust * 8.0 * np.sin(now_s * 2.1), gust * 3.0 * np.sin(now_s * 3.3 + 1.0)
    moved = cv2.warpAffine(
        shade, np.float32([[1, 0, right - 32], [0, 1, down - 32]]), (width, height)
    )
    return _clipped(frame * moved[..., None])


def shaken(frame: Image, now_s: float) -> Image:
    """The camera shakes by some 2 pixels to all sides."""
    height, width = frame.shape[:2]
    right = 2.0 * np.sin(now_s * 7.3) + np.sin(now_s * 17.9)
    down = 1.5 * np.sin(now_s * 9.1 + 2.0) + np.sin(now_s * 23.3)
    move = np.float32([[1, 0, right], [0, 1, down]])
    seen = cv2.warpAffine(frame, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.uint8)


def rain(frame: Image, now_s: float) -> Image:
    """A few hundred bright streaks, others in every frame."""
    height, width = frame.shape[:2]
    random = np.random.default_rng([_SEED, round(now_s * 1000)])
    streaks = frame.copy()
    for x, y, length in random.integers((0, 0, 10), (width, height, 30), (250, 3)).tolist():
        cv2.line(streaks, (x, y), (x + length // 6, y + length), (225, 225, 225), 1, cv2.LINE_AA)
    return np.asarray(cv2.addWeighted(streaks, 0.6, frame, 0.4, 0.0), np.uint8)


def night(frame: Image, now_s: float) -> Image:
    """Grey and dim, with grain that is as strong as a cheap camera's at full gain."""
    random = np.random.default_rng([_SEED, round(now_s * 1000)])
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    grain = cv2.GaussianBlur(random.normal(0.0, 40.0, grey.shape), (0, 0), 1.0)
    return cv2.cvtColor(_clipped(0.5 * grey + grain), cv2.COLOR_GRAY2BGR)


def still(frame: Image, now_s: float) -> Image:
    """Nothing: the frame as it is."""
    return frame


DISTURBANCES: dict[str, Disturb] = {
    "still": still, "trees": trees, "shaken": shaken, "rain": rain, "night": night
}  # fmt: skip


def _clipped(values: npt.NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(values, 0.0, 255.0), np.uint8)
