"""What doors and sashes look like: flat, panelled, glazed, louvred, barred, of planks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tools.render_rooms import surfaces
from tools.render_rooms.parts import Part, box
from tools.render_rooms.surfaces import Surface

Random = np.random.Generator
Span = tuple[float, float]

DESIGNS = ("flat", "panels", "half_glazed", "glazed", "louvred", "barred", "planks")


@dataclass(frozen=True)
class Look:
    """What the leaves of one opening have in common.

    Attributes:
        design: one of `DESIGNS`, or `sash` for a window's.
        surface: of the leaf.
        fill: of its panels or panes.
        metal: of handles and hinges.
        columns: panels or panes side by side.
        rows: and one above the other.
        stile: width of the members around them in metres.
        handle: `lever`, `knob`, `pull` or `latch`.
        handle_z: height of the handle as a share of the leaf.
        extra: `curtain`, `poster`, `coat` or nothing, on the leaf.
        cloth: of what hangs on it.
        thickness: of the leaf in metres.
    """

    design: str
    surface: Surface
    fill: Surface
    metal: Surface
    columns: int
    rows: int
    stile: float
    handle: str
    handle_z: float
    extra: str
    cloth: Surface
    thickness: float


def draw_look(random: Random, *, is_window: bool) -> Look:
    """Draw what a leaf looks like."""
    design = (
        "sash"
        if is_window
        else str(random.choice(DESIGNS, p=[0.3, 0.24, 0.1, 0.14, 0.04, 0.06, 0.12]))
    )
    surface = surfaces.joinery(random)
    fill = surface if random.random() < 0.8 else surfaces.joinery(random)
    if design in ("half_glazed", "glazed", "sash"):
        fill = surfaces.glass(random, may_be_frosted=not is_window or random.random() < 0.2)
    elif design == "barred":
        surface = surfaces.metal(random) if random.random() < 0.5 else surface
    extra = ""
    if not is_window and random.random() < 0.22:
        extra = str(random.choice(["poster", "coat"]))
    if design in ("glazed", "half_glazed") and random.random() < 0.3:
        extra = "curtain"
    return Look(
        design,
        surface,
        fill,
        surfaces.metal(random),
        columns=int(random.choice([1, 2, 3], p=[0.4, 0.45, 0.15])),
        rows=int(random.choice([1, 2, 3, 5], p=[0.25, 0.3, 0.3, 0.15])),
        stile=random.uniform(0.035, 0.07) if is_window else random.uniform(0.08, 0.14),
        handle="latch"
        if is_window
        else str(random.choice(["lever", "knob", "pull"], p=[0.6, 0.22, 0.18])),
        handle_z=random.uniform(0.45, 0.55),
        extra=extra,
        cloth=surfaces.fabric(random),
        thickness=random.uniform(0.035, 0.055),
    )


def leaf_parts(look: Look, width: float, height: float) -> list[Part]:
    """Build a leaf: x from its hinge (0) to `width`, y from its front (0), z from its foot (0)."""
    if look.design == "flat":
        parts = [box((0, width), (0, look.thickness), (0, height), look.surface)]
    elif look.design == "planks":
        parts = _planks(look, width, height)
    else:
        parts = _framed(look, width, height)
    return [*parts, *_handle(look, width, height), *_extra(look, width, height)]


def _framed(look: Look, width: float, height: float) -> list[Part]:
    """Stiles and rails around fields; what fills the fields depends on the design."""
    stile = min(look.stile, 0.18 * width)
    foot = stile * (1.0 if look.design == "sash" else 1.7)
    bar = stile * (0.5 if look.design in ("sash", "glazed") else 0.9)
    columns = _spans((stile, width - stile), _columns(look, width), bar)
    low = (foot, height - stile)
    if look.design == "half_glazed":
        middle = height * 0.46
        rows = [(foot, middle), *_spans((middle + bar, height - stile), max(look.rows - 1, 1), bar)]
    else:
        rows = _spans(low, _rows(look), bar)
    parts = _members(look, width, height, columns, rows)
    for number, row in enumerate(rows):
        filler = _FILLERS.get(look.design, _panel)
        if look.design == "half_glazed" and number == 0:
            filler = _panel
        for column in columns:
            parts += filler(look, column, row)
    return parts


def _columns(look: Look, width: float) -> int:
    if look.design in ("louvred", "barred"):
        return 1
    return 1 if width < 0.55 and look.design != "sash" else look.columns


def _rows(look: Look) -> int:
    return 1 if look.design == "barred" else min(look.rows, 3 if look.design == "sash" else 5)


def _spans(whole: Span, count: int, gap: float) -> list[Span]:
    step = (whole[1] - whole[0] + gap) / count
    return [(whole[0] + i * step, whole[0] + (i + 1) * step - gap) for i in range(count)]


def _members(
    look: Look, width: float, height: float, columns: list[Span], rows: list[Span]
) -> list[Part]:
    """Everything of the leaf between and around its fields, without overlaps."""
    depth = (0.0, look.thickness)
    edges = [0.0, *[x for column in columns for x in column], width]
    parts = [
        box((edges[i], edges[i + 1]), depth, (0, height), look.surface)
        for i in range(0, len(edges), 2)
    ]
    heights = [0.0, *[z for row in rows for z in row], height]
    for column in columns:
        parts += [
            box(column, depth, (heights[i], heights[i + 1]), look.surface)
            for i in range(0, len(heights), 2)
        ]
    return parts


def _panel(look: Look, x: Span, z: Span) -> list[Part]:
    t = look.thickness
    solid = look.surface if look.fill.kind in ("glass", "frosted") else look.fill
    parts = [box(x, (0.35 * t, 0.65 * t), z, solid)]
    edge = 0.035
    if x[1] - x[0] > 3 * edge and z[1] - z[0] > 3 * edge:
        inner = (x[0] + edge, x[1] - edge), (z[0] + edge, z[1] - edge)
        parts.append(box(inner[0], (0.12 * t, 0.88 * t), inner[1], solid))
    return parts


def _pane(look: Look, x: Span, z: Span) -> list[Part]:
    middle = look.thickness / 2
    return [box(x, (middle - 0.002, middle + 0.002), z, look.fill)]


def _slats(look: Look, x: Span, z: Span) -> list[Part]:
    count = max(int((z[1] - z[0]) / 0.05), 2)
    step = (z[1] - z[0]) / count
    middle = ((x[0] + x[1]) / 2, look.thickness / 2)
    return [
        Part(
            "box",
            (*middle, z[0] + (i + 0.5) * step),
            (x[1] - x[0], look.thickness * 1.1, 0.008),
            look.fill,
            lean=40.0,
        )
        for i in range(count)
    ]


def _bars(look: Look, x: Span, z: Span) -> list[Part]:
    count = max(int((x[1] - x[0]) / 0.11), 3)
    step = (x[1] - x[0]) / count
    return [
        Part(
            "cylinder",
            (x[0] + (i + 0.5) * step, look.thickness / 2, (z[0] + z[1]) / 2),
            (0.022, 0.022, z[1] - z[0]),
            look.surface,
        )
        for i in range(count)
    ]


_FILLERS: dict[str, Callable[[Look, Span, Span], list[Part]]] = {
    "glazed": _pane,
    "half_glazed": _pane,
    "sash": _pane,
    "louvred": _slats,
    "barred": _bars,
}


def _planks(look: Look, width: float, height: float) -> list[Part]:
    """Upright boards with grooves, on a core; ledges across on some."""
    t = look.thickness
    boards = _spans((0.0, width), max(round(width / 0.12), 3), 0.007)
    parts = [box(board, (0, t), (0, height), look.surface) for board in boards]
    parts.append(
        box((0.002, width - 0.002), (0.25 * t, 0.75 * t), (0.002, height - 0.002), look.fill)
    )
    if look.rows > 2:
        for share in (0.12, 0.5, 0.86):
            z = (share * height - 0.06, share * height + 0.06)
            parts.append(box((0.03, width - 0.03), (-0.02, 0.0), z, look.surface))
    return parts


def _handle(look: Look, width: float, height: float) -> list[Part]:
    x, z = width - 0.06, height * look.handle_z
    if look.handle == "latch":
        return [box((width - 0.035, width - 0.015), (-0.04, 0.0), (z - 0.07, z + 0.05), look.metal)]
    parts = []
    for side in (-1.0, 1.0):
        face = 0.0 if side < 0 else look.thickness
        grip = face + side * 0.05
        plate = face, face + side * 0.006
        parts.append(box((x - 0.02, x + 0.02), plate, (z - 0.11, z + 0.06), look.metal))
        if look.handle == "lever":
            parts.append(
                box((x - 0.13, x + 0.01), (grip, grip - side * 0.015), (z, z + 0.02), look.metal)
            )
            parts.append(box((x - 0.008, x + 0.008), (face, grip), (z, z + 0.02), look.metal))
        elif look.handle == "knob":
            parts.append(Part("ellipsoid", (x, grip, z), (0.06, 0.06, 0.06), look.metal))
        else:
            parts.append(Part("cylinder", (x, grip, z), (0.025, 0.025, 0.35), look.metal))
    return parts


def _extra(look: Look, width: float, height: float) -> list[Part]:
    middle = width / 2
    if look.extra == "poster":
        x, z = (middle - 0.16 * width, middle + 0.2 * width), (0.6 * height, 0.78 * height)
        return [box(x, (-0.004, 0.0), z, look.cloth)]
    if look.extra == "coat":
        size = (0.3 * width, 0.09, 0.42 * height)
        return [
            Part("curtain", (middle, -0.055, 0.58 * height), size, look.cloth),
            Part(
                "ellipsoid",
                (middle, -0.05, 0.74 * height),
                (0.3 * width, 0.08, 0.12 * height),
                look.cloth,
            ),
        ]
    if look.extra == "curtain":
        foot, top = (0.3 if look.design == "glazed" else 0.52) * height, 0.94 * height
        size = (width - 2 * look.stile, 0.02, top - foot)
        return [Part("curtain", (middle, -0.015, (top + foot) / 2), size, look.cloth)]
    return []
