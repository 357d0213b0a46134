"""The page of a comparison: plot, table, and the answers in plain words."""

from html import escape
from pathlib import Path
from typing import Any

from export.compare import Judgement
from export.verdict import answers, basis, headline
from train.charts import Dot, dot_chart, percent
from train.noise import Interval
from train.page import answer_section, write_page

_CHOICE, _SINGLE = 1, 5  # colours of the series
_GAINS = ["Δm", "Δm at cost"]


def write_comparison(path: Path, judgement: Judgement, title: str) -> None:
    """Write the page.

    Args:
        path: The file; replaced whole.
        judgement: What was compared.
        title: What it is about.

    Raises:
        OSError: The file cannot be written.
    """
    write_page(
        path,
        title=title,
        headline=escape(headline(judgement)),
        basis=escape(basis(judgement)),
        body=[_plot(judgement), _table(judgement), answer_section(answers(judgement))],
    )


def _plot(judgement: Judgement) -> str:
    comparison, draws = judgement.comparison, judgement.comparison.draws
    timed = all(ms is not None for ms in judgement.int8_ms)
    accuracy = draws.means_of_tasks
    dots = []
    for place, row in enumerate(comparison.rows):
        ms = judgement.int8_ms[place]
        x = ms if timed and ms is not None else row.cost.macs / 1e6
        is_choice = place == judgement.choice
        on_front = place in judgement.front
        dots.append(
            Dot(
                x=x,
                y=float(accuracy[place]),
                interval=draws.interval_of_share(draws.of_tasks[:, place]),
                name=row.variant.name if is_choice or on_front or row.variant.is_single else "",
                title=f"{row.variant.name}: {percent(float(accuracy[place]), 1)}, {x:.2f}",
                colour=_CHOICE if is_choice else _SINGLE if row.variant.is_single else 0,
                is_faint=not (on_front or is_choice or row.variant.is_single),
            )
        )
    front = [(dots[place].x, dots[place].y) for place in judgement.front] if timed else []
    chart = dot_chart(
        sorted(dots, key=lambda dot: dot.colour == _CHOICE),  # the choice lies on top
        "INT8 latency, ms a crop" if timed else "multiply-accumulates, millions",
        "accuracy, mean of the tasks" if len(comparison.tasks) > 1 else "accuracy",
        path=front,
        is_log=True,
        is_share=True,
    )
    return (
        '<section><h2>What accuracy costs</h2><p class="quiet">Higher and further left is better; '
        "the dashed line joins what no other beats at its cost. Lines are 95 % intervals over "
        "groups and seeds. Orange: the one to take; grey: single-task networks; pale: beaten at "
        f'its cost.</p><div class="card"><div class="middle">{chart}</div></div></section>'
    )


def _table(judgement: Judgement) -> str:
    tasks = judgement.comparison.tasks
    head = ["", *(f"{escape(task)}" for task in tasks)]
    head += ["mean"] if len(tasks) > 1 else []
    head += _GAINS if len(tasks) > 1 else []
    head += ["parameters", "MACs", "INT8", "training"]
    cells = "".join(f'<th class="number">{text}</th>' if text else "<th></th>" for text in head)
    lines = "".join(_line(line, tasks) for line in judgement.table())
    gains = (
        " Δm: mean relative gain over a network for each task, each as large as the shared one; "
        "Δm at cost: over networks on smaller crops that together cost what the shared one does."
        if len(tasks) > 1
        else ""
    )
    return (
        '<section><h2>Side by side</h2><p class="quiet">The most accurate first. Ranges are 95 % '
        "intervals over groups and seeds; rows in grey are behind the best by more than chance."
        f"{gains} MACs: multiply-accumulates for one crop. INT8: latency of one crop.</p>"
        f'<div class="card"><div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></div></section>"
    )


def _line(line: dict[str, Any], tasks: tuple[str, ...]) -> str:
    found = [line["tasks"][task] for task in tasks]
    cells = [_share(task["accuracy"], task["interval"]) for task in found]
    if len(tasks) > 1:
        cells.append(_share(line["accuracy"], line["interval"]))
        cells.append(_delta(line["delta_m"], line["delta_m_interval"]))
        cells.append(_delta(line["delta_m_at_cost"], line["delta_m_at_cost_interval"]))
    cells += [
        f"{line['parameters'] / 1e6:.2f} M",
        f"{line['macs'] / 1e6:.1f} M",
        "-" if line["int8_ms"] is None else f"{line['int8_ms']:.2f} ms",
        _duration(line["train_s"]),
    ]
    is_behind = not (line["is_within_noise"] or line["is_single"])
    kind = "chosen" if line["is_choice"] else "faint" if is_behind else ""
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr class="{kind}"><td class="title">{escape(line["name"])}</td>{numbers}</tr>'


def _share(value: float, interval: Interval | None) -> str:
    span = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    return f"{percent(value, 1)}<br><small>{span}</small>"


def _delta(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "-"
    span = f"<br><small>{interval[0]:+.1f} to {interval[1]:+.1f}</small>" if interval else ""
    return f"{value:+.1f}\N{NO-BREAK SPACE}%{span}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
