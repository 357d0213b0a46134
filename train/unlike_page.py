"""The part of a report that says what a network does with pictures of anything else."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from train.charts import interval_bar, percent
from train.evaluate import Evaluation
from train.page import jpeg_url
from train.told_apart import Separation, Unlike
from transom.prediction import UNKNOWN_INDEX

_PICTURES = 6
_SCORES = {"max_probability": "sureness", "energy": "energy", "distance": "distance"}


def unlike_section(
    found: Mapping[str, Mapping[str, Unlike]], others: Mapping[str, Evaluation]
) -> str:
    """Return the section, HTML; empty where nothing was compared.

    Args:
        found: By name of the pictures and by task, how they are told apart.
        others: By name, what the network says of them.
    """
    tasks = dict.fromkeys(task for by_task in found.values() for task in by_task)
    if not tasks:
        return ""
    parts = "".join(_task_part(task, found, others) for task in tasks)
    return f"""
<section><h2>What it says of anything else</h2>
<p class="quiet">Pictures that it was not made for should be <code>unknown</code>. The last columns:
of 100 pairs, one picture that it was made for and one that it was not, in how many does a score
find the stranger? 50 is chance. On a device the distance from training pictures decides, or the
energy where there is no distance.</p>{parts}</section>"""


def _task_part(
    task: str, found: Mapping[str, Mapping[str, Unlike]], others: Mapping[str, Evaluation]
) -> str:
    rows = {name: by_task[task] for name, by_task in found.items() if task in by_task}
    names = [key for key in _SCORES if any(key in row.scores for row in rows.values())]
    head = "".join(f'<th class="number">by {_SCORES[key]}</th>' for key in names)
    lines = "".join(_line(name, row, names) for name, row in rows.items())
    return f"""
<h3 style="margin-top:22px">{escape(task)}</h3>
<div class="card"><div class="scroll"><table><thead><tr><th>pictures of</th>
<th class="number">pictures</th><th class="number">answered</th><th></th>{head}</tr>
</thead><tbody>{lines}</tbody></table></div></div>
{_pictures(task, others)}"""


def _line(name: str, row: Unlike, names: list[str]) -> str:
    cells = ""
    for key in names:
        cells += f'<td class="number">{_of_100(row.scores.get(key))}</td>'
    return (
        f'<tr><td>{escape(_short(name))}</td><td class="number">{row.n:,}</td>'
        f'<td class="number">{percent(row.answered)}</td>'
        f'<td class="wide">{interval_bar(row.answered, row.answered_interval)}</td>{cells}</tr>'
    )


def _short(name: str) -> str:
    return Path(name).name


def _of_100(score: Separation | None) -> str:
    if score is None:
        return "-"
    text = f"{100 * score.auroc:.0f}"
    if score.interval is None:
        return text
    return f"{text} <small>{100 * score.interval[0]:.0f} to {100 * score.interval[1]:.0f}</small>"


def _pictures(task: str, others: Mapping[str, Evaluation]) -> str:
    shown = []
    for name, evaluation in others.items():
        prediction = evaluation.tasks[task].prediction
        believed = np.flatnonzero(prediction.classes != UNKNOWN_INDEX)
        sure = prediction.probabilities.max(axis=1)
        shown += [(float(sure[row]), name, int(row)) for row in believed]
    shown.sort(key=lambda item: -item[0])
    chosen: list[tuple[float, str, int]] = []
    for item in shown:  # in turn from each, so that one data set does not fill the row
        if sum(name == item[1] for _, name, _ in chosen) < -(-_PICTURES // len(others)):
            chosen.append(item)
    if not chosen:
        return ""
    figures = "".join(
        _picture(task, others[name], name, row, sure) for sure, name, row in chosen[:_PICTURES]
    )
    return f"""
<h3 style="margin-top:22px">Answered all the same, and most surely</h3>
<div class="pictures">{figures}</div>"""


def _picture(task: str, evaluation: Evaluation, name: str, row: int, sure: float) -> str:
    found = evaluation.tasks[task]
    said = found.spec.classes[int(found.prediction.classes[row])]
    image = evaluation.corpus.rows[row].image
    return (
        f'<figure><img src="{jpeg_url(evaluation.corpus.crops[row])}" alt="{escape(name)}">'
        f'<figcaption>says <span class="said">{escape(said)}</span> '
        f"({percent(sure)})<small>{escape(_short(name))}: {escape(image)}</small>"
        "</figcaption></figure>"
    )
