"""The filter between probabilities and states."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_runtime.decision import DOUBTS, GRACE_S, HARD_REASONS, Decision, StateFilter, surest
from edge_runtime.motion import Motion
from transom.config import DecisionConfig
from transom.manifest import TaskSpec
from transom.messages import Reason
from transom.tasks import UNKNOWN

CLASSES = ("closed", "ajar", "open")
SPEC = TaskSpec(name="state", classes=CLASSES, ordinal=True, thresholds=(0.6, 0.6, 0.6))
FPS = 5.0
MOTIONS: tuple[Motion | None, ...] = (None, "none", "usual", "unusual")


def seen(state: str, probability: float = 0.98) -> npt.NDArray[np.float32]:
    rest = (1.0 - probability) / (len(CLASSES) - 1)
    return np.array([probability if c == state else rest for c in CLASSES], np.float32)


class Zone:
    """A filter that is fed frame by frame, with the time that passes between them."""

    def __init__(self, fps: float = FPS, **config: float) -> None:
        self.filter = StateFilter(SPEC, DecisionConfig(**config))
        self.now_s = 1000.0
        self.interval_s = 1.0 / fps

    def look(
        self,
        probabilities: npt.NDArray[np.float32],
        times: int = 1,
        *,
        motion: Motion | None = None,
    ) -> Decision:
        for _ in range(times):
            decision = self.filter.update(probabilities, self.now_s, motion=motion)
            self.now_s += self.interval_s
        return decision

    def miss(self, reason: Reason, seconds: float) -> Decision:
        until_s = self.now_s + seconds
        while self.now_s <= until_s:
            decision = self.filter.update(None, self.now_s, reason)
            self.now_s += self.interval_s
        return decision

    def seconds_until(
        self, state: str, probabilities: npt.NDArray[np.float32], *, motion: Motion | None = None
    ) -> float:
        began_s = self.now_s
        while self.look(probabilities, motion=motion).state != state:
            assert self.now_s - began_s < 600.0, f"never {state}"
        return self.now_s - began_s


@pytest.fixture
def closed_zone() -> Zone:
    zone = Zone()
    assert zone.look(seen("closed"), 50).state == "closed"
    return zone


def test_the_first_clear_frame_after_the_start_gives_a_state() -> None:
    decision = Zone().look(seen("open"))
    assert (decision.state, decision.previous, decision.changed) == ("open", UNKNOWN, True)
    assert decision.confidence > 0.95


def test_an_unclear_first_frame_gives_no_state() -> None:
    decision = Zone().look(seen("open", 0.5))
    assert (decision.state, decision.reason, decision.changed) == (UNKNOWN, "unsure", False)


def test_the_network_of_another_bundle_goes_on_and_must_look_itself(closed_zone: Zone) -> None:
    after = Zone()
    after.now_s = closed_zone.now_s
    after.filter.take_over(closed_zone.filter)
    assert not after.filter.is_settled
    assert after.filter.hold(after.now_s).state == "closed"
    assert after.look(seen("closed")) == closed_zone.look(seen("closed"))
    assert after.filter.is_settled
    needed_s = closed_zone.seconds_until("open", seen("open"))
    assert after.seconds_until("open", seen("open")) == pytest.approx(needed_s)


def test_other_classes_cannot_be_gone_on_with(closed_zone: Zone) -> None:
    two = TaskSpec(name="state", classes=("closed", "open"), ordinal=True, thresholds=(0.6, 0.6))
    with pytest.raises(ValueError, match=r"classes must be \('closed', 'open'\), are \('closed'"):
        StateFilter(two, DecisionConfig()).take_over(closed_zone.filter)


def test_a_few_contrary_frames_are_no_change(closed_zone: Zone) -> None:
    assert closed_zone.look(seen("open", 0.99), 4).state == "closed"
    assert closed_zone.look(seen("closed"), 50).state == "closed"


def test_a_clear_change_is_believed_within_two_seconds(closed_zone: Zone) -> None:
    assert closed_zone.seconds_until("open", seen("open", 0.999)) < 2.0


def test_a_clear_change_that_was_seen_to_move_is_believed_in_the_shortest_time() -> None:
    zone = Zone()
    zone.look(seen("closed", 1.0), int(86400 * FPS), motion="none")
    shortest_s = zone.filter.shortest_change_s(FPS)
    zone.look(seen("open", 1.0), motion="unusual")
    taken_s = 1.0 / FPS + zone.seconds_until("open", seen("open", 1.0), motion="none")
    assert taken_s == pytest.approx(shortest_s, abs=0.01)
    assert taken_s <= 1.2


def test_who_walks_past_and_looks_like_an_open_door_opens_nothing() -> None:
    zone = Zone()
    zone.look(seen("closed"), 500, motion="none")
    for _ in range(50):
        assert zone.look(seen("open"), int(2.5 * FPS), motion="unusual").state == "closed"
        assert zone.look(seen("closed"), int(5 * FPS), motion="none").state == "closed"


def test_a_door_that_never_comes_to_rest_is_believed_all_the_same() -> None:
    zone = Zone()
    zone.look(seen("closed"), 500, motion="none")
    assert 2.5 < zone.seconds_until("open", seen("open"), motion="unusual") < 4.0


def test_trees_that_sway_behind_a_window_do_not_make_its_change_slow() -> None:
    zone = Zone()
    zone.look(seen("open"), int(60 * FPS), motion="usual")
    zone.look(seen("closed"), motion="unusual")
    assert zone.seconds_until("closed", seen("closed"), motion="usual") < 2.0


@given(
    motions=st.lists(st.sampled_from(MOTIONS), min_size=20, max_size=20),
    probability=st.floats(0.9, 1.0),
    hours=st.floats(0.0, 2.0),
)
@settings(max_examples=40, deadline=None)
def test_what_is_seen_steadily_is_believed_within_four_seconds_whatever_moves(
    motions: list[Motion | None], probability: float, hours: float
) -> None:
    zone = Zone()
    zone.look(seen("closed"), 50, motion="none")
    zone.filter.update(seen("closed"), zone.now_s + hours * 3600.0, motion="unusual")
    zone.now_s += hours * 3600.0 + zone.interval_s
    assert "open" in [zone.look(seen("open", probability), motion=m).state for m in motions]


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_door_that_swings_to_and_fro_does_not_flap(motion: Motion | None) -> None:
    zone = Zone()
    zone.look(seen("ajar"), 500, motion="none")
    decisions = [
        zone.look(seen(state), motion=motion)
        for _ in range(60)
        for state in ("ajar", "ajar", "ajar", "open", "open", "open")
    ]
    assert [decision.state for decision in decisions if decision.changed] == []


def test_a_change_that_nothing_was_seen_to_move_for_takes_longer() -> None:
    times_s = []
    motions: tuple[Motion, ...] = ("unusual", "none")
    for moved in motions:
        zone = Zone()
        zone.look(seen("closed"), 500, motion="none")
        zone.look(seen("open", 0.8), motion=moved)
        times_s.append(zone.seconds_until("open", seen("open", 0.8), motion="none"))
    assert times_s[0] < times_s[1] < times_s[0] + 2.0


def test_a_picture_at_rest_is_held_as_if_it_were_looked_at_again() -> None:
    held, looked = Zone(), Zone()
    for zone in (held, looked):
        zone.look(seen("closed"), 50, motion="none")
    for _ in range(200):
        held.filter.hold(held.now_s)
        held.now_s += held.interval_s
        looked.look(seen("closed"), motion="none")
    times_s = [
        zone.seconds_until("open", seen("open"), motion="unusual") for zone in (held, looked)
    ]
    assert times_s[0] == pytest.approx(times_s[1], abs=0.01)


def test_answers_that_are_no_numbers_are_no_picture(closed_zone: Zone) -> None:
    nothing = np.full(3, np.nan, np.float32)
    assert closed_zone.look(nothing, int(4 * FPS)).state == "closed"
    assert closed_zone.look(nothing, int(2 * FPS)).reason == "unsure"
    assert closed_zone.look(seen("closed"), 5).state == "closed"


def test_a_state_of_an_earlier_run_must_be_outweighed_and_is_back_at_once() -> None:
    same, other = Zone(), Zone()
    for zone in (same, other):
        zone.filter.resume("closed")
    assert same.look(seen("closed")).state == "closed"
    assert other.look(seen("open")).state == UNKNOWN
    assert other.seconds_until("open", seen("open")) < 2.0


def test_a_change_is_announced_once(closed_zone: Zone) -> None:
    decisions = [closed_zone.look(seen("open")) for _ in range(100)]
    changed = [decision for decision in decisions if decision.changed]
    assert [(d.previous, d.state) for d in changed] == [("closed", "open")]


def test_weak_evidence_takes_longer_than_strong_but_is_believed_in_the_end() -> None:
    times_s = []
    for probability in (0.99, 0.9, 0.7):
        zone = Zone()
        zone.look(seen("closed"), 50)
        times_s.append(zone.seconds_until("open", seen("open", probability)))
    assert times_s == sorted(times_s)
    assert times_s[0] < times_s[-1] < 20.0


@pytest.mark.parametrize("fps", [2.0, 10.0, 30.0])
def test_the_frame_rate_does_not_make_a_change_cheaper(fps: float) -> None:
    zone = Zone(fps)
    zone.look(seen("closed"), int(10 * fps))
    assert 1.2 <= zone.seconds_until("open", seen("open", 0.95)) <= 3.0


def test_a_smaller_budget_takes_longer() -> None:
    times_s = []
    for budget in (100.0, 1.0, 0.001):
        zone = Zone(20.0, false_changes_per_day=budget)
        zone.look(seen("closed"), 200)
        times_s.append(zone.seconds_until("open", seen("open", 0.9)))
    assert times_s[0] < times_s[1] < times_s[2]


def test_the_dwell_time_cancels_out_of_what_a_change_needs() -> None:
    times_s = []
    for settle_s in (60.0, 600.0, 6000.0):
        zone = Zone(20.0, settle_s=settle_s)
        zone.look(seen("closed"), 400)
        times_s.append(zone.seconds_until("open", seen("open", 0.95)))
    assert max(times_s) - min(times_s) <= 0.15


@pytest.mark.parametrize("fps", [0.5, 5.0, 30.0])
@pytest.mark.parametrize("known_above", [0.95, 0.985, 0.999, 0.9999])
@pytest.mark.parametrize("settle_s", [1.0, 600.0])
@pytest.mark.parametrize("correlation_s", [0.1, 10.0])
def test_a_certainty_out_of_reach_is_known_beforehand_and_none_that_is_not(
    fps: float, known_above: float, settle_s: float, correlation_s: float
) -> None:
    zone = Zone(fps, known_above=known_above, settle_s=settle_s, correlation_s=correlation_s)
    zone.look(seen("closed", 1.0), int(100 * fps), motion="none")
    decision = zone.look(seen("open", 1.0), int(100 * fps), motion="none")
    config = DecisionConfig(known_above=known_above, settle_s=settle_s, correlation_s=correlation_s)
    is_within = surest(config, fps, len(CLASSES)) > known_above
    assert (decision.state == "open") == is_within
    assert math.isfinite(zone.filter.shortest_change_s(fps)) == is_within


def test_the_smallest_budget_is_one_that_can_be_met() -> None:
    zone = Zone(false_changes_per_day=1e-300)
    zone.look(seen("closed"), 100)
    assert zone.seconds_until("open", seen("open")) < 20.0


def test_a_longer_correlation_asks_for_more_frames() -> None:
    short, long = Zone(correlation_s=0.1), Zone(correlation_s=2.0)
    for zone in (short, long):
        zone.look(seen("closed"), 100)
    assert long.seconds_until("open", seen("open")) > 3 * short.seconds_until("open", seen("open"))


def test_a_doubt_that_passes_is_not_news(closed_zone: Zone) -> None:
    assert closed_zone.look(seen("closed", 0.4), 20).state == "closed"
    assert closed_zone.look(seen("closed"), 5).state == "closed"


def test_a_doubt_that_lasts_makes_the_state_unknown(closed_zone: Zone) -> None:
    decision = closed_zone.look(seen("closed", 0.4), 30)
    assert (decision.state, decision.reason, decision.confidence) == (UNKNOWN, "unsure", 0.0)


def test_a_state_that_is_never_seen_without_doubt_is_never_told(closed_zone: Zone) -> None:
    states = {closed_zone.look(seen("ajar", 0.5)).state for _ in range(500)}
    assert states == {"closed", UNKNOWN}


def test_a_clear_picture_after_a_doubt_tells_no_other_state_than_its_own() -> None:
    zone = Zone()
    zone.look(seen("ajar"), 50)
    assert zone.look(seen("ajar", 0.5), 100).state == UNKNOWN
    states = [zone.look(seen("closed")).state for _ in range(50)]
    assert set(states) == {UNKNOWN, "closed"}
    assert states[-1] == "closed"


def test_pictures_unlike_training_make_the_state_unknown_after_a_while(closed_zone: Zone) -> None:
    assert closed_zone.miss("unlike", 4.0).state == "closed"
    decision = closed_zone.miss("unlike", 2.0)
    assert (decision.state, decision.reason) == (UNKNOWN, "unlike")


@pytest.mark.parametrize("reason", sorted(HARD_REASONS))
def test_an_unusable_picture_makes_the_state_unknown_after_a_short_grace(
    closed_zone: Zone, reason: Reason
) -> None:
    assert closed_zone.miss(reason, GRACE_S - 0.3).state == "closed"
    decision = closed_zone.miss(reason, 0.4)
    assert (decision.state, decision.reason) == (UNKNOWN, reason)


def test_single_bad_pictures_between_good_ones_are_forgiven(closed_zone: Zone) -> None:
    for _ in range(20):
        assert closed_zone.miss("corrupt", 0.0).state == "closed"
        assert closed_zone.look(seen("closed")).state == "closed"


def test_the_same_state_is_back_at_once_after_an_outage(closed_zone: Zone) -> None:
    assert closed_zone.miss("dark", 5.0).state == UNKNOWN
    decision = closed_zone.look(seen("closed"))
    assert (decision.state, decision.changed, decision.reason) == ("closed", True, None)


def test_an_outage_does_not_make_a_change_cheap(closed_zone: Zone) -> None:
    closed_zone.miss("dark", 5.0)
    assert closed_zone.look(seen("open"), 2).state == UNKNOWN
    assert closed_zone.seconds_until("open", seen("open")) > 0.5


def test_after_a_day_of_outage_the_old_state_counts_for_little(closed_zone: Zone) -> None:
    closed_zone.miss("gone", 3.0)
    closed_zone.now_s += 86400.0
    assert closed_zone.seconds_until("open", seen("open")) < 0.5


def test_a_picture_that_does_not_change_keeps_its_state(closed_zone: Zone) -> None:
    for _ in range(1000):
        closed_zone.now_s += 1.0
        assert closed_zone.filter.hold(closed_zone.now_s).state == "closed"
    assert closed_zone.look(seen("closed"), 1).state == "closed"


def test_a_zone_in_doubt_is_not_settled(closed_zone: Zone) -> None:
    assert closed_zone.filter.is_settled
    closed_zone.look(seen("closed", 0.4))
    assert not closed_zone.filter.is_settled
    closed_zone.look(seen("closed"), 5)
    assert closed_zone.filter.is_settled
    closed_zone.miss("unlike", 0.0)
    assert not closed_zone.filter.is_settled


def test_doubts_that_alternate_keep_one_reason(closed_zone: Zone) -> None:
    closed_zone.miss("unlike", 6.0)
    reasons = {closed_zone.look(seen("closed", 0.4)).reason, closed_zone.miss("unlike", 0.0).reason}
    assert reasons == {"unlike"}


def test_refuses_probabilities_of_another_task() -> None:
    with pytest.raises(ValueError, match=r"must be \(3,\), got \(2,\)"):
        Zone().filter.update(np.array([0.5, 0.5], np.float32), 0.0)


def calibrated_stream(
    seconds: float, distance: float, correlation_s: float, seed: int
) -> npt.NDArray[np.float32]:
    """Exact posteriors of `closed` pictures under Gaussian noise; all of it correlated in time."""
    random = np.random.default_rng(seed)
    count = int(seconds * FPS)
    keep = np.exp(-1.0 / (FPS * correlation_s)) if correlation_s else 0.0
    noise, value = np.empty((count, 3)), random.standard_normal(3)
    for index, step in enumerate(random.standard_normal((count, 3)) * np.sqrt(1.0 - keep**2)):
        value = keep * value + step
        noise[index] = value
    means = np.eye(3) * distance / np.sqrt(2.0)
    logits = -0.5 * ((means[0] + noise)[:, None, :] - means[None]).__pow__(2).sum(axis=2)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("correlation_s", [0.0, 0.2])
@pytest.mark.parametrize("distance", [1.5, 3.0])
def test_keeps_its_budget_of_false_changes(distance: float, correlation_s: float) -> None:
    hours, budget = 4.0, 60.0
    state_filter = StateFilter(SPEC, DecisionConfig(false_changes_per_day=budget))
    probabilities = calibrated_stream(hours * 3600.0, distance, correlation_s, seed=7)
    state_filter.update(seen("closed", 0.999), -1.0)
    states = [state_filter.update(p, i / FPS).state for i, p in enumerate(probabilities)]
    known = [state for state in states if state != UNKNOWN]
    false = sum(a != b and b != "closed" for a, b in itertools.pairwise(known))
    frames_wrong = float((probabilities.argmax(axis=1) != 0).mean())
    assert frames_wrong > 0.02, "the stream must be hard enough to tempt it"
    assert false <= budget * hours / 24.0


PROBABILITIES = st.lists(st.floats(0.0, 1.0, width=32), min_size=3, max_size=3).filter(
    lambda values: sum(values) > 1e-3
)
STEPS_S = st.one_of(st.floats(0.0, 2.0), st.floats(0.0, 1e6))


class AnyDay(RuleBasedStateMachine):
    """Whatever comes, in whatever order, at whatever pace."""

    def __init__(self) -> None:
        super().__init__()
        self.config = DecisionConfig()
        self.filter = StateFilter(SPEC, self.config)
        self.now_s = 0.0
        self.state = UNKNOWN
        self.known: str | None = None
        self.unusable_since_s: float | None = None
        self.decision: Decision | None = None

    def take(self, decision: Decision) -> None:
        assert decision.previous == self.state
        assert decision.changed == (decision.state != self.state)
        assert (decision.state == UNKNOWN) == (decision.reason is not None)
        assert 0.0 <= decision.confidence <= 1.0
        if decision.state == UNKNOWN:
            assert decision.confidence == 0.0
        else:
            if decision.changed:
                assert decision.confidence >= self.config.known_above
            self.known = decision.state
        self.state, self.decision = decision.state, decision

    @rule(values=PROBABILITIES, step_s=STEPS_S, motion=st.sampled_from(MOTIONS))
    def look(self, values: list[float], step_s: float, motion: Motion | None) -> None:
        self.now_s += step_s
        self.unusable_since_s = None
        probabilities = np.array(values, np.float32)
        probabilities /= probabilities.sum()
        self.take(self.filter.update(probabilities, self.now_s, motion=motion))

    @rule(reason=st.sampled_from(sorted(HARD_REASONS)), step_s=STEPS_S)
    def lose_the_picture(self, reason: Reason, step_s: float) -> None:
        self.now_s += step_s
        if self.unusable_since_s is None:
            self.unusable_since_s = self.now_s
        decision = self.filter.update(None, self.now_s, reason)
        assert not (decision.changed and decision.state != UNKNOWN)
        self.take(decision)
        if self.now_s - self.unusable_since_s >= GRACE_S:
            assert self.state == UNKNOWN

    @rule(reason=st.sampled_from(sorted(DOUBTS, key=str)), step_s=STEPS_S)
    def doubt(self, reason: Reason, step_s: float) -> None:
        self.now_s += step_s
        self.unusable_since_s = None
        decision = self.filter.update(None, self.now_s, reason)
        assert not (decision.changed and decision.state != UNKNOWN)
        self.take(decision)

    @rule(step_s=STEPS_S)
    def see_nothing_new(self, step_s: float) -> None:
        self.now_s += step_s
        self.unusable_since_s = None
        decision = self.filter.hold(self.now_s)
        assert not decision.changed
        self.take(decision)

    @rule()
    def get_another_bundle(self) -> None:
        before, self.filter = self.filter, StateFilter(SPEC, self.config)
        self.filter.take_over(before)
        assert self.filter.posterior == before.posterior
        assert self.filter.last_known == before.last_known
        assert not self.filter.is_settled

    @invariant()
    def settled_means_known(self) -> None:
        assert not self.filter.is_settled or self.state != UNKNOWN


TestAnyDay = AnyDay.TestCase
TestAnyDay.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    state=st.sampled_from(CLASSES),
    other=st.sampled_from(CLASSES),
    probability=st.floats(0.75, 1.0),
    fps=st.sampled_from([0.5, 2.0, 5.0, 15.0]),
)
@settings(max_examples=40, deadline=None)
def test_follows_every_change_that_is_seen_for_long_enough(
    state: str, other: str, probability: float, fps: float
) -> None:
    zone = Zone(fps)
    assert zone.look(seen(state, probability), int(20 * fps) + 10).state == state
    assert zone.look(seen(other, probability), int(20 * fps) + 10).state == other
