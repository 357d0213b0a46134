"""Compare Transom's decision filter with Frigate's rule, on the same streams of probabilities.

    python benchmarks/decision_against_frigate.py            # the reported figures
    python benchmarks/decision_against_frigate.py --tuning   # the seeds defaults were chosen on

A stream is one zone for one day at 5 frames a second. Its truth lasts 600 s at a time
(exponential, at least 20 s). Its feature is the true class's mean plus noise of variance 1, of
which a part is white and a part keeps its value for a while (AR(1)); the probabilities are the
exact posterior of one frame, so they are calibrated, as a bundle's are. In some streams somebody
walks past: for a second or so the feature comes from another class.

Frigate's rule (frigate/data_processing/real_time/custom_classification.py, state classification
with its defaults): a look every 0.5 s; the probability rounded to two decimals; below 0.8 the look
is skipped and nothing is reset; three equal labels in a row, other than the current one, are a
change.

A change is false when the state that it announces is not the true one at that time. Delay is from a
true change to the first announcement of it. A true change that ends before it is announced is
missed and counted apart.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.decision import StateFilter
from transom.bundle import TaskSpec
from transom.config import DecisionConfig
from transom.tasks import UNKNOWN

CLASSES = ("closed", "ajar", "open")
FPS = 5.0
DAY_S = 86400.0
DWELL_S = 600.0
REPORTED_SEEDS = (201, 202, 203, 204, 205)
TUNING_SEEDS = (1, 2, 3, 4, 5, 6)

Floats = npt.NDArray[np.float32]
Rule = Callable[[Floats], list[tuple[int, int]]]


@dataclass(frozen=True)
class Scene:
    """How hard a stream is.

    Attributes:
        name: What it is called in the table.
        distance: Between two classes' means, in standard deviations of the noise.
        slow_share: Share of the noise's variance that is correlated in time.
        slow_s: Its correlation time.
        passers_per_hour: How often somebody walks past.
        passing_s: How long that takes, on average.
    """

    name: str
    distance: float
    slow_share: float
    slow_s: float
    passers_per_hour: float
    passing_s: float = 1.0


SCENES = (
    Scene("clear view", 5.0, 0.3, 0.5, 0.0),
    Scene("usual", 3.5, 0.5, 0.5, 0.0),
    Scene("poor light", 2.5, 0.5, 0.5, 0.0),
    Scene("slow noise", 3.5, 0.5, 1.0, 0.0),
    Scene("passers-by", 4.0, 0.3, 0.5, 6.0),
)


@dataclass
class Score:
    """What a rule did in one or more days."""

    days: float = 0.0
    changes: int = 0
    missed: int = 0
    false: int = 0
    delays_s: list[float] = field(default_factory=list)
    unknown_share: float = 0.0


def make_day(scene: Scene, seed: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the true class (N,) and the probabilities (N, 3) of one day."""
    random = np.random.default_rng([seed, sum(scene.name.encode())])
    count = int(DAY_S * FPS)
    truth = _truth(random, count)
    shown = _with_passers(random, truth, scene)
    # Means at the corners of an equilateral triangle, `distance` apart; noise in three dimensions.
    means = np.eye(3) * scene.distance / np.sqrt(2.0)
    keep = np.exp(-1.0 / (FPS * scene.slow_s))
    slow = _autoregressive(random, count, keep)
    noise = np.sqrt(scene.slow_share) * slow
    noise += np.sqrt(1.0 - scene.slow_share) * random.standard_normal((count, 3))
    feature = means[shown] + noise
    logits = -0.5 * ((feature[:, None, :] - means[None]) ** 2).sum(axis=2)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return truth, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _truth(random: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    truth = np.zeros(count, np.int64)
    start, state = 0, 0
    while start < count:
        length = int(FPS * (20.0 + random.exponential(DWELL_S - 20.0)))
        truth[start : start + length] = state
        start, state = start + length, (state + int(random.integers(1, 3))) % 3
    return truth


def _with_passers(
    random: np.random.Generator, truth: npt.NDArray[np.int64], scene: Scene
) -> npt.NDArray[np.int64]:
    shown = truth.copy()
    for start in np.flatnonzero(random.random(len(truth)) < scene.passers_per_hour / 3600.0 / FPS):
        length = max(1, round(FPS * random.exponential(scene.passing_s)))
        shown[start : start + length] = (truth[start] + int(random.integers(1, 3))) % 3
    return shown


def _autoregressive(
    random: np.random.Generator, count: int, keep: float
) -> npt.NDArray[np.float64]:
    steps = random.standard_normal((count, 3)) * np.sqrt(1.0 - keep**2)
    value = random.standard_normal(3)
    values = np.empty((count, 3))
    for index in range(count):
        value = keep * value + steps[index]
        values[index] = value
    return values


def transom_rule(config: DecisionConfig) -> Rule:
    """Return the daemon's own filter as a rule."""
    spec = TaskSpec(name="state", classes=CLASSES, ordinal=True, thresholds=(0.6, 0.6, 0.6))

    def rule(probabilities: Floats) -> list[tuple[int, int]]:
        state_filter = StateFilter(spec, config)
        announced = []
        for index, row in enumerate(probabilities):
            decision = state_filter.update(row, index / FPS)
            if decision.changed:
                state = -1 if decision.state == UNKNOWN else CLASSES.index(decision.state)
                announced.append((index, state))
        return announced

    return rule


def frigate_rule(probabilities: Floats) -> list[tuple[int, int]]:
    """Return the changes that Frigate's state classification announces, with its defaults."""
    announced: list[tuple[int, int]] = []
    labels, scores = probabilities.argmax(axis=1), probabilities.max(axis=1).round(2)
    current, pending, agreeing, looked_s = None, None, 0, -1.0
    for index, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        now_s = index / FPS
        if now_s - looked_s < 0.5:
            continue
        looked_s = now_s
        if score < 0.8:
            continue
        if label == current:
            pending = None
            continue
        agreeing = agreeing + 1 if label == pending else 1
        pending = label
        if agreeing >= 3:
            current, pending = label, None
            announced.append((index, label))
    return announced


def add_score(score: Score, truth: npt.NDArray[np.int64], announced: list[tuple[int, int]]) -> None:
    """Add one day's announcements to a score."""
    starts = np.flatnonzero(np.diff(truth)) + 1
    ends = np.append(starts[1:], len(truth))
    known = [(index, state) for index, state in announced if state >= 0]
    # Coming back from unknown to the state last announced is not a change of a door.
    changes = [item for i, item in enumerate(known) if i == 0 or known[i - 1][1] != item[1]]
    score.false += sum(truth[index] != state for index, state in changes[1:])
    times, states = np.array([c[0] for c in changes]), np.array([c[1] for c in changes])
    for start, end in zip(starts, ends, strict=True):
        inside = (times >= start) & (times < end) & (states == truth[start])
        if inside.any():
            score.delays_s.append((times[inside][0] - start) / FPS)
        else:
            score.missed += 1
    score.changes += len(starts)
    score.days += len(truth) / FPS / DAY_S
    bounds = [*announced, (len(truth), -1)]
    unknown = sum(b[0] - a[0] for a, b in itertools.pairwise(bounds) if a[1] < 0)
    score.unknown_share += unknown / len(truth)


def summary(score: Score) -> dict[str, float]:
    """Return the figures of a score."""
    delays = np.array(score.delays_s)
    return {
        "false_per_day": score.false / score.days,
        "delay_median_s": float(np.median(delays)),
        "delay_mean_s": float(delays.mean()),
        "delay_p95_s": float(np.quantile(delays, 0.95)),
        "missed_share": score.missed / score.changes,
        "unknown_share": score.unknown_share / score.days,
    }


def compare(scene: Scene, seeds: tuple[int, ...], config: DecisionConfig) -> dict[str, Any]:
    """Run both rules over the same days of one scene; return their scores and what they cost."""
    rules: dict[str, Rule] = {"transom": transom_rule(config), "frigate": frigate_rule}
    scores = {name: Score() for name in rules}
    right, spent_s, looks = 0.0, 0.0, 0
    for seed in seeds:
        truth, probabilities = make_day(scene, seed)
        right += float((probabilities.argmax(axis=1) == truth).mean()) / len(seeds)
        for name, rule in rules.items():
            began = time.perf_counter()
            announced = rule(probabilities)
            if name == "transom":
                spent_s += time.perf_counter() - began
                looks += len(probabilities)
            add_score(scores[name], truth, announced)
    return {"frame_accuracy": right, "update_us": 1e6 * spent_s / looks, "scores": scores}


def pool(scores: list[Score]) -> Score:
    """Return the score over all scenes: false changes per day on average, every delay counted."""
    return Score(
        days=sum(score.days for score in scores),
        changes=sum(score.changes for score in scores),
        missed=sum(score.missed for score in scores),
        false=sum(score.false for score in scores),
        delays_s=[delay for score in scores for delay in score.delays_s],
        unknown_share=sum(score.unknown_share for score in scores),
    )


def show(name: str, accuracy: float | None, scores: dict[str, Score], as_json: bool) -> None:
    """Print one scene: two rows of the table, or one JSON line."""
    summaries = {rule: summary(score) for rule, score in scores.items()}
    if as_json:
        print(json.dumps({"scene": name, "frame_accuracy": accuracy, **summaries}), flush=True)
        return
    shown = "" if accuracy is None else f"{accuracy:.1%}"
    for rule in ("frigate", "transom"):
        figures = summaries[rule]
        print(
            f"{name:12} {shown:>12}  {rule:8}"
            f" {figures['false_per_day']:9.2f} {figures['delay_median_s']:9.1f}"
            f" {figures['delay_mean_s']:7.2f} {figures['delay_p95_s']:6.1f}"
            f" {figures['missed_share']:7.1%} {figures['unknown_share']:8.2%}",
            flush=True,
        )


def main() -> None:
    """Print the table, or one JSON line a scene."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tuning", action="store_true", help="the seeds the defaults came from")
    parser.add_argument("--json", action="store_true", help="one JSON object a scene")
    parser.add_argument("--budget", type=float, help="false changes per zone and day")
    parser.add_argument("--correlation", type=float, help="correlation time in seconds")
    arguments = parser.parse_args()
    given = {"false_changes_per_day": arguments.budget, "correlation_s": arguments.correlation}
    config = DecisionConfig(**{key: value for key, value in given.items() if value is not None})
    seeds = TUNING_SEEDS if arguments.tuning else REPORTED_SEEDS
    if not arguments.json:
        print(f"{config}\nseeds {seeds}, one day each")
        print(
            f"{'scene':12} {'frames right':>12}  {'rule':8} {'false/day':>9} {'median s':>9}"
            f" {'mean s':>7} {'p95 s':>6} {'missed':>7} {'unknown':>8}"
        )
    rows = []
    for scene in SCENES:
        rows.append(compare(scene, seeds, config))
        show(scene.name, rows[-1]["frame_accuracy"], rows[-1]["scores"], arguments.json)
    pooled = {rule: pool([row["scores"][rule] for row in rows]) for rule in ("frigate", "transom")}
    show("all", None, pooled, arguments.json)
    if not arguments.json:
        cost_us = sum(row["update_us"] for row in rows) / len(rows)
        print(f"one update of the filter: {cost_us:.1f} us")


if __name__ == "__main__":
    main()
