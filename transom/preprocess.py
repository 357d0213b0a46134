"""Steps that may be done to every crop before the network sees it, by name.

A recipe lists the steps it wants, a bundle's manifest lists those its network was trained with,
and trainer and device call `preprocess` with that list. A name has no settings and never changes
its meaning: a stronger step is another name. A reader that does not know a name refuses the
bundle.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

Crop = npt.NDArray[np.uint8]

Step = Literal["gaussian", "median", "bilateral", "sharpen", "clahe", "brighten"]
"""What a step can be called."""

Steps = Annotated[tuple[Step, ...], Meta(max_length=8)]
"""Steps in their order, as a recipe and a manifest list them."""

_BRIGHTER = np.round(255.0 * (np.arange(256) / 255.0) ** 0.6).astype(np.uint8)


def preprocess(crop: Crop, steps: Sequence[Step]) -> Crop:
    """Do steps to a crop, in their order.

    Args:
        crop: (S, S, 3) uint8 BGR; left as it is.
        steps: Their names; none gives the crop itself.

    Returns:
        (S, S, 3) uint8 BGR.

    Raises:
        ValueError: A step has no such name, or the crop is not as described.

    Examples:
        >>> crop = np.zeros((16, 16, 3), np.uint8)
        >>> crop[8, 8] = 255
        >>> int(preprocess(crop, ["median"]).max())
        0
    """
    if not steps:
        return crop
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3:
        raise ValueError(f"crop must be (S, S, 3) uint8, got {crop.shape} {crop.dtype}")
    for step in steps:
        if step not in _STEPS:
            raise ValueError(
                f"preprocessing step must be one of {', '.join(get_args(Step))}, got {step!r}"
            )
        crop = np.ascontiguousarray(_STEPS[step](crop), np.uint8)
    return crop


def _gaussian(crop: Crop) -> Crop:
    """Smooth with a 3x3 Gaussian: sensor noise."""
    return np.asarray(cv2.GaussianBlur(crop, (3, 3), 0), np.uint8)


def _median(crop: Crop) -> Crop:
    """Take the median of 3x3 pixels: single wrong pixels and rain, edges stay."""
    return np.asarray(cv2.medianBlur(crop, 3), np.uint8)


def _bilateral(crop: Crop) -> Crop:
    """Average alike pixels of 5x5: noise at night, edges stay; the dearest step."""
    return np.asarray(cv2.bilateralFilter(crop, 5, 30.0, 2.0), np.uint8)


def _sharpen(crop: Crop) -> Crop:
    """Add half of the difference to a smoothed crop: a lens out of focus, a soft codec."""
    smooth = cv2.GaussianBlur(crop, (5, 5), 0)
    return np.asarray(cv2.addWeighted(crop, 1.5, smooth, -0.5, 0.0), np.uint8)


def _clahe(crop: Crop) -> Crop:
    """Even out the contrast of lightness in 4x4 tiles, limited to twice: backlight, fog.

    References:
        Zuiderveld, Contrast Limited Adaptive Histogram Equalization, Graphics Gems IV, 1994.
    """
    lab = cv2.cvtColor(crop, cv2.COLOR_BGR2LAB)
    lab[:, :, 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4)).apply(lab[:, :, 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR), np.uint8)


def _brighten(crop: Crop) -> Crop:
    """Lift the shadows by a gamma of 0.6: dim rooms."""
    return np.asarray(cv2.LUT(crop, _BRIGHTER), np.uint8)


_STEPS: Mapping[str, Callable[[Crop], Crop]] = {
    "gaussian": _gaussian,
    "median": _median,
    "bilateral": _bilateral,
    "sharpen": _sharpen,
    "clahe": _clahe,
    "brighten": _brighten,
}
