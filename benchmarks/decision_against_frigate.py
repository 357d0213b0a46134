"""Compare Transom's decision filter with Frigate's rule, on the same streams of probabilities.

    python -m benchmarks.decision_against_frigate                 # the reported figures
    python -m benchmarks.decision_against_frigate --tuning        # the seeds defaults came from
    python -m benchmarks.decision_against_frigate --recorded      # drawn rooms, the starter's words
    python -m benchmarks.decision_against_frigate --restless      # the same, under trees, in rain …
    python -m benchmarks.decision_against_frigate --clip FOLDER   # the real clip, with states.csv
    python -m benchmarks.decision_against_frigate --steady        # how long a steady view takes

How streams are made: `benchmarks/decision_streams.py`. Where a stream says what moved, the filter
is told, as the daemon tells it; Frigate's rule has no use for it. In the rows "any motion" all
motion is told as unusual, in "without motion" none is told.

Frigate's rule (frigate/data_processing/real_time/custom_classification.py, state classification
with its defaults): a look every 0.5 s; the probability rounded to two decimals; below 0.8 the look
is skipped and nothing is reset; three equal labels in a row, other than the current one, are a
change.

A change is false when the state that it announces is not the true one at that time; while a leaf
swings nothing is false. Delay is from a true change (of a swinging leaf: from the beginning of the
swing) to the first announcement of it. A true change that ends before it is announced is missed and
counted apart; "both s" is the mean delay of those changes that the rule and Frigate's announced.

`--steady`: a door that a network called closed with 0.95 for ten minutes opens, is called so with
some steady probability from then on, in every frame, and the rest is shared by the two other
classes. Seconds until it is announced, by how the zone moves meanwhile; a dash where it never is.
"""

import argparse
import csv
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.decision_streams import FPS, Bools, Ints, Scene, Stream, make_stream, record
from benchmarks.restless_pictures import DISTURBANCES, Disturb, still
from edge_runtime.decision import StateFilter
from edge_runtime.motion import Motion, UsualMotion
from train.scenes.clip import SUBJECTS, Move, generate_clip
from transom.bundle import Bundle, read_bundle
from transom.config import DecisionConfig
from transom.geometry import Zone
from transom.manifest import TaskSpec
from transom.starter import STARTER, bundle_path
from transom.tasks import UNKNOWN

CLASSES = ("closed", "ajar", "open")
REPORTED_SEEDS = (401, 402, 403, 404, 405)
TUNING_SEEDS = (1, 2, 3, 4, 5, 6)
CLIP_SEEDS = (31_000, 31_001, 31_002, 31_003)
CLIP_FPS = 5
CLIP_S = 150.0
DAY_S = 86400.0
STEADY = (0.6, 0.7, 0.78, 0.85, 0.9, 0.95, 0.99)
STEADY_S = 600.0
MOTIONS: tuple[Motion, ...] = ("none", "usual", "unusual")

Rule = Callable[[Stream], list[tuple[int, int]]]

SCENES = (
    Scene("clear view", 5.0, 0.3, 0.5, 0.0),
    Scene("usual", 3.5, 0.5, 0.5, 0.0),
    Scene("poor light", 2.5, 0.5, 0.5, 0.0),
    Scene("slow noise", 3.5, 0.5, 1.0, 0.0),
    Scene("passers-by", 4.0, 0.3, 0.5, 6.0),
    Scene("swings", 3.5, 0.5, 0.5, 0.0, has_motion=True),
    Scene("swings, busy", 3.5, 0.5, 0.5, 6.0, has_motion=True, stirs_per_hour=60.0),
    Scene("swings, passers-by", 4.0, 0.3, 0.5, 6.0, has_motion=True),
    Scene("swings, slow passers", 4.0, 0.3, 0.5, 6.0, passing_s=2.0, has_motion=True),
    Scene("trees", 3.5, 0.5, 1.0, 6.0, has_motion=True, sway=0.2),
    Scene("trees in gusts", 3.5, 0.5, 1.0, 6.0, has_motion=True, sway=0.2, gusts=1.0),
    Scene("wind now and then", 3.5, 0.5, 1.0, 6.0, has_motion=True, sway=0.2, sways_for_s=600.0),
    Scene("rain", 3.0, 0.3, 0.5, 6.0, has_motion=True, sway=0.4, gusts=0.2),
    Scene("shaken camera", 3.5, 0.5, 0.5, 6.0, has_motion=True, sway=0.8),
)


@dataclass
class Score:
    """What a rule did in one or more days."""

    days: float = 0.0
    changes: int = 0
    missed: int = 0
    false: int = 0
    delays_s: list[float] = field(default_factory=list)
    delay_of_s: dict[tuple[int, int], float] = field(default_factory=dict)
    unknown_days: float = 0.0


Knows = Literal["usual motion", "any motion", "no motion"]
"""What the filter is told: motion as the daemon tells it, all of it as unusual, or none."""


def transom_rule(config: DecisionConfig, knows: Knows = "usual motion") -> Rule:
    """Return the daemon's own filter as a rule."""
    spec = TaskSpec(name="state", classes=CLASSES, ordinal=True, thresholds=(0.6, 0.6, 0.6))

    def rule(stream: Stream) -> list[tuple[int, int]]:
        state_filter = StateFilter(spec, config)
        announced = []
        motions = _motions(stream, knows)
        for index, row in enumerate(stream.probabilities):
            decision = state_filter.update(row, index / FPS, motion=motions[index])
            if decision.changed:
                state = -1 if decision.state == UNKNOWN else CLASSES.index(decision.state)
                announced.append((index, state))
        return announced

    return rule


def _motions(stream: Stream, knows: Knows) -> list[Motion | None]:
    if stream.amounts is None or knows == "no motion":
        return [None] * len(stream.truth)
    if knows == "any motion":
        return ["none" if amount == 0.0 else "unusual" for amount in stream.amounts]
    usual = UsualMotion()
    return [usual.judge(amount, n / FPS) for n, amount in enumerate(stream.amounts.tolist())]


def frigate_rule(stream: Stream) -> list[tuple[int, int]]:
    """Return the changes that Frigate's state classification announces, with its defaults."""
    announced: list[tuple[int, int]] = []
    probabilities = stream.probabilities
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


def add_score(
    score: Score, stream: Stream, announced: list[tuple[int, int]], number: int = 0
) -> None:
    """Add the announcements in a stream, of this number, to a score."""
    truth = stream.truth
    starts = np.flatnonzero(np.diff(truth)) + 1
    ends = np.append(starts[1:], len(truth))
    known = [(index, state) for index, state in announced if state >= 0]
    # Coming back from unknown to the state last announced is not a change of a door.
    changes = [item for i, item in enumerate(known) if i == 0 or known[i - 1][1] != item[1]]
    score.false += sum(
        truth[index] != state and not stream.swings[index] for index, state in changes[1:]
    )
    times, states = np.array([c[0] for c in changes]), np.array([c[1] for c in changes])
    for start, end in zip(starts, ends, strict=True):
        inside = (times >= start) & (times < end) & (states == truth[start])
        if inside.any():
            score.delays_s.append((times[inside][0] - start) / FPS)
            score.delay_of_s[number, int(start)] = score.delays_s[-1]
        else:
            score.missed += 1
    score.changes += len(starts)
    score.days += len(truth) / FPS / DAY_S
    bounds = [*announced, (len(truth), -1)]
    unknown = sum(b[0] - a[0] for a, b in itertools.pairwise(bounds) if a[1] < 0)
    score.unknown_days += unknown / FPS / DAY_S


def summary(score: Score, other: Score) -> dict[str, float]:
    """Return the figures of a score; those of delay also for changes that `other` has as well."""
    delays = np.array(score.delays_s or [np.nan])
    both = [delay for key, delay in score.delay_of_s.items() if key in other.delay_of_s]
    return {
        "false_per_day": score.false / score.days,
        "delay_median_s": float(np.median(delays)),
        "delay_mean_s": float(delays.mean()),
        "delay_p95_s": float(np.quantile(delays, 0.95)),
        "delay_mean_of_both_s": float(np.mean(both or [np.nan])),
        "missed_share": score.missed / max(score.changes, 1),
        "unknown_share": score.unknown_days / score.days,
    }


def compare(streams: list[Stream], config: DecisionConfig) -> dict[str, Any]:
    """Run the rules over the same streams; return their scores and what they cost."""
    rules: dict[str, Rule] = {"frigate": frigate_rule, "transom": transom_rule(config)}
    if any(stream.amounts is not None for stream in streams):
        rules["any motion"] = transom_rule(config, "any motion")
        rules["without motion"] = transom_rule(config, "no motion")
    scores = {name: Score() for name in rules}
    right, spent_s, looks = 0.0, 0.0, 0
    for number, stream in enumerate(streams):
        is_right = stream.probabilities.argmax(axis=1) == stream.truth
        right += float(is_right.mean()) / len(streams)
        for name, rule in rules.items():
            began = time.perf_counter()
            announced = rule(stream)
            if name == "transom":
                spent_s += time.perf_counter() - began
                looks += len(is_right)
            add_score(scores[name], stream, announced, number)
    return {"frame_accuracy": right, "update_us": 1e6 * spent_s / looks, "scores": scores}


def drawn_rooms(
    folder: Path, bundle: Bundle, disturbances: dict[str, Disturb]
) -> Iterator[tuple[str, list[Stream]]]:
    """Yield what a bundle says of the door and the window of drawn rooms, a clip at a time."""
    for number, seed in enumerate(CLIP_SEEDS):
        path = folder / f"{seed}.mp4"
        moves = _draw_moves(np.random.default_rng(seed))
        truth = generate_clip(path, seed=seed, seconds=CLIP_S, fps=CLIP_FPS, script=moves)
        for name, disturb in disturbances.items():
            yield (
                f"room {number}, {name}",
                [
                    record(path, truth.zones[of], bundle, "state", *_truth_of(moves, of), disturb)
                    for of in SUBJECTS
                ],
            )


def _draw_moves(random: np.random.Generator) -> list[Move]:
    """Return a script: every six seconds a leaf moves or somebody walks past, one after another."""
    moves: list[Move] = []
    states = dict.fromkeys(SUBJECTS, "closed")
    for start_s in np.arange(6.0, CLIP_S - 8.0, 6.0).tolist():
        if random.random() < 0.4:
            way = str(random.choice(["left", "right"]))
            moves.append(Move("person", start_s, float(random.uniform(3.0, 5.0)), way))
            continue
        subject = str(random.choice(SUBJECTS))
        states[subject] = str(random.choice([c for c in CLASSES if c != states[subject]]))
        moves.append(Move(subject, start_s, float(random.uniform(0.6, 1.6)), states[subject]))
    return moves


def _truth_of(moves: list[Move], subject: str) -> tuple[Ints, Bools]:
    frames = round(CLIP_S * CLIP_FPS)
    truth, swings = np.zeros(frames, np.int64), np.zeros(frames, bool)
    for move in moves:
        if move.subject == subject:
            first = round(move.start_s * CLIP_FPS)
            truth[first:] = CLASSES.index(move.to)
            swings[first : first + round(move.duration_s * CLIP_FPS)] = True
    return truth, swings


def real_clip(folder: Path, zone: Zone, bundle: Bundle) -> Stream:
    """Return what a bundle says of a zone of a clip whose folder has a `states.csv`."""
    with (folder / "states.csv").open() as file:
        rows = list(csv.DictReader(file))
    frames = 1 + max(int(row["end_frame"] or row["start_frame"]) for row in rows) + 100
    truth = np.zeros(frames, np.int64)
    for row in rows:
        truth[int(row["start_frame"]) :] = CLASSES.index(row["state"])
    return record(folder / rows[0]["clip"], zone, bundle, "state", truth, truth == 1)


def pool(scores: list[Score]) -> Score:
    """Return the score over all scenes: false changes per day on average, every delay counted."""
    return Score(
        days=sum(score.days for score in scores),
        changes=sum(score.changes for score in scores),
        missed=sum(score.missed for score in scores),
        false=sum(score.false for score in scores),
        delays_s=[delay for score in scores for delay in score.delays_s],
        delay_of_s={
            (1000 * group + key[0], key[1]): delay
            for group, score in enumerate(scores)
            for key, delay in score.delay_of_s.items()
        },
        unknown_days=sum(score.unknown_days for score in scores),
    )


def show(name: str, accuracy: float | None, scores: dict[str, Score], as_json: bool) -> None:
    """Print one scene: a row of the table for each rule, or one JSON line."""
    summaries = {rule: summary(score, scores["frigate"]) for rule, score in scores.items()}
    if as_json:
        print(json.dumps({"scene": name, "frame_accuracy": accuracy, **summaries}), flush=True)
        return
    shown = "" if accuracy is None else f"{accuracy:.1%}"
    for rule, figures in summaries.items():
        print(
            f"{name:20} {shown:>12}  {rule:14}"
            f" {figures['false_per_day']:9.2f} {figures['delay_median_s']:9.1f}"
            f" {figures['delay_mean_s']:7.2f} {figures['delay_p95_s']:6.1f}"
            f" {figures['delay_mean_of_both_s']:7.2f} {figures['missed_share']:7.1%}"
            f" {figures['unknown_share']:8.2%}",
            flush=True,
        )


def steady_delays(probability: float, config: DecisionConfig) -> dict[str, float | None]:
    """Return by rule, and for Transom's by motion, when a change seen steadily is announced, s."""
    closed, after = round(STEADY_S * FPS), round(60.0 * FPS)
    rest = (1.0 - probability) / 2.0
    rows = np.full((closed + after, 3), 0.025, np.float32)
    rows[:closed, 0] = 0.95
    rows[closed:] = rest, rest, probability
    truth = np.where(np.arange(len(rows)) < closed, 0, 2)
    stream = Stream(truth, np.zeros(len(rows), bool), rows)
    found = {"frigate": frigate_rule(stream)}
    for motion in MOTIONS:
        spec = TaskSpec(name="state", classes=CLASSES, ordinal=True, thresholds=(0.6, 0.6, 0.6))
        state_filter = StateFilter(spec, config)
        decisions = [
            state_filter.update(row, n / FPS, motion="none" if n < closed else motion)
            for n, row in enumerate(rows)
        ]
        found[motion] = [(n, 2) for n, d in enumerate(decisions) if d.changed and d.state == "open"]
    return {
        name: next(((index - closed) / FPS for index, state in changes if state == 2), None)
        for name, changes in found.items()
    }


def show_steady(config: DecisionConfig) -> None:
    """Print how long a steady view of a change takes to be announced."""
    print(f"{config}\n{'probability':>11} {'frigate':>8}" + "".join(f" {m:>8}" for m in MOTIONS))
    for probability in STEADY:
        cells = steady_delays(probability, config).values()
        shown = "".join(f" {'-' if s is None else format(s, '.1f'):>8}" for s in cells)
        print(f"{probability:11.2f}{shown}")


def _groups(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Stream]]]:
    if arguments.recorded or arguments.restless or arguments.clip:
        bundle = read_bundle(arguments.bundle or bundle_path(STARTER), None)
        if arguments.clip:
            yield "real clip", [real_clip(arguments.clip, Zone.from_text(arguments.zone), bundle)]
            return
        seen = DISTURBANCES if arguments.restless else {"still": still}
        with tempfile.TemporaryDirectory() as folder:
            yield from drawn_rooms(Path(folder), bundle, seen)
        return
    seeds = arguments.seeds or (TUNING_SEEDS if arguments.tuning else REPORTED_SEEDS)
    for scene in SCENES:
        yield scene.name, [make_stream(scene, seed) for seed in seeds]


def main() -> None:
    """Print the table, or one JSON line a scene."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tuning", action="store_true", help="the seeds the defaults came from")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the streams, instead of these")
    parser.add_argument("--recorded", action="store_true", help="drawn rooms, judged by a bundle")
    parser.add_argument("--restless", action="store_true", help="the same, under trees, in rain …")
    parser.add_argument("--steady", action="store_true", help="how long a steady view takes")
    parser.add_argument("--clip", type=Path, help="folder of a real clip and its states.csv")
    parser.add_argument("--zone", default="0 0 1 0 1 1 0 1", help="of the clip, in fractions")
    parser.add_argument("--bundle", type=Path, help="who judges clips; default: the starter")
    parser.add_argument("--json", action="store_true", help="one JSON object a scene")
    parser.add_argument("--budget", type=float, help="false changes per zone and day")
    parser.add_argument("--correlation", type=float, help="correlation time in seconds")
    parser.add_argument("--passing", type=float, help="correlation time in motion, seconds")
    arguments = parser.parse_args()
    given = {
        "false_changes_per_day": arguments.budget,
        "correlation_s": arguments.correlation,
        "passing_s": arguments.passing,
    }
    config = DecisionConfig(**{key: value for key, value in given.items() if value is not None})
    if arguments.steady:
        show_steady(config)
        return
    if not arguments.json:
        print(
            f"{config}\n{'scene':20} {'frames right':>12}  {'rule':14} {'false/day':>9}"
            f" {'median s':>9} {'mean s':>7} {'p95 s':>6} {'both s':>7} {'missed':>7}"
            f" {'unknown':>8}"
        )
    rows = []
    for name, streams in _groups(arguments):
        rows.append(compare(streams, config))
        show(name, rows[-1]["frame_accuracy"], rows[-1]["scores"], arguments.json)
    pooled = {rule: pool([row["scores"][rule] for row in rows]) for rule in ("frigate", "transom")}
    show("all", None, pooled, arguments.json)
    if not arguments.json:
        cost_us = sum(row["update_us"] for row in rows) / len(rows)
        print(f"one update of the filter: {cost_us:.1f} us")


if __name__ == "__main__":
    main()
