"""Charts as inline SVG. Colours are CSS variables of the page, so that they follow its theme."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 24, 14, 44
_LETTER = 6.3  # pixels, about the width of a letter of a name
_SERIES_COLOURS = 6  # the page defines --series-0 to --series-5


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share, 0 to 1, as a person reads it; a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def reliability_chart(bins: Sequence[tuple[float, float, int]]) -> str:
    """Draw how often a network is right against how sure it was.

    Args:
        bins: Mean confidence, share of right answers (both 0 to 1) and rows, for each bin that
            holds a row.
    """
    most = max((rows for _, _, rows in bins), default=1)
    marks = [f'<line class="ideal" {_ends(_at(0, 0), _at(1, 1))}/>']
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_at(c, a) for c, a, _ in bins))
    marks.append(f'<polyline class="line" style="stroke:var(--series-0)" points="{path}"/>')
    for confidence, right, rows in bins:
        x, y = _at(confidence, right)
        radius = 3.0 + 8.0 * math.sqrt(rows / most)
        title = f"{rows} pictures: {percent(confidence)} sure, {percent(right)} right"
        marks.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
            f"<title>{title}</title></circle>"
        )
    ticks = [(share, percent(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    axes = _axes(ticks, ticks, (0.0, 1.0), (0.0, 1.0), "how sure it was", "how often it was right")
    return _svg("Reliability: sureness against share of right answers", axes + marks)


def coverage_chart(
    curve: Points,
    bands: Sequence[tuple[float, float, float]],
    working: tuple[float, float] | None,
) -> str:
    """Draw how often a network is right against the share of pictures that it answers.

    Args:
        curve: Coverage and accuracy, both 0 to 1, by rising coverage.
        bands: Coverage, low and high end of the accuracy's interval there.
        working: Coverage and accuracy with the thresholds that a device uses.
    """
    ys = [y for _, y in curve] + [end for _, *ends in bands for end in ends]
    ys += [] if working is None else [working[1]]
    y_ticks = _round_ticks(min(*ys, 0.9), 1.0)
    up = (y_ticks[0], y_ticks[-1])
    marks = []
    if bands:
        lower = [_at(x, _share(low, up)) for x, low, _ in bands]
        upper = [_at(x, _share(high, up)) for x, _, high in reversed(bands)]
        area = " ".join(f"{x:.1f},{y:.1f}" for x, y in lower + upper)
        marks.append(f'<polygon class="band" points="{area}"/>')
    path = " ".join("{:.1f},{:.1f}".format(*_at(x, _share(y, up))) for x, y in curve)
    marks.append(f'<polyline class="line" style="stroke:var(--series-0)" points="{path}"/>')
    if working is not None:
        x, y = _at(working[0], _share(working[1], up))
        title = f"answers {percent(working[0], 1)}, right in {percent(working[1], 1)} of these"
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" style="fill:var(--series-1)">'
            f"<title>{title}</title></circle>"
        )
    x_ticks = [(share, percent(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    shown = [(tick, percent(tick, _digits(y_ticks))) for tick in y_ticks]
    axes = _axes(x_ticks, shown, (0.0, 1.0), up, "share of pictures answered", "right of these")
    return _svg("Accuracy against the share of pictures answered", axes + marks)


def line_chart(series: Mapping[str, Points], x_label: str, *, is_share: bool = False) -> str:
    """Draw curves over a common axis, with a legend below.

    Args:
        series: (x, y) points by name; points that are not finite are left out.
        x_label: What x counts.
        is_share: y is a share and shown as percent.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    xs = [x for points in finite.values() for x, _ in points]
    ys = [y for points in finite.values() for _, y in points]
    if not xs:
        return ""
    across = (min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    y_ticks = _round_ticks(min(ys), max(ys))
    up = (y_ticks[0], y_ticks[-1])
    x_ticks = [tick for tick in _round_ticks(*across, whole=True) if across[0] <= tick <= across[1]]
    marks = []
    for index, points in enumerate(finite.values()):
        path = " ".join(
            "{:.1f},{:.1f}".format(*_at(_share(x, across), _share(y, up))) for x, y in points
        )
        colour = f"var(--series-{index % _SERIES_COLOURS})"
        marks.append(f'<polyline class="line" style="stroke:{colour}" points="{path}"/>')
        if points:
            x, y = _at(_share(points[-1][0], across), _share(points[-1][1], up))
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill:{colour}"/>')
    shown = [(tick, percent(tick) if is_share else f"{tick:g}") for tick in y_ticks]
    axes = _axes([(tick, f"{tick:g}") for tick in x_ticks], shown, across, up, x_label, "")
    legend = "".join(
        f'<li><i style="background:var(--series-{index % _SERIES_COLOURS})"></i>{escape(name)}</li>'
        for index, name in enumerate(finite)
    )
    return _svg(", ".join(finite), axes + marks) + f'<ul class="legend">{legend}</ul>'


@dataclass(frozen=True)
class Dot:
    """One point of a `dot_chart`.

    Attributes:
        x: Where, along the axis.
        y: Where, up.
        interval: Low and high end in y, or None.
        name: Written beside it, where not empty.
        title: Said when the mouse rests on it.
        colour: Number of the series' colour.
        is_faint: Drawn lightly.
    """

    x: float
    y: float
    interval: tuple[float, float] | None = None
    name: str = ""
    title: str = ""
    colour: int = 0
    is_faint: bool = False


def dot_chart(
    dots: Sequence[Dot],
    x_label: str,
    y_label: str,
    *,
    path: Points = (),
    is_log: bool = False,
    is_share: bool = False,
    x_names: Mapping[float, str] | None = None,
) -> str:
    """Draw points with their intervals, and a line through some places.

    Args:
        dots: The points.
        x_label: What x counts.
        y_label: What y counts.
        path: (x, y) places that a dashed line joins.
        is_log: x grows by factors; every x must be above 0.
        is_share: y is a share and shown as percent.
        x_names: Where x is no number: the name at each place.
    """
    if not dots:
        return ""
    scale = math.log10 if is_log else float
    ys = [end for dot in dots for end in (dot.interval or (dot.y, dot.y))]
    y_ticks = _round_ticks(min(ys), max(ys))
    up = (y_ticks[0], y_ticks[-1])
    x_ticks = _x_ticks([dot.x for dot in dots], is_log, x_names)
    xs = [scale(value) for value in (*(dot.x for dot in dots), *(value for value, _ in x_ticks))]
    across = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    # Points on the frame itself would be cut in half, and names below them would not fit.
    room = (0.06 if x_names is None else 0.15) * (across[1] - across[0])
    across = (across[0] - room, across[1] + room)
    places = [_at(_share(scale(x), across), _share(y, up)) for x, y in path]
    marks = []
    if places:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks.append(f'<polyline class="ideal" fill="none" points="{line}"/>')
    taken: list[tuple[float, float, float]] = []
    for dot in dots:
        marks += _dot_marks(dot, _share(scale(dot.x), across), up)
    for dot in reversed(dots):  # what lies on top has the first choice of place
        marks += _name_marks(dot, _share(scale(dot.x), across), up, taken)
    shown = [
        (tick, percent(tick, _digits(y_ticks)) if is_share else f"{tick:g}") for tick in y_ticks
    ]
    scaled = [(scale(value), text) for value, text in x_ticks]
    return _svg(y_label, _axes(scaled, shown, across, up, x_label, y_label) + marks)


def _dot_marks(dot: Dot, x_share: float, up: tuple[float, float]) -> list[str]:
    x, y = _at(x_share, _share(dot.y, up))
    opacity = ' style="opacity:.35"' if dot.is_faint else ""
    marks = [f"<g{opacity}>"]
    if dot.interval is not None:
        low, high = (_at(x_share, _share(end, up))[1] for end in dot.interval)
        marks.append(f'<line class="spread" {_ends((x, low), (x, high))}/>')
    colour = f"var(--series-{dot.colour % _SERIES_COLOURS})"
    marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:{colour}">')
    return [*marks, f"<title>{escape(dot.title)}</title></circle></g>"]


def _name_marks(
    dot: Dot, x_share: float, up: tuple[float, float], taken: list[tuple[float, float, float]]
) -> list[str]:
    """Write a name beside its point, or a little below or above where another is in the way."""
    if not dot.name:
        return []
    x, y = _at(x_share, _share(dot.y, up))
    width = _LETTER * len(dot.name)
    is_left = x + 9 + width > _WIDTH - _RIGHT
    first = x - 9 - width if is_left else x + 9
    if first < _LEFT:
        return []  # no room on either side; the title says it still
    for shift in (4, 17, -9, 30, -22):  # farther away it would seem to be another's
        at = y + shift
        if all(abs(at - other) > 12 or first > end or first + width < start
               for start, end, other in taken):  # fmt: skip
            break
    else:
        return []  # the title says it still
    taken.append((first, first + width, at))
    side, anchor = (x - 9, "end") if is_left else (x + 9, "start")
    return [
        f'<text class="name" x="{side:.1f}" y="{at:.1f}" text-anchor="{anchor}">'
        f"{escape(dot.name)}</text>"
    ]


def _x_ticks(
    values: Sequence[float], is_log: bool, names: Mapping[float, str] | None
) -> list[tuple[float, str]]:
    if names is not None:
        return list(names.items())
    if not is_log:
        return [(tick, f"{tick:g}") for tick in _round_ticks(min(values), max(values))]
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    fine = last - first < 3
    ticks = [f * 10.0**e for e in range(first, last + 1) for f in ((1, 2, 5) if fine else (1,))]
    inside = [tick for tick in ticks if min(values) / 2 <= tick <= max(values) * 2]
    return [(tick, f"{tick:g}") for tick in inside or ticks]


def _digits(ticks: Sequence[float]) -> int:
    """How many digits percent need, so that no two ticks look alike."""
    step = 100 * (ticks[1] - ticks[0])
    return next((digits for digits in range(3) if math.isclose(step, round(step, digits))), 3)


def interval_bar(value: float, interval: tuple[float, float] | None) -> str:
    """Draw a share as a bar, 0 to 1, with its interval as a whisker."""
    parts = [
        '<rect class="track" x="0" y="6" width="200" height="8" rx="4"/>',
        f'<rect class="fill" x="0" y="6" width="{200 * value:.1f}" height="8" rx="4"/>',
    ]
    if interval is not None:
        low, high = (200 * end for end in interval)
        parts += [
            f'<line class="whisker" {_ends((low, 10), (high, 10))}/>',
            f'<line class="whisker" {_ends((low, 5), (low, 15))}/>',
            f'<line class="whisker" {_ends((high, 5), (high, 15))}/>',
        ]
    return (
        '<svg class="bar" viewBox="-2 0 204 20" preserveAspectRatio="none" aria-hidden="true">'
        + "".join(parts)
        + "</svg>"
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _at(x: float, y: float) -> tuple[float, float]:
    """Pixels of a place given as shares of the plot's width and height."""
    return (
        _LEFT + x * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM),
    )


def _axes(
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    across: tuple[float, float],
    up: tuple[float, float],
    x_label: str,
    y_label: str,
) -> list[str]:
    parts = []
    for value, text in y_ticks:
        left, y = _at(0, _share(value, up))
        parts.append(f'<line class="grid" {_ends((left, y), (_WIDTH - _RIGHT, y))}/>')
        parts.append(f'<text class="tick" x="{left - 8:.0f}" y="{y + 4:.1f}" text-anchor="end">')
        parts.append(f"{text}</text>")
    for value, text in x_ticks:
        x, y = _at(_share(value, across), 0)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">')
        parts.append(f"{text}</text>")
    middle_x, middle_y = _at(0.5, 0)[0], _at(0, 0.5)[1]
    parts.append(f'<text class="label" x="{middle_x:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">')
    parts.append(f"{escape(x_label)}</text>")
    if y_label:
        parts.append(
            f'<text class="label" transform="translate(12 {middle_y:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )
    return parts


def _ends(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'


def _share(value: float, span: tuple[float, float]) -> float:
    return (value - span[0]) / (span[1] - span[0])


def _round_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About five round numbers that enclose low to high."""
    rough = max(high - low, 1e-3) / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(f * scale for f in (1, 2, 2.5, 5, 10) if f * scale >= rough * 0.999)
    if whole:
        step = max(1.0, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]
