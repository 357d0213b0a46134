"""What a comparison says, in plain words: which feature extractor, which hyper-parameters."""

from collections.abc import Sequence

import numpy as np

from export.compare import Judgement
from train.comparison import Comparison, held_out
from train.noise import Interval
from train.page import EXTRACTOR_QUESTION, PARAMETERS_QUESTION, Answer
from train.recipe import FEATURE_EXTRACTOR

_QUESTIONS = (EXTRACTOR_QUESTION, PARAMETERS_QUESTION)


def headline(judgement: Judgement) -> str:
    """Return the choice in one sentence."""
    comparison, choice = judgement.comparison, judgement.choice
    name = comparison.rows[choice].variant.name
    right = f"{100 * comparison.draws.means_of_tasks[choice]:.1f} of 100 right"
    as_good = sum(comparison.is_as_good(place) for place in comparison.contenders)
    others = "one other" if as_good == 2 else f"{as_good - 1} others"
    if len(comparison.contenders) == 1:
        return f"{_capital(name)} gets {right}."
    if as_good == 1:
        return f"Take {name}: with {right} it is ahead of every other {_by_more(comparison)}."
    if choice == comparison.best:
        return f"Take {name}: it came first with {right}, though {others} may be as good."
    return (
        f"Take {name}: it gets {right}. By these data {others} may be as good, and it costs the "
        "device least."
    )


def basis(judgement: Judgement) -> str:
    """Return what the comparison rests on."""
    comparison = judgement.comparison
    seeds = len(comparison.rows[0].runs)
    counted = ", ".join(f"{n:,} for {task}" for task, n in comparison.n.items())
    return (
        f"Accuracies are means over {_counted(seeds, 'seed')}, on the labelled pictures of split "
        f"{comparison.split} ({counted}) in {_counted(comparison.groups, 'group')}. "
        f"INT8 latency is that of one crop with one thread, all networks in turn in one sitting, "
        f"on {judgement.machine}."
    )


def answers(judgement: Judgement) -> tuple[Answer, ...]:
    """Return the questions that the comparison was made to answer."""
    comparison = judgement.comparison
    keys = _varied(comparison)
    found = []
    for question, is_extractor in zip(_QUESTIONS, (True, False), strict=True):
        mine = [key for key in keys if (key in FEATURE_EXTRACTOR) is is_extractor]
        if mine:
            said = tuple(_key_sentence(comparison, key, keys[key]) for key in mine)
            found.append(Answer(question, said))
    together = _together_sentences(judgement)
    if together:
        found.append(Answer("One network for all tasks, or one for each?", together))
    found.append(Answer("So, what to take?", _choice_sentences(judgement)))
    found.append(Answer("How sure is this?", _doubts(comparison)))
    return tuple(found)


def _varied(comparison: Comparison) -> dict[str, list[object]]:
    """Values by varied key, in the order they were named, where there are two or more."""
    values: dict[str, list[object]] = {}
    for place in comparison.contenders:
        for key, value in comparison.rows[place].variant.settings.items():
            known = values.setdefault(key, [])
            if value not in known:
                known.append(value)
    return {key: known for key, known in values.items() if len(known) > 1}


def _key_sentence(comparison: Comparison, key: str, values: Sequence[object]) -> str:
    rows, contenders = comparison.rows, comparison.contenders
    level = 1 - 0.05 / (len(values) - 1)
    means, draws = [], []
    for value in values:
        mine = [place for place in contenders if rows[place].variant.settings[key] == value]
        means.append(float(comparison.draws.means_of_tasks[mine].mean()))
        draws.append(comparison.draws.of_tasks[:, mine].mean(1))
    best = int(np.argmax(means))
    worse: list[str] = []
    equal: list[str] = []
    for other in range(len(values)):
        if other != best:
            interval = comparison.draws.interval(draws[best] - draws[other], level)
            said = f"{values[other]} ({_points(means[best] - means[other], interval)})"
            (worse if interval and interval[0] > 0 else equal).append(said)
    averaged = ", averaged over the rest that was varied" if len(_varied(comparison)) > 1 else ""
    if not equal:
        return f"{key}: {values[best]}. It is ahead of {_listed(worse)}{averaged}."
    others = f" It is ahead of {_listed(worse)} {_by_more(comparison)}." if worse else ""
    return (
        f"{key}: these data do not decide. {_capital(str(values[best]))} came out first, but it "
        f"cannot be told from {_listed(equal)}{averaged}.{others} It may stay as it is, or be "
        "chosen by what it costs."
    )


def _together_sentences(judgement: Judgement) -> tuple[str, ...]:
    comparison, choice = judgement.comparison, judgement.choice
    said = []
    for is_budget, base in enumerate((comparison.bases[choice], comparison.budget_bases[choice])):
        delta = comparison.delta(choice, is_budget=bool(is_budget))
        if base is None or delta is None or len(comparison.tasks) < 2:
            continue
        row = comparison.rows[base]
        ratio = row.cost.macs / max(comparison.rows[choice].cost.macs, 1)
        which = (
            "For its price on the device one can have a network for each task on crops of "
            f"{row.variant.recipe.size} pixels; against these"
            if is_budget
            else "Against a network for each task, each as large as this one,"
        )
        said.append(
            f"{which} it gains {_gained(*delta)}. Together they take {ratio:.1f} times the "
            "multiplications."
        )
    return tuple(said)


def _gained(value: float, interval: Interval | None) -> str:
    """Say a Δm and what follows of it."""
    if interval is None:
        return f"{value:+.1f} % on average over the tasks (Δm)"
    if interval[0] > 0:
        said = "sharing helps"
    elif interval[1] < 0:
        said = "sharing costs accuracy"
    else:
        said = "no difference can be seen"
    return (
        f"{value:+.1f} % on average over the tasks (Δm, {interval[0]:+.1f} to {interval[1]:+.1f}): "
        f"{said}"
    )


def _choice_sentences(judgement: Judgement) -> tuple[str, ...]:
    comparison, choice = judgement.comparison, judgement.choice
    row = comparison.rows[choice]
    ms = judgement.int8_ms[choice]
    cost = f", {ms:.2f} ms a crop in INT8 here" if ms is not None else ""
    said = [
        f"{_capital(row.variant.name)}: {row.cost.parameters / 1e6:.2f} million parameters, "
        f"{row.cost.macs / 1e6:.1f} million multiply-accumulates{cost}. The recipe is in "
        "recommended.toml."
    ]
    tested = held_out(comparison, choice, "test") if comparison.split != "test" else None
    if tested:
        figures = _listed(
            [
                f"{task} {100 * found['accuracy']:.1f} %{_span(found['interval'])}"
                for task, found in tested.items()
            ]
        )
        said.append(
            f"On the split test, which chose nothing, it gets {figures}: that is what to expect."
        )
    elif comparison.split != "test":
        said.append(
            "These data have no split test. The figures above chose the winner, so they flatter "
            "it a little; judge it on other groups with transom evaluate."
        )
    return tuple(said)


def _doubts(comparison: Comparison) -> tuple[str, ...]:
    draws = comparison.draws
    said = []
    leads = [
        comparison.lead(comparison.best, place)[1]
        for place in comparison.contenders
        if place != comparison.best
    ]
    widths = [(high - low) / 2 for low, high in (lead for lead in leads if lead is not None)]
    if widths:
        said.append(
            f"Differences of less than about {100 * float(np.median(widths)):.1f} points cannot be "
            "seen with these groups and seeds; more groups help most, then more seeds."
        )
    if not draws.knows_seeds:
        said.append(
            "There is one seed only, so the ranges do not hold what another seed would change; "
            "give --seeds 3 or more before believing a small difference."
        )
    if not draws.knows_groups:
        said.append("There is one group only, so nothing is known of other doors or cameras.")
    epochs = {row.variant.recipe.epochs for row in comparison.rows}
    if len(epochs) == 1:
        said.append(
            f"Every training had {_counted(epochs.pop(), 'epoch')}: what learns slowly may gain "
            "from more than the others do."
        )
    return tuple(said)


def _by_more(comparison: Comparison) -> str:
    if comparison.draws.knows_seeds:
        return "by more than chance"
    return "by more than the choice of groups explains (of the seed's part one seed says nothing)"


def _points(value: float, interval: Interval | None) -> str:
    span = f", {100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}" if interval else ""
    return f"by {100 * value:.1f} points{span}"


def _span(interval: Interval | None) -> str:
    return f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
