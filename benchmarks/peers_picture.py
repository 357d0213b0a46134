"""Named horizontal bars with intervals, as SVG."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_ROW_PX, _NAMES_PX, _BARS_PX, _FIGURES_PX, _TITLE_PX = 22, 330, 420, 60, 34
_STYLE = (
    "<style>svg{background:#fff}text{font:12px sans-serif;fill:#333}.ours{fill:#2463be}"
    ".theirs{fill:#a9b4c2}.spread{stroke:#333}.one{stroke:#2463be;stroke-dasharray:4 4}</style>"
)


class Bar(NamedTuple):
    """One bar.

    Attributes:
        name: Written before it.
        value: Its length, above 0.
        interval: Low and high end of the value.
        is_ours: Drawn in the colour that stands out.
    """

    name: str
    value: float
    interval: tuple[float, float]
    is_ours: bool


def bar_chart(bars: Sequence[Bar], title: str) -> str:
    """Draw bars below each other, with a line at 1."""
    if not bars:
        return ""
    scale = _BARS_PX / max(bar.interval[1] for bar in bars)
    width = _NAMES_PX + _BARS_PX + _FIGURES_PX
    height = _TITLE_PX + _ROW_PX * len(bars) + 10
    one = _NAMES_PX + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f"<title>{escape(title)}</title>{_STYLE}",
        f'<text x="{_NAMES_PX}" y="20">{escape(title)}</text>',
    ]
    for row, bar in enumerate(bars):
        parts += _bar(bar, _TITLE_PX + _ROW_PX * row, scale)
    parts.append(
        f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{_TITLE_PX}" y2="{height}"/>'
    )
    return "\n".join([*parts, "</svg>"])


def _bar(bar: Bar, top: int, scale: float) -> list[str]:
    middle = top + _ROW_PX // 2
    low, high = (_NAMES_PX + scale * end for end in bar.interval)
    colour = "ours" if bar.is_ours else "theirs"
    return [
        f'<text x="{_NAMES_PX - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect class="{colour}" x="{_NAMES_PX}" y="{top + 4}" width="{scale * bar.value:.1f}" '
        f'height="{_ROW_PX - 8}"/>',
        f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{high + 6:.1f}" y="{middle + 4}">{bar.value:.2f}</text>',
    ]
