"""A sash of a photographed window opened: turned, pushed up or slid aside."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from tools.opened.beyond import draw_beyond
from tools.opened.leaves import Leaf, Picture, box_corners
from tools.opened.turn import turn_leaf

_PARTS = {"all": 0.3, "left": 0.25, "right": 0.25, "lower": 0.2}
"""Which part of a window its sash is, and how often."""
_BRIGHT = 130.0
"""Grey level from which daylight is behind a pane: it is seen from inside."""
_SLIDES = 0.4
"""Of the sashes at one side, how many slide."""


def open_window(
    leaf: Leaf,
    state: str,
    others: Sequence[Leaf],
    beyond: Sequence[Picture],
    random: np.random.Generator,
) -> Picture:
    """Return a window's picture with a sash in a state, or as it was photographed."""
    if state == "closed" and random.random() < 0.5:
        return leaf.picture
    is_day = float(np.median(_face(leaf))) > _BRIGHT and random.random() < 0.8
    part = str(random.choice(list(_PARTS), p=list(_PARTS.values())))
    sash = _sash(leaf, part, random)
    other = others[random.integers(len(others))]
    if state == "closed":
        is_other = random.random() < 0.5
        return turn_leaf(sash, 0.0, beyond, random, other=other if is_other else None)
    if part == "lower" or (part != "all" and random.random() < _SLIDES):
        share = random.uniform(0.08, 0.38) if state == "ajar" else random.uniform(0.6, 0.97)
        return _slid(sash, part, share, beyond, random, is_day=is_day)
    degrees = random.uniform(10, 50) if state == "ajar" else random.uniform(65, 115)
    is_other = random.random() < 0.15
    hinge = "" if part == "all" else part
    return turn_leaf(
        sash, degrees, beyond, random, other=other if is_other else None, hinge=hinge, is_day=is_day
    )


def _face(leaf: Leaf) -> Picture:
    """Return the part of the picture that a leaf covers."""
    left, top, right, bottom = leaf.box
    return leaf.picture[max(top, 0) : bottom, max(left, 0) : right]


def _sash(leaf: Leaf, part: str, random: np.random.Generator) -> Leaf:
    """Return a sash of a window, a little within its frame."""
    (left, top), (right, bottom) = leaf.corners.min(0), leaf.corners.max(0)
    rim = random.uniform(0.02, 0.07)
    wide, high = (right - left) * rim, (bottom - top) * rim
    left, top, right, bottom = left + wide, top + high, right - wide, bottom - high
    if part == "left":
        right = (left + right) / 2
    elif part == "right":
        left = (left + right) / 2
    elif part == "lower":
        top = (top + bottom) / 2
    return replace(leaf, corners=box_corners(left, top, right, bottom))


def _slid(
    sash: Leaf,
    part: str,
    share: float,
    beyond: Sequence[Picture],
    random: np.random.Generator,
    *,
    is_day: bool,
) -> Picture:
    """Return the picture with the sash slid over its neighbour by a share of its own length."""
    height, width = sash.picture.shape[:2]
    left, top, right, bottom = sash.box
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    face = _face(sash)
    drawn = sash.picture.copy()
    hole = drawn[top:bottom, left:right]
    hole[:] = np.clip(_seen(face, beyond, random, is_day=is_day), 0, 255)
    if random.random() < 0.6:  # the shadow of the frame
        rows = max(1, int(0.03 * (bottom - top)))
        hole[:rows] = (hole[:rows] * 0.6).astype(np.uint8)
    lit = np.clip(face * 2 ** random.uniform(-0.3, 0.2), 0, 255).astype(np.uint8)
    if random.random() < 0.7:
        _draw_rail(lit, part, random)
    along = int(share * (bottom - top if part == "lower" else right - left))
    across = {"lower": (0, -along), "left": (along, 0), "right": (-along, 0)}[part]
    x, y = left + across[0], top + across[1]
    # What goes beyond the picture is cut off.
    shown = lit[max(-y, 0) : height - y, max(-x, 0) : width - x]
    drawn[max(y, 0) :, max(x, 0) :][: shown.shape[0], : shown.shape[1]] = shown
    return drawn


def _seen(
    face: Picture, beyond: Sequence[Picture], random: np.random.Generator, *, is_day: bool
) -> np.ndarray:
    """Return what is seen through the opened part: another place, or the same without a pane."""
    size = (face.shape[1], face.shape[0])
    if random.random() < 0.75:
        return draw_beyond(beyond, size, random, is_day=is_day)
    clear = (face - float(face.min())) * (random.uniform(0.8, 1.6) * random.uniform(0.5, 1.2))
    return cv2.GaussianBlur(clear, (0, 0), 0.04 * max(size))


def _draw_rail(face: Picture, part: str, random: np.random.Generator) -> None:
    """Draw the rail at the end of a sash that uncovers the opening."""
    thick = max(1, int(0.02 * max(face.shape[:2])))
    colour = np.clip(np.median(face, axis=(0, 1)) * random.uniform(0.3, 1.5), 0, 255)
    rail = {
        "lower": np.s_[-thick:, :],
        "left": np.s_[:, :thick],
        "right": np.s_[:, -thick:],
    }[part]
    face[rail] = colour
