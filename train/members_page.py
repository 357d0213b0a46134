"""The part of a report that says what an ensemble or a soup is made of, and what that brings."""

from collections.abc import Mapping, Sequence
from html import escape

from train.agreement import disputed
from train.blend import Voice
from train.charts import percent
from train.corpus import Corpus
from train.members import EnsembleFacts, TaskAgreement
from train.page import jpeg_url
from train.soup import Soup

_PICTURES = 6

_HOW = {
    "mean": "Every member counts alike.",
    "weighted": "Weights are fitted on held-out groups (split <code>val</code>).",
    "stacked": "A linear map of all members' answers, fitted on held-out groups (split "
    "<code>val</code>) and taken no farther from the plain mean than other groups bear out.",
}
_FAIR = (
    " What is said of those groups here, and how sure it is, comes from fits that left them out."
)


def ensemble_section(facts: EnsembleFacts, voices: Mapping[str, Voice], kept_aside: Corpus) -> str:
    """Return the section of an ensemble's report, HTML.

    Args:
        facts: What it is.
        voices: By task, what members and ensemble say of the held-out rows.
        kept_aside: Those rows.
    """
    parts = "".join(
        _task_part(task, found, facts.weights.get(task, {}), voices[task], kept_aside)
        for task, found in facts.agreement.items()
    )
    how = _HOW[facts.how] + ("" if facts.how == "mean" else _FAIR)
    count = len(facts.members)
    return f"""
<section><h2>What its {count} members say</h2>
<p class="quiet">Networks that learnt apart make different mistakes; where they differ, the ensemble
can win. {how} On a device it costs as much as all {count} together; <code>transom train
--teacher</code> makes one network of it.</p>{parts}</section>"""


def soup_section(names: Sequence[str], soup: Soup) -> str:
    """Return the section of a soup's report, HTML.

    Args:
        names: Of the runs that were tried.
        soup: What came of them.
    """
    lines = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{percent(score, 1)}</td>'
        f"<td>{'is in it' if place in soup.ingredients else 'left out: val got worse with it'}"
        "</td></tr>"
        for place, (name, score) in enumerate(zip(names, soup.scores, strict=True))
    )
    return f"""
<section><h2>What it is made of</h2>
<p class="quiet">One network with the mean of the weights of {len(soup.ingredients)} of
{len(names)} runs; it costs as much as one. Which ones was chosen on the split
<code>val</code>, where it is right on {percent(soup.score, 1)} (mean over tasks), so figures on
<code>val</code> flatter it.</p>
<div class="card"><div class="scroll"><table><thead><tr><th>run</th>
<th class="number">right on val, alone</th><th></th></tr></thead><tbody>{lines}</tbody></table>
</div></div></section>"""


def _task_part(
    task: str,
    found: TaskAgreement,
    weights: Mapping[str, float],
    voice: Voice,
    kept_aside: Corpus,
) -> str:
    names = [name for name in found.accuracy if name != "ensemble"]
    return f"""
<h3 style="margin-top:22px">{escape(task)}: {_verdict(found)}</h3>
<p class="quiet">{found.n:,} held-out pictures that are labelled for it.</p>
<div class="grid"><div class="card"><h3>Right, by member</h3>{_members(found, weights)}</div>
<div class="card"><h3>How often two say the same</h3>{_matrix(names, found)}
<p style="margin:12px 0 0">{_words(found)}</p></div></div>
{_pictures(names, voice, kept_aside)}"""


def _verdict(found: TaskAgreement) -> str:
    gain = _points(found.gain)
    words = f"right on {gain} points of 100 against its members' average"
    if found.gain_interval is None:
        return words
    low, high = found.gain_interval
    worth = "" if low > 0 or high < 0 else "; that may be chance"
    return f"{words} ({_points(low)} to {_points(high)}{worth})"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _members(found: TaskAgreement, weights: Mapping[str, float]) -> str:
    head = '<th class="number">weight</th>' if weights else ""
    lines = ""
    for name, accuracy in found.accuracy.items():
        weight = f"{weights[name]:.2f}" if name in weights else ""
        cell = f'<td class="number">{weight}</td>' if weights else ""
        chosen = ' class="chosen"' if name == "ensemble" else ""
        lines += (
            f"<tr{chosen}><td>{escape(name)}</td>"
            f'<td class="number">{percent(accuracy, 1)}</td>{cell}</tr>'
        )
    return (
        '<div class="scroll"><table><thead><tr><th>member</th><th class="number">right</th>'
        f"{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _matrix(names: Sequence[str], found: TaskAgreement) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = ""
    for name, shares in zip(names, found.agreement, strict=True):
        cells = "".join(f"<td>{percent(share)}</td>" for share in shares)
        lines += f"<tr><th>{escape(name)}</th>{cells}</tr>"
    return (
        '<div class="scroll"><table class="confusion dense"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _words(found: TaskAgreement) -> str:
    words = f"All say the same of {percent(found.unanimous)}"
    if found.accuracy_unanimous is not None:
        words += f", and are right in {percent(found.accuracy_unanimous)} of these"
    words += "."
    if found.accuracy_divided is not None:
        words += f" Where they differ, the ensemble is right in {percent(found.accuracy_divided)}."
    return (
        f"{words} At least one is right of {percent(found.one_right)}: no choice among them can "
        "do better."
    )


def _pictures(names: Sequence[str], voice: Voice, kept_aside: Corpus) -> str:
    rows = disputed(voice.held, voice.logits, _PICTURES)
    if not rows:
        return ""
    figures = "".join(_picture(names, voice, kept_aside, row) for row in rows)
    return f"""
<h3 style="margin-top:22px">Where they differ most</h3>
<p class="quiet">One picture a group, those that the ensemble has wrong first.</p>
<div class="pictures">{figures}</div>"""


def _picture(names: Sequence[str], voice: Voice, kept_aside: Corpus, row: int) -> str:
    classes = voice.classes
    truth = classes[int(voice.held.targets[row])]
    said = classes[int(voice.logits[row].argmax())]
    members = ", ".join(
        f"{escape(name)}: {escape(classes[int(guess)])}"
        for name, guess in zip(names, voice.held.logits[row].argmax(1), strict=True)
    )
    mark = "true" if said == truth else "said"
    return (
        f'<figure><img src="{jpeg_url(kept_aside.crops[row])}" alt="{escape(truth)}">'
        f'<figcaption>ensemble <span class="{mark}">{escape(said)}</span>, is '
        f'<span class="true">{escape(truth)}</span><small>{members}</small></figcaption></figure>'
    )
