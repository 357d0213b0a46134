"""Streams of probabilities with their truth, for comparing rules of decision.

`make_stream` draws one zone for six hours at 5 frames a second. Its truth lasts 600 s at a time
(exponential, at least 20 s). Its feature is the shown class's mean plus noise of variance 1, of
which a part is white and a part keeps its value for a while (AR(1)); the probabilities are the
exact posterior of one frame, so they are calibrated, as a bundle's are. In some streams somebody
walks past: for a second or so the feature comes from another class.

Some streams also say how much the zone moved. There a leaf swings for half a second to one and a
half, showing the old class, then the one between, then the new one; whoever walks past moves; so
does the zone for a few seconds now and then without anything happening (a curtain, a shadow, a
cat), and one moving frame in ten is not noticed. In some of these the zone moves all the time as
well, from trees, rain or a shaken camera, in gusts.

`record` plays a clip through the daemon's crop, network and motion gate instead, if wanted as a
camera would see it whose picture never rests (`benchmarks/restless_pictures.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.restless_pictures import Disturb, still
from edge_runtime.capture_process import Pace
from edge_runtime.classifier import Classifier
from edge_runtime.clips import read_file
from edge_runtime.motion import GATE_PX, MotionGate
from transom.bundle import Bundle
from transom.crop import crop_zone, grey_zone
from transom.geometry import Zone
from transom.preprocess import preprocess

FPS = 5.0
STREAM_S = 21600.0
DWELL_S = 600.0

_NOTICED = 0.9
"""Share of the frames with motion in which a gate sees it."""
_AMOUNT_SPREAD = 0.4
"""Of the logarithm of how much a leaf or a passer moves, from frame to frame."""
_GUST_S = 3.0

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


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
        has_motion: Whether the stream says what moved, and leaves swing instead of jumping.
        stirs_per_hour: How often the zone moves without anything happening, for 3 s on average.
        sway: How much it moves all the time, in the median, as a part of what a leaf or somebody
            does; 0 = not at all.
        gusts: Standard deviation of the logarithm of that.
        sways_for_s: How long it goes on, on average, before as long a calm; None = for ever.
    """

    name: str
    distance: float
    slow_share: float
    slow_s: float
    passers_per_hour: float
    passing_s: float = 1.0
    has_motion: bool = False
    stirs_per_hour: float = 10.0
    sway: float = 0.0
    gusts: float = 0.5
    sways_for_s: float | None = None


@dataclass(frozen=True)
class Stream:
    """One zone, frame by frame.

    Attributes:
        truth: (N,) the true class, the new one from the moment a leaf begins to move.
        swings: (N,) whether a leaf is moving between two classes.
        probabilities: (N, C) float32.
        amounts: (N,) how much the zone moved, 0 = not at all; None = not known.
    """

    truth: Ints
    swings: Bools
    probabilities: Floats
    amounts: Floats | None = field(default=None)


def make_stream(scene: Scene, seed: int) -> Stream:
    """Draw six hours."""
    random = np.random.default_rng([seed, sum(scene.name.encode())])
    count = int(STREAM_S * FPS)
    truth = _truth(random, count)
    shown, swings, amounts = truth.copy(), np.zeros(count, bool), np.zeros(count)
    if scene.has_motion:
        _swing(random, truth, shown, swings)
        amounts += swings
        for start, length in _spells(random, count, scene.stirs_per_hour, 3.0):
            amounts[start : start + length] = 1.0
    for start, length in _spells(random, count, scene.passers_per_hour, scene.passing_s):
        shown[start : start + length] = (truth[start] + int(random.integers(1, 3))) % 3
        amounts[start : start + length + 1] = 1.0
    amounts[random.random(count) >= _NOTICED] = 0.0
    probabilities = _posteriors(random, shown, scene)
    if not scene.has_motion:
        return Stream(truth, swings, probabilities)
    amounts *= random.lognormal(0.0, _AMOUNT_SPREAD, count)
    if scene.sway:
        amounts = np.hypot(amounts, _sway(random, count, scene))
    return Stream(truth, swings, probabilities, amounts.astype(np.float32))


def _sway(random: np.random.Generator, count: int, scene: Scene) -> npt.NDArray[np.float64]:
    strength = _autoregressive(random, count, np.exp(-1.0 / (FPS * _GUST_S)))[:, 0]
    amounts = scene.sway * np.exp(scene.gusts * strength)
    amounts[random.random(count) >= _NOTICED] = 0.0
    if scene.sways_for_s is not None:
        turns = random.random(count) < 1.0 / (FPS * scene.sways_for_s)
        amounts[np.cumsum(turns) % 2 == 1] = 0.0
    return amounts


def _truth(random: np.random.Generator, count: int) -> Ints:
    truth = np.zeros(count, np.int64)
    start, state = 0, 0
    while start < count:
        length = int(FPS * (20.0 + random.exponential(DWELL_S - 20.0)))
        truth[start : start + length] = state
        start, state = start + length, (state + int(random.integers(1, 3))) % 3
    return truth


def _swing(random: np.random.Generator, truth: Ints, shown: Ints, swings: Bools) -> None:
    for start in np.flatnonzero(np.diff(truth)) + 1:
        length = round(FPS * random.uniform(0.5, 1.5))
        old, new = int(truth[start - 1]), int(truth[start])
        path = np.linspace(old, new, length + 2)[1:-1]
        count = len(shown[start : start + length])  # the stream may end in the middle of it
        shown[start : start + length] = np.rint(path).astype(np.int64)[:count]
        swings[start : start + length] = True


def _spells(
    random: np.random.Generator, count: int, per_hour: float, mean_s: float
) -> Iterator[tuple[int, int]]:
    for start in np.flatnonzero(random.random(count) < per_hour / 3600.0 / FPS).tolist():
        yield start, max(1, round(FPS * random.exponential(mean_s)))


def _posteriors(random: np.random.Generator, shown: Ints, scene: Scene) -> Floats:
    # Means at the corners of an equilateral triangle, `distance` apart; noise in three dimensions.
    count = len(shown)
    means = np.eye(3) * scene.distance / np.sqrt(2.0)
    slow = _autoregressive(random, count, np.exp(-1.0 / (FPS * scene.slow_s)))
    noise = np.sqrt(scene.slow_share) * slow
    noise += np.sqrt(1.0 - scene.slow_share) * random.standard_normal((count, 3))
    feature = means[shown] + noise
    logits = -0.5 * ((feature[:, None, :] - means[None]) ** 2).sum(axis=2)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


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


def record(
    clip: Path,
    zone: Zone,
    bundle: Bundle,
    task: str,
    truth: Ints,
    swings: Bools,
    disturb: Disturb = still,
) -> Stream:
    """Judge every frame of a clip that a camera of 5 frames a second would deliver.

    Args:
        clip: The video.
        zone: Where to look.
        bundle: Whose network is asked.
        task: The task whose classes the truth counts.
        truth: (F,) class of every frame of the video.
        swings: (F,) whether a leaf is moving in it.
        disturb: How the camera sees it.
    """
    classifier, gate, pace = Classifier(bundle), MotionGate(), Pace(FPS)
    spec = bundle.manifest.input
    kept, rows, amounts = [], [], []
    for number, picture in enumerate(read_file(clip)):
        if number >= len(truth) or not pace.is_due(int(picture.clip_s * 1e9)):
            continue
        image = disturb(picture.image, picture.clip_s)
        crop = crop_zone(image, zone, spec.size, spec.margin)
        gate.is_due(grey_zone(image, zone, GATE_PX, spec.margin), picture.clip_s)
        crops = preprocess(crop, spec.preprocess)[None]
        rows.append(classifier.classify(crops).predictions[task].probabilities[0])
        amounts.append(gate.amount)
        kept.append(number)
    return Stream(truth[kept], swings[kept], np.stack(rows), np.array(amounts, np.float32))
