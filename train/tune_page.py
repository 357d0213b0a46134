"""The page of a search: how it went, which keys mattered, and what to do with the result."""

import math
from html import escape
from pathlib import Path

from train.charts import Dot, dot_chart, interval_bar, percent
from train.noise import Interval
from train.page import (
    EXTRACTOR_QUESTION,
    PARAMETERS_QUESTION,
    Answer,
    answer_section,
    write_page,
)
from train.recipe import FEATURE_EXTRACTOR
from train.search_space import Choice, Range
from train.study import Search, Trial

_LISTED = 10
_FEWEST = 3  # trials that have something in common by more than luck, at the least
_BEST_FILE = "best.toml"
_PRUNED, _BEST = 5, 1  # colours of the series


def write_search(path: Path, search: Search, title: str) -> None:
    """Write the page.

    Args:
        path: The file; replaced whole.
        search: With at least one trial trained to the end.
        title: What it is about.

    Raises:
        OSError: The file cannot be written.
        RunError: No trial was trained to the end.
    """
    write_page(
        path,
        title=title,
        headline=escape(headline(search)),
        basis=escape(basis(search)),
        body=[
            _history(search),
            _importance(search),
            _slices(search),
            _table(search),
            answer_section(answers(search)),
            _recipe(search),
        ],
    )


def headline(search: Search) -> str:
    """Return what came of it, in a sentence."""
    best = search.complete[0]
    right = f"{100 * (best.accuracy or 0.0):.1f} of 100 right"
    if best.is_start:
        return f"Keep your recipe: nothing that was tried beat its {right}."
    if search.gain is None:
        return f"The best recipe that was found gets {right}."
    value, interval = search.gain
    if interval is None or interval[0] <= 0:
        return (
            f"The best recipe gets {right}, {100 * value:.1f} more than yours: chance alone can "
            "do that."
        )
    return f"The best recipe gets {right}, {100 * value:.1f} more than the one you began with."


def basis(search: Search) -> str:
    """Return what that rests on."""
    states = [trial.state for trial in search.trials]
    pruned, failed = states.count("pruned"), states.count("failed")
    return (
        f"{len(search.complete)} recipes were trained to the end, {pruned} were given up early"
        f"{f', {failed} failed or were cut off' if failed else ''}. Accuracy is the mean over "
        "tasks on the groups of split val; test was not looked at."
    )


def answers(search: Search) -> tuple[Answer, ...]:
    """Return the questions that the search was made to answer, and what to do next."""
    found = []
    for question, is_extractor in ((EXTRACTOR_QUESTION, True), (PARAMETERS_QUESTION, False)):
        keys = [key for key in search.space if (key in FEATURE_EXTRACTOR) is is_extractor]
        said = tuple(_key_sentence(search, key) for key in keys)
        if is_extractor and not said:
            said = (
                f"This search kept backbone {search.recipe.backbone} and size "
                f"{search.recipe.size}. transom compare --recipe {_BEST_FILE} --vary "
                "backbone=A,B puts others beside it.",
            )
        if not is_extractor and said:
            said = (*_importance_sentence(search), *said)
        if said:
            found.append(Answer(question, said))
    return (*found, Answer("What to do next?", _next_steps(search)))


def _next_steps(search: Search) -> tuple[str, ...]:
    said = []
    if search.gain is not None and not search.complete[0].is_start:
        value, interval = search.gain
        said.append(
            f"Over the recipe you began with, the best gains {100 * value:.1f} points"
            f"{_span(interval)} on the same groups."
        )
    if search.complete[0].is_start:
        said.append("More trials may still find better; so may more data, more surely.")
    else:
        said.append(
            f"The best of {len(search.complete)} is partly the luckiest, and val has chosen it: "
            "its own accuracy flatters it. Train it with other seeds beside yours (transom train "
            f"--recipe {_BEST_FILE} --seed 1 --out RUN) and judge both on split test (transom "
            "evaluate RUN DATASET --split test)."
        )
    at_an_end = [key for key in search.space if _is_at_end(search, key)]
    if at_an_end:
        said.append(
            f"The best value of {', '.join(at_an_end)} lies at an end of its range: search "
            "further that way."
        )
    return tuple(said)


def _importance_sentence(search: Search) -> tuple[str, ...]:
    if not search.importances:
        return ("Too few recipes were trained to the end to say which keys matter.",)
    ordered = sorted(search.importances.items(), key=lambda entry: -entry[1])
    named = ", ".join(f"{key} ({percent(share)})" for key, share in ordered[:3])
    return (f"What decided most whether a recipe was among the better ones: {named}.",)


def _key_sentence(search: Search, key: str) -> str:
    """Say what the better third of the recipes have in common in a key, if they do."""
    complete = [trial for trial in search.complete if key in trial.values]
    best = complete[0].values[key] if complete else "-"
    taken = f"{key}: {_short(best)} in the best recipe."
    better = complete[: len(complete) // 3]
    if len(better) < _FEWEST:
        return f"{taken} Too few were trained to the end to say more."
    values = [trial.values[key] for trial in better]
    searched = search.space[key]
    if isinstance(searched, Choice):
        most = max(set(values), key=values.count)
        of_all = sum(trial.values[key] == most for trial in complete)
        return (
            f"{taken} Of the better third, {values.count(most)} of {len(values)} have "
            f"{_short(most)}, of all {of_all} of {len(complete)}."
        )
    span = f"{_short(min(values))} to {_short(max(values))}"
    share = (_place(searched, max(values)) - _place(searched, min(values))) / (
        _place(searched, searched.high) - _place(searched, searched.low)
    )
    if share > 0.5:
        return f"{taken} The better third spread over {span}: its value hardly matters."
    return f"{taken} The better third lie within {span}."


def _place(searched: Range, value: float) -> float:
    return math.log(value) if searched.is_log else float(value)


def _is_at_end(search: Search, key: str) -> bool:
    searched, value = search.space[key], search.complete[0].values.get(key)
    if not isinstance(searched, Range) or value is None or len(search.complete) < _LISTED:
        return False
    if searched.low == 0.0 or key.startswith("augment."):  # 0 and such are no ends to go beyond
        return bool(value >= searched.low + 0.97 * (searched.high - searched.low))
    width = searched.high - searched.low
    if searched.is_log:
        ratio = searched.high / searched.low
        return bool(value <= searched.low * ratio**0.03 or value >= searched.high / ratio**0.03)
    return bool(value <= searched.low + 0.03 * width or value >= searched.high - 0.03 * width)


def _history(search: Search) -> str:
    dots, path, best = [], [], 0.0
    for trial in search.trials:
        if trial.accuracy is None:
            continue
        if trial.state == "complete":
            reached = max(best, trial.accuracy)
            path += [(float(trial.number), level) for level in (best or reached, reached)]
            best = reached
        dots.append(_dot(search, trial, float(trial.number)))
    chart = dot_chart(dots, "trial", "accuracy on val", path=path, is_share=True)
    return (
        '<section><h2>How the search went</h2><p class="quiet">The dashed line is the best so '
        "far; orange is the best of all, blue the others that were trained to the end. Pale ones "
        "were given up early, and stand at what they had reached by then.</p>"
        f'<div class="card"><div class="middle">{chart}</div></div></section>'
    )


def _dot(search: Search, trial: Trial, x: float) -> Dot:
    is_best = trial.number == search.complete[0].number
    is_pruned = trial.state != "complete"
    values = ", ".join(f"{key} {_short(value)}" for key, value in trial.values.items())
    return Dot(
        x=x,
        y=trial.accuracy or 0.0,
        name="yours" if trial.is_start else "",
        title=f"trial {trial.number}: {percent(trial.accuracy, 1)}; {values}",
        colour=_BEST if is_best else _PRUNED if is_pruned else 0,
        is_faint=is_pruned,
    )


def _importance(search: Search) -> str:
    if not search.importances:
        return ""
    lines = "".join(
        f'<tr><td>{escape(key)}</td><td class="number">{percent(share)}</td>'
        f'<td class="wide">{interval_bar(share, None)}</td></tr>'
        for key, share in sorted(search.importances.items(), key=lambda entry: -entry[1])
    )
    return (
        '<section><h2>Which keys mattered</h2><p class="quiet">How much each decides whether a '
        "recipe is among the better ones, by these trials (PED-ANOVA). With few trials this is a "
        f'hint, not a finding.</p><div class="card"><table><tbody>{lines}</tbody></table></div>'
        "</section>"
    )


def _slices(search: Search) -> str:
    cards = []
    for key, searched in search.space.items():
        tried = [t for t in search.trials if key in t.values and t.accuracy is not None]
        names = None
        places = {}
        if isinstance(searched, Choice):
            places = {value: float(place) for place, value in enumerate(searched.values)}
            names = {place: str(value) for value, place in places.items()}
        dots = [_dot(search, t, places.get(t.values[key], t.values[key])) for t in tried]
        is_log = isinstance(searched, Range) and searched.is_log
        chart = dot_chart(dots, key, "", is_log=is_log, is_share=True, x_names=names)
        cards.append(f'<div class="card"><h3>{escape(key)}</h3>{chart}</div>')
    return (
        '<section><h2>Key by key</h2><p class="quiet">Every trial at its value; the other keys '
        f'differ, too.</p><div class="grid">{"".join(cards)}</div></section>'
    )


def _table(search: Search) -> str:
    keys = list(search.space)
    head = "".join(f'<th class="number">{escape(key)}</th>' for key in keys)
    lines = ""
    for place, trial in enumerate(search.complete[:_LISTED]):
        cells = "".join(
            f'<td class="number">{escape(_short(trial.values.get(key, "-")))}</td>' for key in keys
        )
        name = f"{trial.number}{' (yours)' if trial.is_start else ''}"
        lines += (
            f'<tr class="{"" if place else "chosen"}"><td>{name}</td>'
            f'<td class="number">{percent(trial.accuracy, 1)}</td>{cells}</tr>'
        )
    return (
        '<section><h2>The best trials</h2><div class="card"><div class="scroll"><table><thead>'
        f'<tr><th>trial</th><th class="number">right</th>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></div></section>"
    )


def _recipe(search: Search) -> str:
    text = escape(search.best_recipe.to_toml())
    return (
        '<section><details class="card"><summary>The best recipe, as in best.toml</summary>'
        f"<pre><code>{text}</code></pre></details></section>"
    )


def _span(interval: Interval | None) -> str:
    return f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})" if interval else ""


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
