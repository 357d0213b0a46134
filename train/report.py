"""`report.html`: what a network can do and where it fails, for a person who opens one file."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from train.advice import advice
from train.charts import coverage_chart, interval_bar, line_chart, percent, reliability_chart
from train.corpus import MISSING, Corpus
from train.evaluate import Evaluation, TaskEvaluation, say_foreign
from train.metrics import (
    Indices,
    bootstrap_intervals,
    figures,
    group_indices,
    plain,
    tally_groups,
)
from train.page import jpeg_url, write_page
from train.selective import COVERAGES
from transom.dataset import SPLITS
from transom.prediction import UNKNOWN_INDEX

_PICTURES = 12
_GROUPS = 12
_MANY_CLASSES = 5  # beyond, the table of confusions takes the page's width
_JUDGES = ("test", "val")  # the fairer first

_SPLIT_WORDS = {
    "test": "kept aside for judging",
    "val": "kept aside while training",
    "train": "it was trained on, which proves little",
    "all": "in these data sets",
}
_TILES = {
    "accuracy": ("right", "of all labelled pictures"),
    "balanced_accuracy": ("right, each class alike", "mean over the classes"),
    "macro_f1": ("macro F1", "found and not claimed wrongly, mean over the classes"),
    "group_accuracy": ("right, each group alike", "a much photographed door counts once"),
    "coverage": ("answered", "the rest is unknown"),
    "accuracy_covered": ("right when it answers", "what an alert is worth"),
    "ece": ("off in its sureness", "calibration error: 0 % is best"),
}


def write_report(
    path: Path,
    *,
    title: str,
    evaluations: Mapping[str, Evaluation],
    history: Sequence[Mapping[str, float]],
    corpus: Corpus,
    recipe: Mapping[str, object],
    sections: Sequence[str] = (),
) -> None:
    """Write a page that needs nothing beside itself.

    Args:
        path: The file; replaced whole.
        title: What was trained or judged.
        evaluations: By split. `test` is shown in full, or `val`, or the first; the others beside.
        history: One entry an epoch: figures by name; `epoch` is the axis where it is given.
        corpus: All the data.
        recipe: How it was trained, key by key; empty = no such section.
        sections: HTML, after what every task has.

    Raises:
        ValueError: There is no evaluation.
        OSError: The file cannot be written.
    """
    if not evaluations:
        raise ValueError("a report needs at least one evaluation, got none")
    split = next((name for name in _JUDGES if name in evaluations), next(iter(evaluations)))
    evaluation = evaluations[split]
    judged = {name: task for name, task in evaluation.tasks.items() if task.n}
    next_steps = "".join(f"<li>{item}</li>" for item in advice(evaluations, split))
    body = [
        '<section class="card"><h3>What to do next</h3>'
        f'<ol class="next">{next_steps}</ol></section>',
        *(_task_section(name, evaluation, evaluations) for name in judged),
        *sections,
        _curves(history),
        _made(corpus, recipe),
    ]
    write_page(
        path,
        title=title,
        headline=_headline(judged, split),
        basis=_basis(evaluation, split),
        body=body,
    )


def _headline(judged: Mapping[str, TaskEvaluation], split: str) -> str:
    if not judged:
        return "These pictures have no label that this network could be judged by."
    claims = [
        f"the <em>{escape(name)}</em> right on {_of_100(task.figures['accuracy'])}"
        for name, task in judged.items()
    ]
    words = _SPLIT_WORDS.get(split, "in these data sets")
    return f"It gets {_listed(claims)} of 100 pictures {words}."


def _basis(evaluation: Evaluation, split: str) -> str:
    basis = (
        f"Judged on {len(evaluation.corpus):,} pictures of {len(set(evaluation.corpus.groups)):,} "
        f"groups ({escape(', '.join(dict.fromkeys(evaluation.corpus.origins)))}; split "
        f"<code>{split}</code>) in {evaluation.precision} arithmetic."
    )
    for task in evaluation.tasks.values():
        if task.foreign.any():
            basis += f" <b>{escape(say_foreign(task.spec, task.foreign_classes))}.</b>"
    expected = [
        f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} of 100 for <em>{escape(name)}</em>"
        for name, task in evaluation.tasks.items()
        if (interval := task.intervals["accuracy"]) is not None
    ]
    if not expected:
        return basis
    others = "On other groups like these (other doors, cameras, days) expect"
    return f"{basis} {others} {_listed(expected)}."


def _task_section(name: str, evaluation: Evaluation, evaluations: Mapping[str, Evaluation]) -> str:
    task = evaluation.tasks[name]
    wide = " full" if len(task.spec.classes) > _MANY_CLASSES else ""
    return f"""
<section>
<h2>Task: {escape(name)}</h2>
<p class="quiet">{task.n:,} labelled pictures in {len(task.tally.confusion):,} groups. Ranges are
95 % intervals that draw whole groups.</p>
<div class="tiles">{_tiles(task)}</div>
<div class="grid">
<div class="card{wide}"><h3>What it says, against what is true</h3>
<p class="quiet">A row for each true class; the diagonal is right.</p>{_confusion(task)}</div>
<div class="card"><h3>Is it as sure as it should be?</h3>
<p class="quiet">Below the dashed line it is too sure of itself. Larger dots, more pictures.</p>
{reliability_chart(_reliability(task))}</div>
<div class="card"><h3>By data set and split</h3>{_parts_table(name, evaluation, evaluations)}</div>
{_selective_card(task)}
</div>
{_mistakes(name, evaluation)}
{_groups_card(name, evaluation)}
</section>"""


def _tiles(task: TaskEvaluation) -> str:
    tiles = []
    for figure, (words, note) in _TILES.items():
        interval = task.intervals[figure]
        span = f"{_number(interval[0])} to {percent(interval[1], 1)}" if interval else ""
        tiles.append(
            f'<div class="tile"><b>{percent(task.figures[figure], 1)}</b>'
            f'<span>{words}</span><small>{span}</small><small class="note">{note}</small></div>'
        )
    return "".join(tiles)


def _confusion(task: TaskEvaluation) -> str:
    confusion, classes = task.confusion, task.spec.classes
    dense = " dense" if len(classes) > _MANY_CLASSES else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in classes)
    body = []
    for index, name in enumerate(classes):
        total = int(confusion[index].sum())
        cells = "".join(
            _confusion_cell(int(count), total, index == column)
            for column, count in enumerate(confusion[index])
        )
        body.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        f'<div class="scroll"><table class="confusion{dense}"><thead><tr><th>true \\ said</th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _confusion_cell(count: int, total: int, is_right: bool) -> str:
    if not count:
        return '<td class="none">0</td>'
    share = count / total
    colour = "rgb(var(--accent) / {:.2f})" if is_right else "rgb(211 104 27 / {:.2f})"
    style = f"background:{colour.format(0.08 + 0.62 * share)}"
    return f'<td style="{style}">{count}<small>{percent(share)}</small></td>'


def _reliability(task: TaskEvaluation) -> list[tuple[float, float, int]]:
    bins = task.tally.total().bins
    return [(sure / n, right / n, int(n)) for n, sure, right in bins.tolist() if n]


def _selective_card(task: TaskEvaluation) -> str:
    found = task.selective
    if found is None or len(found.coverage) < 2:
        return ""  # it is equally sure of everything
    curve = [
        (float(coverage), float(accuracy))
        for coverage, accuracy in zip(found.coverage, found.accuracy, strict=True)
        if coverage >= COVERAGES[0] / 2  # before, a few pictures decide
    ]
    bands = [
        (coverage, *ends)
        for coverage, ends in zip(COVERAGES, found.intervals, strict=True)
        if ends is not None
    ]
    coverage, accuracy = task.figures["coverage"], task.figures["accuracy_covered"]
    working = None if coverage is None or accuracy is None else (coverage, accuracy)
    dot = (
        ""
        if working is None
        else f" The dot is what a device does: it answers {percent(coverage)} and is right in "
        f"{percent(accuracy)} of these."
    )
    return f"""<div class="card"><h3>What if it answers only what it is surest of?</h3>
<p class="quiet">From the right to the left it keeps silent more often. Where the curve does not
rise to the left, its sureness says nothing. Shaded: 95 % intervals.{dot}</p>
{coverage_chart(curve, bands, working)}</div>"""


def _mistakes(name: str, evaluation: Evaluation) -> str:
    rows = worst_mistakes(name, evaluation, _PICTURES)
    if not rows:
        return '<p class="card" style="margin-top:16px">Not one mistake among these pictures.</p>'
    pictures = "".join(_picture(name, evaluation, row) for row in rows)
    return f"""
<h3 style="margin-top:22px">Worst mistakes</h3>
<p class="quiet">Wrong and most sure of it, one picture a group. A wrong label shows here, too.</p>
<div class="pictures">{pictures}</div>"""


def worst_mistakes(name: str, evaluation: Evaluation, count: int) -> list[int]:
    """Return rows of a task's surest mistakes, at most one of each group."""
    task = evaluation.tasks[name]
    probabilities = task.prediction.probabilities
    wrong = (task.targets != MISSING) & (probabilities.argmax(axis=1) != task.targets)
    found: dict[str, int] = {}
    for row in sorted(np.flatnonzero(wrong).tolist(), key=lambda row: -probabilities[row].max()):
        found.setdefault(evaluation.corpus.groups[row], row)
    return list(found.values())[:count]


def _picture(name: str, evaluation: Evaluation, index: int) -> str:
    task, corpus = evaluation.tasks[name], evaluation.corpus
    probabilities = task.prediction.probabilities[index]
    said, truth = task.spec.classes[int(probabilities.argmax())], corpus.rows[index].labels[name]
    unsure = task.prediction.classes[index] == UNKNOWN_INDEX
    note = "; on a device this is <code>unknown</code>" if unsure else ""
    return (
        f'<figure><img src="{jpeg_url(corpus.crops[index])}" alt="{escape(truth)}">'
        f'<figcaption>says <span class="said">{escape(said)}</span> '
        f'({percent(float(probabilities.max()))}), is <span class="true">{escape(truth)}</span>'
        f"{note}<small>{escape(corpus.origins[index])}/{escape(corpus.rows[index].image)}</small>"
        "</figcaption></figure>"
    )


def _parts_table(name: str, evaluation: Evaluation, evaluations: Mapping[str, Evaluation]) -> str:
    lines = []
    for split, other in evaluations.items():
        task = other.tasks.get(name)
        if task is not None and task.n:
            figure, interval = task.figures["accuracy"], task.intervals["accuracy"]
            lines.append(_bar_row(f"split {split}", task.n, figure, interval))
    origins = np.asarray(evaluation.corpus.origins)
    if len(set(origins.tolist())) > 1:
        for origin in dict.fromkeys(evaluation.corpus.origins):
            lines.append(_origin_row(name, evaluation, np.flatnonzero(origins == origin), origin))
    return _bar_table("part", lines)


def _origin_row(name: str, evaluation: Evaluation, rows: Indices, origin: str) -> str:
    task = evaluation.tasks[name]
    rows = rows[task.targets[rows] != MISSING]
    if len(rows) == 0:
        return ""
    tally = tally_groups(
        task.prediction.probabilities[rows],
        task.prediction.classes[rows],
        task.targets[rows],
        group_indices([evaluation.corpus.groups[row] for row in rows]),
    )
    accuracy = plain(figures(tally.total()))["accuracy"]
    return _bar_row(origin, len(rows), accuracy, bootstrap_intervals(tally)["accuracy"])


def _groups_card(name: str, evaluation: Evaluation) -> str:
    table = [
        (group, *(found["tasks"][name][key] for key in ("n", "accuracy", "interval")))
        for group, found in evaluation.groups().items()
        if name in found["tasks"]
    ]
    table = [line for line in table if line[2] < 1]
    if all(n == 1 for _, n, _, _ in table):
        return ""  # the pictures above say the same
    table.sort(key=lambda line: (-(1 - line[2]) * line[1], line[0]))
    lines = [
        _bar_row(group, n, accuracy, interval) for group, n, accuracy, interval in table[:_GROUPS]
    ]
    return f"""<div class="card" style="margin-top:16px"><h3>Hardest groups</h3>
<p class="quiet">The groups with most wrong answers; whiskers are 95 % intervals for more pictures
of the same group.</p>
{_bar_table("group", lines)}</div>"""


def _bar_table(what: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="scroll"><table class="parts"><thead><tr><th>{what}</th>'
        '<th class="number">pictures</th>'
        f'<th class="number">right</th><th></th></tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table></div>"
    )


def _bar_row(
    what: str, n: int, accuracy: float | None, interval: tuple[float, float] | None
) -> str:
    return (
        f'<tr><td>{escape(what)}</td><td class="number">{n:,}</td>'
        f'<td class="number">{percent(accuracy, 1)}</td>'
        f'<td class="wide">{interval_bar(accuracy or 0.0, interval)}</td></tr>'
    )


def _curves(history: Sequence[Mapping[str, float]]) -> str:
    if len(history) < 2:
        return ""
    losses, shares = {}, {}
    for name in dict.fromkeys(name for entry in history for name in entry):
        points = [(e.get("epoch", i + 1), e[name]) for i, e in enumerate(history) if name in e]
        words = name.replace("_", " ")
        if "loss" in name:
            losses[words] = points
        elif name != "epoch" and any(part in name for part in ("accuracy", "f1", "right")):
            shares[words] = points
    charts = [
        f'<div class="card"><h3>{title}</h3><p class="quiet">{note}</p>{chart}</div>'
        for title, note, chart in (
            ("Loss", "Lower is better.", line_chart(losses, "epoch")),
            ("Accuracy", "Higher is better.", line_chart(shares, "epoch", is_share=True)),
        )
        if chart
    ]
    if not charts:
        return ""
    return f'<section><h2>How it learnt</h2><div class="grid">{"".join(charts)}</div></section>'


def _made(corpus: Corpus, recipe: Mapping[str, object]) -> str:
    origins, splits = np.asarray(corpus.origins), corpus.splits
    head = "".join(f'<th class="number">{split}</th>' for split in SPLITS)
    body = ""
    for origin in dict.fromkeys(corpus.origins):
        cells = "".join(
            f'<td class="number">{int(((origins == origin) & (splits == split)).sum()):,}</td>'
            for split in SPLITS
        )
        body += f"<tr><td>{escape(origin)}</td>{cells}</tr>"
    return f"""
<section><h2>What it was made from</h2>
<div class="card"><div class="scroll"><table class="parts">
<thead><tr><th>data set</th>{head}</tr></thead>
<tbody>{body}</tbody></table></div>
<p class="quiet" style="margin:10px 0 0"><small>digest of the data
<code>{corpus.digest}</code></small></p>{_recipe(recipe)}</div></section>"""


def _recipe(recipe: Mapping[str, object]) -> str:
    if not recipe:
        return ""
    lines = "".join(
        f"<tr><td>{escape(key)}</td><td><code>{escape(str(value))}</code></td></tr>"
        for key, value in recipe.items()
    )
    return f"<details><summary>Recipe</summary><table><tbody>{lines}</tbody></table></details>"


def _of_100(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.0f}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(value: float) -> str:
    return f"{100 * value:.1f}"
