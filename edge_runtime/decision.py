"""From per-frame probabilities to a state that is worth telling: a forward filter with a budget.

**Model.** A zone is in one of C states. It leaves its state at a rate of 1 / `settle_s`, for any
of the others alike: a hidden Markov chain in continuous time. The network's probabilities are
calibrated, so their ratios are likelihood ratios (of a training set with its classes in balance),
and Bayes' rule gives the forward filter (Rabiner 1989, eq. 19 and 20):

    predict   pi_j <- pi_j moved by the chain over dt
    observe   pi_j <- pi_j * q_j ** w, normalised

**A network may be wrong with conviction**, so q_j = p_j mixed with a share `OUTLIER_SHARE` of
"says nothing": no single look weighs more than ln(C / OUTLIER_SHARE) nats or so.

**Frames are not independent.** Noise with the correlation time tau gives
frames dt apart a correlation rho = exp(-dt / tau), and n such frames tell as much as
n (1 - rho) / (1 + rho) independent ones (Bartlett 1946). Hence w = tanh(dt / (2 tau)): 30 frames
a second weigh no more than 5, and two frames a minute apart count in full. Tempering is safe
whatever the dependence inside a span of 2 tau: there the weights sum to at most 1, and by
Hölder's inequality E[prod LR_i ** w_i] <= prod E[LR_i] ** w_i = 1 when nothing has changed.

**The budget** is kept by Shiryaev and Roberts' statistic, in seconds, one for each state j that is
not the current state k:

    R_j <- (R_j + dt / (C - 1)) * (q_j / q_k) ** w

It is the odds that a change to j has happened, times the mean time between changes, in the limit
where changes are rare. While nothing changes, every prediction adds dt to their sum R and every
observation multiplies by a factor of mean <= 1: R - t is a supermartingale that starts at 0, so
reaching R_j = A takes A seconds at least on average (Pollak 1985). With A = 86400 / budget:

    change when R_j >= 86400 / false_changes_per_day  [seconds]

From rest, where R is about 2 tau, this is an accumulated evidence of

    h = ln(86400 / (false_changes_per_day * 2 tau))  nats.

What is paid for a smaller budget is delay, h / (nats per look) looks of 2 tau each, and it grows
with the logarithm of the budget only. The bound holds for a network that is right about its own
mistakes; against errors that last longer than tau (somebody stands in the door) no rule on single
pictures' probabilities helps but a longer tau.

**What moves.** A door does not change without moving, and what passes in front of one moves as long
as it is there. Where it is known how the zone moved since the look before, both are used. What
counts is motion that the zone does not have anyway (`edge_runtime.motion.UsualMotion`): trees
behind a window sway all day, and say nothing of who passes.

- tau is `correlation_s` at rest, where only the noise is wrong for a while, and `passing_s` in
  unusual motion, where looks resemble each other for as long as something takes to pass (a pulse of
  length D has the autocorrelation 1 - t / D, whose integral is D / 2). So a change is believed once
  the picture has come to rest in it, or to what is its rest. In usual motion tau is twice
  `correlation_s`: what moves all the time is seen to be wrong for longer than a picture's noise.
- What passes is gone again. A class that has been shown without interruption for `_PASSED_FACTOR`
  times `passing_s` is not somebody who passes, and its looks count as in usual motion. So whatever
  is told of motion, a class that is seen steadily is believed: at 0.9 within 4 s with the defaults.
- Changes begin likelier in a second of motion than in one of rest (`MOTION_RATIO`). dt is therefore
  counted as g dt in both statistics, with g the likelihood of a change in such a second against its
  mean over the past day. The mean of g is 1, so that the time in which a false change may happen
  stays the day's, and the budget holds however busy a zone is. A quiet zone, in which a second of
  motion means most, needs the fewest looks after it; a change that nothing was seen to move for
  needs ln(1 / g) nats more.

Where nothing is known of motion, tau is twice `correlation_s` and g is 1; then no rule can tell
somebody who looks like an open door from an open door, but by how long it lasts.

**Entering and leaving** are not the same. Every state is entered at pi_j >= `known_above`, with a
picture of it that is believed; another one than the last known must have reached the budget's R_j
as well, also after a spell of `unknown`, while the first after the start, or the same one again,
need no more. A state is left for `unknown` when no believed picture has come for `unknown_after_s`
(a doubt that passes is not news), or when the picture itself is unusable (`HARD_REASONS`) for
longer than `GRACE_S`; for longer where pictures are rare, so that one of them is no news either.

References:
    Rabiner, A tutorial on hidden Markov models, Proc. IEEE 77 (1989).
    Bartlett, On the theoretical specification of sampling properties, JRSS Suppl. 8 (1946).
    Shiryaev, On optimum methods in quickest detection problems, Theory Probab. Appl. 8 (1963).
    Roberts, A comparison of some control chart procedures, Technometrics 8 (1966).
    Pollak, Optimal detection of a change in distribution, Ann. Statist. 13 (1985).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.motion import Motion
from edge_runtime.picture import HEAL_S
from transom.config import DecisionConfig
from transom.manifest import TaskSpec
from transom.messages import Reason
from transom.tasks import UNKNOWN

OUTLIER_SHARE = 0.03
"""Share of looks that say nothing of the truth; bounds what one look can do."""

GRACE_S = 2.0
"""How long a picture may be unusable before the state is `unknown`: a headlight, a damaged frame.

Longer than `picture.HEAL_S`, so that one bad picture is no news; see `grace_s`."""

MOTION_RATIO: dict[Motion, float] = {"none": 1.0, "usual": 5.0, "unusual": 50.0}
"""How much likelier a change begins in a second with such motion than in a second of rest.

Not endless: a door may move while the camera is away, or too slowly for the gate, or by no more
than the trees behind it."""

FIRST_MEAN_RATIO = 2.5
"""Its mean that a filter expects at first: three quarters of an hour of unusual motion a day."""

HARD_REASONS: frozenset[Reason] = frozenset(
    {"gone", "frozen", "covered", "dark", "bright", "corrupt", "moved"}
)
"""Reasons of the camera or its picture, not of the network."""

DOUBTS: frozenset[Reason | None] = frozenset({"unlike", "unsure"})
"""Reasons of the network."""

DAY_S = 86400.0

_PATIENT_LOOKS = 3
"""How many intervals without a believed class are no news, however few looks there are."""

_BLIND_FACTOR = 2.0
"""How much longer errors last where motion is not told from rest or never ends: some pass by."""

_PASSED_FACTOR = 5.0
"""What is shown for so many times `passing_s`, longer than a walk past takes, does not pass."""

_LOOKS_AT_REST = 100
_HALVINGS = 50
_FLOOR = 1e-12
_MOST_S = 1e30


def grace_s(interval_s: float) -> float:
    """Return `GRACE_S`, or more where pictures are so rare that healing takes longer.

    Args:
        interval_s: Between two pictures that are judged.
    """
    # One picture to be the first good one, and some of another for those that come late.
    return max(GRACE_S, HEAL_S + 1.5 * interval_s)


def surest(config: DecisionConfig, fps: float, classes: int = 2) -> float:
    """Return how probable a state becomes, at most, in the clearest possible view that lasts.

    The chain gives some of it to the other classes before each look, which then takes most of that
    back. Where `known_above` is not below it, no state is ever told, or none but the first.

    Args:
        config: Of the filter.
        fps: Frames judged per second.
        classes: How many there are.
    """
    one_look = 1.0 - OUTLIER_SHARE + OUTLIER_SHARE / classes
    blind = _ceiling(config, fps, classes, _BLIND_FACTOR * config.correlation_s)
    return min(max(one_look, blind), _ceiling(config, fps, classes, config.correlation_s))


def _ceiling(config: DecisionConfig, fps: float, classes: int, correlation_s: float) -> float:
    """Return the probability of a class which another look that shows it leaves as it is."""
    kept = math.exp(-_rate(config, classes) / fps)
    spread = (1.0 - kept) / classes
    blank = OUTLIER_SHARE / classes
    odds = (blank / (1.0 - OUTLIER_SHARE + blank)) ** math.tanh(0.5 / fps / correlation_s)
    low, high = 1.0 / classes, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        its, others = middle * kept + spread, (1.0 - middle) * kept + (classes - 1) * spread
        if its / (its + others * odds) > middle:
            low = middle
        else:
            high = middle
    return low


def _rate(config: DecisionConfig, classes: int) -> float:
    """Return the rate at which the chain forgets its state, per second."""
    return classes / ((classes - 1) * config.settle_s)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a zone's state is now.

    Attributes:
        state: A class of the task, or `unknown`.
        confidence: The filter's probability of `state`, 0 to 1; 0 when unknown.
        changed: Whether `state` is another than before this update.
        previous: The state before this update.
        reason: Why the state is unknown; None when it is known.
    """

    state: str
    confidence: float
    changed: bool
    previous: str
    reason: Reason | None


class StateFilter:
    """The state of one zone, from the probabilities of its frames.

    Args:
        spec: The task whose class is the state, with its thresholds.
        config: Budget, dwell and patience.
        interval_s: Seconds between two frames, which bounds how short patience can be.

    Attributes:
        patience_s: Seconds without a believed picture after which the state is `unknown`.
    """

    def __init__(self, spec: TaskSpec, config: DecisionConfig, interval_s: float = 0.0) -> None:
        self._spec = spec
        self._classes = spec.classes
        self._thresholds = spec.thresholds
        self._config = config
        self._rate = _rate(config, len(spec.classes))
        self._change_at_s = min(DAY_S / config.false_changes_per_day, _MOST_S)
        self._passed_s = _PASSED_FACTOR * config.passing_s
        self.patience_s = max(config.unknown_after_s, _PATIENT_LOOKS * interval_s)
        self._grace_s = min(grace_s(interval_s), self.patience_s)
        self._posterior = [1.0 / len(spec.classes)] * len(spec.classes)
        self._changes_s = [0.0] * len(spec.classes)  # R_j of the module's derivation
        self._state: int | None = None
        self._known: int | None = None
        self._reason: Reason | None = "starting"
        self._observed_s: float | None = None
        self._believed_s: float | None = None
        self._mean_ratio = FIRST_MEAN_RATIO
        self._newest: list[float] | None = None
        self._shown: tuple[int, float] | None = None  # the class seen last, and since when
        self._unusable_since_s: float | None = None
        self._is_believed = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The states that there are."""
        return self._classes

    @property
    def last_known(self) -> str | None:
        """The last state that was not `unknown`; None before the first."""
        return None if self._known is None else self._classes[self._known]

    def shortest_change_s(self, fps: float) -> float:
        """Return how long the clearest possible view of a new state takes to be believed.

        It begins with motion, after a day without any, and is at rest from then on. Infinite where
        no state is ever believed; see `surest`.

        Args:
            fps: Frames judged per second.
        """
        if surest(self._config, fps, len(self._classes)) <= self._config.known_above:
            return math.inf
        old, new = np.eye(len(self._classes), dtype=np.float32)[:2]
        fresh = StateFilter(self._spec, self._config)
        fresh._mean_ratio = MOTION_RATIO["none"]
        rested = 0
        while rested < _LOOKS_AT_REST or fresh._state is None:
            fresh.update(old, rested / fps, motion="none")
            rested += 1
        motion: Motion = "unusual"
        looks = 1
        while not fresh.update(new, (rested - 1 + looks) / fps, motion=motion).changed:
            looks, motion = looks + 1, "none"
        return looks / fps

    @property
    def is_settled(self) -> bool:
        """Whether the newest picture was usable and leaves no doubt about the state.

        While it is False, every frame is worth a look, whether or not anything moves in it.
        """
        return (
            self._state is not None
            and self._is_believed
            and self._newest is not None
            and _top(self._newest) == self._state
            and self._posterior[self._state] >= self._config.known_above
        )

    def update(
        self,
        probabilities: npt.NDArray[np.float32] | None,
        now_s: float,
        reason: Reason | None = None,
        *,
        motion: Motion | None = None,
    ) -> Decision:
        """Take one look at the zone into account.

        Args:
            probabilities: (C,) float32, calibrated, summing to 1. None = no usable picture, or
                one unlike anything trained on.
            now_s: Monotonic seconds of the frame; never earlier than the one before.
            reason: Why there is no usable picture; ignored when there is one.
            motion: How the zone moved since the look before; None = not known.

        Raises:
            ValueError: The probabilities do not fit the task.
        """
        if probabilities is None:
            return self._without_picture(now_s, reason)
        if probabilities.shape != (len(self._classes),):
            raise ValueError(
                f"probabilities must be ({len(self._classes)},), got {probabilities.shape}"
            )
        self._newest = probabilities.tolist()
        if not all(map(math.isfinite, self._newest)):
            return self._without_picture(now_s, "unsure")
        if self._known is None or self._observed_s is None:
            motion = None  # no state yet that somebody could hide, or no picture to have moved from
        self._observe(self._newest, now_s, motion)
        self._unusable_since_s = None
        if self._is_believed or self._believed_s is None:
            self._believed_s = now_s
        top = _top(self._posterior)
        if top != self._state and self._may_enter(top):
            return self._enter(top)
        if self._state is None:
            return self._leave("unsure")
        if now_s - self._believed_s >= self.patience_s:
            return self._leave("unsure")
        return self._stay()

    @property
    def posterior(self) -> tuple[float, ...]:
        """How probable each state is now, in the order of the task's classes."""
        return tuple(self._posterior)

    @property
    def believed_s(self) -> float | None:
        """When a picture last showed the state without doubt, monotonic seconds."""
        return self._believed_s

    def resume(self, state: str) -> None:
        """Go on from a state of an earlier run: another one must reach the budget to be entered.

        How long nobody looked is not known, but for the last event's time, which may be days before
        the last look. So that time counts for nothing: a change then needs some looks more than it
        might, where otherwise the first picture would be enough for one, and a camera's first is
        not its best.

        Args:
            state: A class of the task.
        """
        self._known = self._classes.index(state)

    def take_over(self, before: "StateFilter") -> None:
        """Go on where the filter of another bundle ends: what it knows is of the door.

        The state is not settled until this one has seen a picture itself.

        Args:
            before: A filter of the same classes; it is used no more.

        Raises:
            ValueError: Its classes are others.
        """
        if before._classes != self._classes:
            raise ValueError(f"classes must be {self._classes}, are {before._classes}")
        self._posterior, self._changes_s = before._posterior, before._changes_s
        self._state, self._known, self._reason = before._state, before._known, before._reason
        self._observed_s, self._believed_s = before._observed_s, before._believed_s
        self._unusable_since_s, self._shown = before._unusable_since_s, before._shown
        self._mean_ratio = before._mean_ratio

    def hold(self, now_s: float) -> Decision:
        """Take into account that the picture is usable and shows what it did before."""
        self._unusable_since_s = None
        if self.is_settled and self._newest is not None:
            self._observe(self._newest, now_s, "none")
        if self._is_believed:
            self._believed_s = now_s
        return self._stay()

    def _observe(self, probabilities: list[float], now_s: float, motion: Motion | None) -> None:
        size = len(probabilities)
        top = _top(probabilities)
        self._is_believed = probabilities[top] >= self._thresholds[top]
        if self._shown is None or self._shown[0] != top:
            self._shown = (top, now_s)
        if motion == "unusual" and now_s - self._shown[1] >= self._passed_s:
            motion = "usual"
        is_first = self._observed_s is None
        elapsed_s = math.inf if self._observed_s is None else max(now_s - self._observed_s, 0.0)
        self._observed_s = now_s
        likely_s = self._likely_s(elapsed_s, motion)
        weight = math.tanh(elapsed_s / (2.0 * self._correlation_s(motion)))
        blank = OUTLIER_SHARE / size
        seen = [((1.0 - OUTLIER_SHARE) * p + blank) ** weight for p in probabilities]
        if self._known is not None:
            share_s = 0.0 if is_first else likely_s / (size - 1)
            current = seen[self._known]
            self._changes_s = [
                min((change_s + share_s) * q / current, _MOST_S)
                for change_s, q in zip(self._changes_s, seen, strict=True)
            ]
        kept = math.exp(-likely_s * self._rate)
        spread = (1.0 - kept) / size
        posterior = [
            (mass * kept + spread) * q for mass, q in zip(self._posterior, seen, strict=True)
        ]
        total = sum(posterior)
        self._posterior = [max(mass / total, _FLOOR) for mass in posterior]

    def _correlation_s(self, motion: Motion | None) -> float:
        at_rest_s = self._config.correlation_s
        blind_s = _BLIND_FACTOR * at_rest_s
        if motion == "none":
            return at_rest_s
        return max(self._config.passing_s, blind_s) if motion == "unusual" else blind_s

    def _likely_s(self, elapsed_s: float, motion: Motion | None) -> float:
        """Return the span weighted by how likely a change is in it: g dt of the derivation."""
        if motion is None:
            return elapsed_s
        # What moved after a long pause did so at some time in it; nothing is known of the rest.
        seen_s = elapsed_s if motion == "none" else min(elapsed_s, self._config.passing_s)
        ratio = MOTION_RATIO[motion]
        self._mean_ratio += -math.expm1(-seen_s / DAY_S) * (ratio - self._mean_ratio)
        return seen_s * ratio / self._mean_ratio + (elapsed_s - seen_s)

    def _may_enter(self, state: int) -> bool:
        # What the newest picture leaves in doubt, or denies, would be left again with the next.
        is_seen = self._newest is not None and _top(self._newest) == state
        is_sure = self._posterior[state] >= self._config.known_above
        if not (self._is_believed and is_seen and is_sure):
            return False
        return self._known in (None, state) or self._changes_s[state] >= self._change_at_s

    def _without_picture(self, now_s: float, reason: Reason | None) -> Decision:
        self._is_believed = False
        self._shown = None
        if reason not in HARD_REASONS:
            self._unusable_since_s = None
        elif self._unusable_since_s is None:
            self._unusable_since_s = now_s
        if self._believed_s is None:
            self._believed_s = now_s
        is_unusable = (
            self._unusable_since_s is not None and now_s - self._unusable_since_s >= self._grace_s
        )
        is_overdue = now_s - self._believed_s >= self.patience_s
        if is_unusable or is_overdue:
            return self._leave(reason or "unsure")
        return self._stay()

    def _enter(self, state: int) -> Decision:
        previous, self._state, self._reason = self._name(), state, None
        self._known = state
        self._changes_s = [0.0] * len(self._classes)
        return Decision(self._name(), self._confidence(), True, previous, None)

    def _leave(self, reason: Reason) -> Decision:
        previous, self._state = self._name(), None
        # Doubts of the network alternate from frame to frame; the first one stands for both.
        if not {reason, self._reason} <= DOUBTS:
            self._reason = reason
        return Decision(UNKNOWN, 0.0, previous != UNKNOWN, previous, self._reason)

    def _stay(self) -> Decision:
        return Decision(self._name(), self._confidence(), False, self._name(), self._reason)

    def _name(self) -> str:
        return UNKNOWN if self._state is None else self._classes[self._state]

    def _confidence(self) -> float:
        return 0.0 if self._state is None else min(self._posterior[self._state], 1.0)


def _top(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
