"""A new run beside the bundle that is out there: zone by zone, on the same held-out rows.

What is held out is held out for both: days that the pictures' data set keeps aside for ever. The
two are compared picture by picture, and intervals are of whole days of a device, because pictures
of one day are no independent evidence, whatever zone they show. Those of zones are wide enough to
hold all together: of many zones one is worse by chance.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from train.charts import percent
from train.corpus import MISSING, Corpus
from train.corpus_loader import read_corpus
from train.evaluate import Evaluation, evaluate, say_foreign
from train.evaluate_commands import load_predictor
from train.metrics import Indices, few_groups_interval, group_indices
from transom.dataset import Row
from transom.errors import DatasetError
from transom.starter import STARTER, bundle_path

SERVING = "serving.json"
"""What `transom pull` writes beside its pictures: which bundle each device served."""

HARMLESS = 0.02
"""So much worse a new network may be, at the worst, and still be called as good."""

FEW_DAYS = 3
_MISSED = 0.05
"""How often an interval, or one of those of zones, may miss what it is of."""
_FEW_PICTURES = 5
_MOST_WISHES = 5
_MOST_ZONES = 50

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Beside:
    """The two on some rows.

    Attributes:
        name: The zone, or what all of them are together.
        n: Labelled held-out pictures.
        days: On how many days, of how many devices, they were taken.
        old: Share of them on which the bundle is right, 0 to 1.
        new: Share of them on which the new run is right.
        interval: Of `gain`, over days: 95 %, of zones so that all of them hold with 95 %;
            None = of one day only, so nothing can be said.
    """

    name: str
    n: int
    days: int
    old: float
    new: float
    interval: Interval

    @property
    def gain(self) -> float:
        """By how much the new run is right more often."""
        return self.new - self.old


@dataclass(frozen=True)
class Against:
    """A comparison of one task.

    Attributes:
        task: Its name.
        bundle: What the bundle is called.
        whole: All zones together.
        zones: Each zone, the most pictures first.
        wishes: What to label next, in sentences.
        left_out: Which rows are of classes that the bundle does not have; empty where none is.
    """

    task: str
    bundle: str
    whole: Beside
    zones: tuple[Beside, ...]
    wishes: tuple[str, ...]
    left_out: str = ""

    @property
    def verdict(self) -> str:
        """Whether to deploy, in a sentence that begins with the answer."""
        low_high = self.whole.interval
        if low_high is None or self.whole.days < FEW_DAYS:
            return (
                f"Cannot tell: the held-out pictures are of {self.whole.days} days; label some of "
                f"at least {FEW_DAYS}."
            )
        worse = [
            zone.name
            for zone in self.zones
            if zone.days >= FEW_DAYS and zone.interval is not None and zone.interval[1] < 0.0
        ]
        if low_high[1] < 0.0:
            return "Do not deploy it: it is worse than what serves."
        if worse:
            return f"Do not deploy it yet: it is worse at {', '.join(worse)}."
        if low_high[0] > 0.0:
            return "Deploy it: it is better than what serves."
        if low_high[0] >= -HARMLESS:
            return "It may be deployed and makes no difference that can be seen."
        return "Not enough: the difference may be chance. Label more."

    def as_lines(self) -> list[str]:
        """Return it for a terminal."""
        lines = [f"beside {self.bundle}, {self.task}: {self.verdict}"]
        zones = self.zones[:_MOST_ZONES] if len(self.zones) > 1 else ()
        for part in (self.whole, *zones):
            lines.append(
                f"  {part.name}: {percent(part.old, 1)} -> {percent(part.new, 1)} of {part.n} "
                f"pictures, {part.days} days{_span(part.interval)}"
            )
        if self.left_out:
            lines.append(f"  {self.left_out}")
        return lines + [f"  next: {wish}" for wish in self.wishes]

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told | {"verdict": self.verdict}


class Rival:
    """The bundle that is out there, as a section of the report of a run.

    Args:
        bundle: A bundle's file, or `starter`.
        datasets: What the run is trained and judged on.

    Attributes:
        found: What came of it, by task; nothing before it was called, and of data without held-out
            labels.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
    """

    def __init__(self, bundle: str, datasets: Sequence[Path]) -> None:
        self._bundle = bundle
        self._predictor = load_predictor(bundle)
        self._datasets = tuple(datasets)
        self.found: dict[str, Against] = {}

    def __call__(self, evaluations: Mapping[str, Evaluation]) -> str:
        """Return the section, HTML.

        Args:
            evaluations: Of the run, by split; the fairer of `test` and `val` is compared.
        """
        split = next((name for name in ("test", "val") if name in evaluations), None)
        if split is None:
            return ""
        corpus = read_corpus(self._datasets, self._predictor.input, is_quiet=True)
        old = evaluate(self._predictor, corpus.split(split))
        self.found = {
            found.task: found for found in put_beside(self._bundle, old, evaluations[split], corpus)
        }
        return "".join(_section(found) for found in self.found.values())


def find_serving(folders: Sequence[Path]) -> str | None:
    """Return the bundle that the devices of pulled data sets serve, where it is at hand.

    It is looked for among the bundles in the data sets' folders, beside them and in the current
    folder; the starter is always at hand. Devices that serve several have no one answer.

    Raises:
        DatasetError: What `transom pull` has written of it is damaged.
    """
    digests = {digest for folder in folders for digest in _digests(folder / SERVING)}
    if len(digests) != 1:
        return None
    places = [Path(), *folders, *(folder.resolve().parent for folder in folders)]
    at_hand = [path for place in places for path in sorted(place.glob("*.bundle"))]
    for path in (bundle_path(STARTER), *filter(Path.is_file, at_hand)):
        if sha256(path.read_bytes()).hexdigest() in digests:
            return STARTER if path == bundle_path(STARTER) else str(path)
    return None


def _digests(path: Path) -> list[str]:
    """Return the digests of what the devices of a data set serve.

    Raises:
        DatasetError: The file is damaged.
    """
    try:
        told = msgspec.json.decode(path.read_bytes(), type=dict[str, _Serving])
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise DatasetError(
            f"{path}: does not say which bundles serve: {error}; delete it, and pull again"
        ) from error
    return [entry.digest for entry in told.values()]


class _Serving(msgspec.Struct, frozen=True):
    digest: str


def put_beside(bundle: str, old: Evaluation, new: Evaluation, everything: Corpus) -> list[Against]:
    """Compare two evaluations on the rows that both have.

    Args:
        bundle: What the bundle is called.
        old: Of it.
        new: Of the run; on the same split.
        everything: All rows of the data sets, for what is missing among them.
    """
    places = {_identity(old.corpus, index): index for index in range(len(old.corpus))}
    identities = [_identity(new.corpus, index) for index in range(len(new.corpus))]
    both = np.array([i for i, one in enumerate(identities) if one in places], np.int64)
    rows = np.array([places[identities[i]] for i in both], np.int64)
    found = []
    for name, task in new.tasks.items():
        if name not in old.tasks:
            continue
        truth = task.targets[both]
        theirs = old.tasks[name]
        # Classes by name: the two networks may list them in another order.
        said_old = np.array(theirs.spec.classes)[theirs.prediction.probabilities.argmax(1)][rows]
        said_new = np.array(task.spec.classes)[task.prediction.probabilities.argmax(1)][both]
        wanted = np.array([*task.spec.classes, ""])[truth]
        labelled = _of_devices(
            np.flatnonzero(truth != MISSING), [new.corpus.rows[index] for index in both]
        )
        counted = labelled[theirs.targets[rows[labelled]] != MISSING]
        foreign = Counter(wanted[labelled[theirs.foreign[rows[labelled]]]].tolist())
        if len(counted):
            right = np.stack([said_old == wanted, said_new == wanted], 1)[counted].astype(float)
            judged = [new.corpus.rows[both[index]] for index in counted]
            against = _compare(name, bundle, judged, right, everything)
            left_out = say_foreign(theirs.spec, foreign) if foreign else ""
            found.append(replace(against, left_out=left_out))
    return found


def _of_devices(counted: Indices, rows: Sequence[Row]) -> Indices:
    """Return those of devices, where there are any: other data sets only help to learn."""
    pulled = [index for index in counted if "device" in rows[index].extra]
    return np.array(pulled, np.int64) if pulled else counted


def _compare(
    task: str, bundle: str, rows: Sequence[Row], right: Any, everything: Corpus
) -> Against:
    zones = np.array([zone_of(row) for row in rows])
    days = np.array([f"{row.extra.get('device', '')} {_day(row)}" for row in rows])
    names = sorted(set(zones.tolist()), key=lambda zone: -int((zones == zone).sum()))
    level = 1.0 - _MISSED / len(names)  # Bonferroni
    parts = [_beside(str(zone), right[zones == zone], days[zones == zone], level) for zone in names]
    return Against(
        task=task,
        bundle=bundle,
        whole=_beside("all", right, days, 1.0 - _MISSED),
        zones=tuple(parts),
        wishes=tuple(_wishes(task, everything, parts)),
    )


def _beside(name: str, right: Any, days: Any, level: float) -> Beside:
    groups = group_indices(days.tolist())
    old, new = right.mean(0)
    interval = few_groups_interval(right[:, 1] - right[:, 0], groups, level)
    return Beside(name, len(right), int(groups.max()) + 1, float(old), float(new), interval)


def _wishes(task: str, corpus: Corpus, zones: Sequence[Beside]) -> list[str]:
    """Return what to label next: classes that a zone lacks, then days, then the worst zone."""
    labels: dict[str, Counter[str]] = {}
    days: dict[str, set[str]] = {}
    for row in corpus.rows:
        if "device" in row.extra:
            labels.setdefault(zone_of(row), Counter())
            if task in row.labels:
                labels[zone_of(row)][row.labels[task]] += 1
                days.setdefault(zone_of(row), set()).add(_day(row))
    wishes = [
        (
            labels[zone][name],
            f"{zone}: {labels[zone][name]} pictures are labelled {name}; label more",
        )
        for zone in labels
        for name in corpus.tasks[task].classes
        if labels[zone][name] < _FEW_PICTURES
    ]
    found = [text for _, text in sorted(wishes)]
    found += [
        f"{zone}: labelled pictures are of {len(days.get(zone, ()))} of at least {FEW_DAYS} days; "
        "label other days, whole ones are held out"
        for zone in labels
        if len(days.get(zone, ())) < FEW_DAYS
    ]
    worst = min(zones, key=lambda zone: zone.new)
    if worst.new < 1.0:
        found.append(
            f"{worst.name}: right on {percent(worst.new)} only; label what it is unsure of"
        )
    return found[:_MOST_WISHES]


def zone_of(row: Row) -> str:
    """Return which zone a row shows: of a device, or what its group is called."""
    known = [row.extra.get(name) for name in ("device", "camera", "zone_name")]
    return "/".join(word for word in known if word) or row.group_key


def _day(row: Row) -> str:
    return row.extra.get("taken_at", "")[:10] or row.group_key


def _identity(corpus: Corpus, index: int) -> tuple[str, str, str]:
    """Return by what a row is known again, also where its file has got other rows meanwhile."""
    row = corpus.rows[index]
    return corpus.origins[index], row.image, row.zone.to_text()


# ---------------------------------------------------------------- shown


def _section(against: Against) -> str:
    body = "".join(
        f'<tr><td>{escape(part.name)}</td><td class="number">{part.n}</td>'
        f'<td class="number">{part.days}</td><td class="number">{percent(part.old, 1)}</td>'
        f'<td class="number">{percent(part.new, 1)}</td>'
        f'<td class="number">{100 * part.gain:+.1f}{_span(part.interval)}</td></tr>'
        for part in (against.whole, *against.zones[:_MOST_ZONES])
    )
    return f"""
<section><h2>Beside the bundle that is out there: {escape(against.task)}</h2>
<div class="card"><h3>{escape(against.verdict)}</h3>
<p class="quiet">{escape(against.bundle)} and this run on the same held-out pictures. Ranges are
95 % intervals over whole days; those of zones hold all together.</p>
<div class="scroll"><table><thead><tr><th>zone</th><th class="number">pictures</th>
<th class="number">days</th><th class="number">serves, right</th><th class="number">new, right</th>
<th class="number">points more</th></tr></thead><tbody>{body}</tbody></table></div>
{_left_out(against)}{_next(against.wishes)}</div></section>"""


def _left_out(against: Against) -> str:
    if not against.left_out:
        return ""
    return f"<p>{escape(against.left_out)}, that of {escape(against.bundle)}.</p>"


def _next(wishes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(wish)}</li>" for wish in wishes)
    return f'<h3 style="margin-top:16px">What to label next</h3><ul>{items}</ul>' if items else ""


def _span(interval: Interval) -> str:
    if interval is None:
        return ""
    return f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} points)"
