"""A sash of a photographed window opened: turned, pushed up or slid aside."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from tools.opened.beyond import Floats, draw_beyond
from tools.opened.leaves import Leaf, Picture, box_corners
from tools.opened.turn import turn_leaf

_PARTS = {"all": 0.3, "left": 0.25, "right": 0.25, "lower": 0.2}
"""Which part of a window its sash is, and how often."""
_DAYLIGHT_FROM = 130.0
"""Grey level from which daylight is behind a pane: it is seen from inside."""
_OTHERS_FACE = 0.3
"""Of the sashes that are turned or stay, the share that get another window's face."""
_SLIDES = 0.4
"""Of the sashes at one side, how many slide."""


def open_window(
    leaf: Leaf,
    state: str,
    others: Sequence[Leaf],
    beyond: Sequence[Picture],
    random: np.random.Generator,
) -> Picture:
    """Return a window's picture, (H, W, 3) uint8, with a sash in a state."""
    is_day = float(np.median(_face(leaf))) > _DAYLIGHT_FROM and random.random() < 0.8
    part = str(random.choice(list(_PARTS), p=list(_PARTS.values())))
    sash = _sash(leaf, part, random)
    slides = part == "lower" or (part != "all" and random.random() < _SLIDES)
    if slides and state != "closed":
        share = random.uniform(0.08, 0.38) if state == "ajar" else random.uniform(0.6, 0.97)
        return _slid(sash, part, share, beyond, random, is_day=is_day)
    degrees = {"closed": 0.0, "ajar": random.uniform(10, 50), "open": random.uniform(65, 115)}
    other = others[random.integers(len(others))] if random.random() < _OTHERS_FACE else None
    hinge = part if part in ("left", "right") else ""
    return turn_leaf(sash, degrees[state], beyond, random, other=other, hinge=hinge, is_day=is_day)


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
) -> Floats:
    """Return what is seen through the opened part: another place, or the same without a pane.

    (H, W, 3) float32 as large as `face`, not yet cut to 0 to 255.
    """
    size = (face.shape[1], face.shape[0])
    if random.random() < 0.75:
        return draw_beyond(beyond, size, random, is_day=is_day)
    clear = (face.astype(np.float32) - float(face.min())) * (
        random.uniform(0.8, 1.6) * random.uniform(0.5, 1.2)
    )
    return np.asarray(cv2.GaussianBlur(clear, (0, 0), 0.04 * max(size)), np.float32)


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
