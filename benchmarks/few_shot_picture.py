"""Accuracy against corrections a class, a panel for each camera, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from train.shots import Shots

_PANEL_PX, _HEIGHT_PX, _LEFT_PX, _TOP_PX, _GAP_PX, _BOTTOM_PX = 210, 190, 46, 34, 26, 64
_STYLE = (
    "<style>svg{background:#fff}text{font:12px sans-serif;fill:#333}.grid{stroke:#e2e6ec}"
    "polyline{fill:none;stroke-width:2.5}.head{stroke:#2463be}.probe{stroke:#d3681b;"
    "stroke-dasharray:5 4}.alone{stroke:#8a94a3;stroke-dasharray:2 3}</style>"
)
_LINES = {"head": "what a device learns", "probe": "frozen probe", "alone": "the bundle alone"}
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def few_shot_chart(cameras: Mapping[str, Sequence[Shots]]) -> str:
    """Draw the figures of each camera by the number of examples a class."""
    width = _LEFT_PX + (_PANEL_PX + _GAP_PX) * len(cameras)
    height = _TOP_PX + _HEIGHT_PX + _BOTTOM_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f"<title>Balanced accuracy by corrections a class</title>{_STYLE}",
    ]
    for tick in _TICKS:
        y = _height(tick)
        parts.append(f'<text x="{_LEFT_PX - 6}" y="{y + 4}" text-anchor="end">{tick:.0%}</text>')
    for place, (name, rows) in enumerate(cameras.items()):
        parts += _panel(name, rows, _LEFT_PX + place * (_PANEL_PX + _GAP_PX))
    for place, (line, words) in enumerate(_LINES.items()):
        x, y = _LEFT_PX + 200 * place, height - 12
        parts.append(f'<polyline class="{line}" points="{x},{y - 4} {x + 30},{y - 4}"/>')
        parts.append(f'<text x="{x + 36}" y="{y}">{words}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name: str, rows: Sequence[Shots], left: int) -> list[str]:
    counted = [row for row in rows if row.shots is not None]
    most = max(row.shots for row in counted if row.shots is not None)
    parts = [f'<text x="{left}" y="20">{escape(name)}</text>']
    for tick in _TICKS:
        y = _height(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _PANEL_PX}" y1="{y}" y2="{y}"/>')

    def across(shots: int) -> float:
        return left + 10 + (_PANEL_PX - 20) * math.log(shots) / math.log(max(most, 2))

    for line in _LINES:
        points = " ".join(
            f"{across(row.shots):.1f},{_height(getattr(row, line).value):.1f}"
            for row in counted
            if row.shots is not None
        )
        parts.append(f'<polyline class="{line}" points="{points}"/>')
    for row in counted:
        if row.shots is not None:
            x, y = across(row.shots), _TOP_PX + _HEIGHT_PX + 18
            parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{row.shots}</text>')
    return parts


def _height(share: float) -> float:
    return _TOP_PX + _HEIGHT_PX * (1.0 - share)
