"""One zone from crop to message: is it worth a look, what is decided, who is told."""

from collections.abc import Mapping
from datetime import datetime

from edge_runtime.announcer import Announcer
from edge_runtime.capture import Frame
from edge_runtime.classifier import Answers
from edge_runtime.decision import Decision, StateFilter
from edge_runtime.homeassistant import CLOSED
from edge_runtime.motion import MotionGate
from transom.bundle import InputSpec, TaskSpec
from transom.config import DecisionConfig, ZoneConfig
from transom.crop import Image, crop_zone
from transom.messages import EventType, Reason, TaskAnswer
from transom.prediction import UNKNOWN_INDEX
from transom.preprocess import preprocess
from transom.tasks import UNKNOWN

KIND_TASK = "kind"


class ZoneWatch:
    """Watches one zone.

    Args:
        config: The zone.
        specs: The bundle's tasks by name; the zone's own among them.
        input_spec: What the network is fed.
        decision: Budget of the filter.
        announcer: Told of every change.
    """

    def __init__(
        self,
        config: ZoneConfig,
        specs: Mapping[str, TaskSpec],
        input_spec: InputSpec,
        decision: DecisionConfig,
        announcer: Announcer,
    ) -> None:
        self.name = config.name
        self._config = config
        self._zone = config.zone
        self._specs = specs
        self._input = input_spec
        self._gate = MotionGate()
        self._filter = StateFilter(specs[config.task], decision)
        self._announcer = announcer
        self._told = Decision(UNKNOWN, 0.0, False, UNKNOWN, "starting")
        self._since: datetime | None = None
        self._last_known: tuple[str, datetime] | None = None
        self._tasks: dict[str, TaskAnswer] = {}
        self._kind: str | None = None
        self._open_since_ns: int | None = None
        self._left_open_due_ns = 0

    @property
    def state(self) -> str:
        """The state that was told last."""
        return self._told.state

    def start(self, now_ns: int) -> None:
        """Say that nothing is known yet, in place of what was retained by an earlier run."""
        self._since = self._announcer.wall_at(now_ns)
        self._tell_state(self._told)

    def crop_if_due(self, frame: Frame) -> Image | None:
        """Return the zone's crop when it deserves a look by the network, else None.

        A zone in doubt gets a look at every frame. A settled one is looked at when something
        moves in it and, because a gate can miss, once in a while.
        """
        crop = crop_zone(frame.image, self._zone, self._input.size, self._input.margin)
        has_moved = self._gate.is_due(crop, frame.taken_ns / 1e9)
        if has_moved or not self._filter.is_settled:
            return preprocess(crop, self._input.preprocess)
        self._take(self._filter.hold(frame.taken_ns / 1e9), frame.taken_ns, frame)
        return None

    def judge(self, answers: Answers, row: int, frame: Frame) -> None:
        """Take in what the network says of the zone's crop in `frame`, row `row` of a batch."""
        prediction = answers.predictions[self._config.task]
        unknown = self._specs[self._config.task].unknown
        is_unlike = unknown.max_energy is not None and prediction.energy[row] > unknown.max_energy
        self._remember(answers, row)
        # A probability below its threshold is evidence all the same, so the filter gets it; a
        # picture unlike training has probabilities that mean nothing.
        decision = (
            self._filter.update(None, frame.taken_ns / 1e9, "unlike")
            if is_unlike
            else self._filter.update(prediction.probabilities[row], frame.taken_ns / 1e9)
        )
        self._take(decision, frame.taken_ns, frame)

    def miss(self, reason: Reason, taken_ns: int) -> None:
        """Take in that there is no usable picture of the zone, and why."""
        self._take(self._filter.update(None, taken_ns / 1e9, reason), taken_ns, None)

    def check_left_open(self, now_ns: int) -> None:
        """Say that the zone is still open when it has been so for too long."""
        after_s = self._config.left_open_after_s
        if after_s is None or self._open_since_ns is None or self._told.state in (UNKNOWN, CLOSED):
            return
        if now_ns >= self._left_open_due_ns:
            self._left_open_due_ns = now_ns + int(self._config.left_open_repeat_s * 1e9)
            told = self._told
            still = Decision(told.state, told.confidence, False, told.state, None)
            open_s = (now_ns - self._open_since_ns) / 1e9
            self._announcer.event(self.name, "left_open", still, now_ns, open_s)

    def _take(self, decision: Decision, taken_ns: int, frame: Frame | None) -> None:
        if decision.changed:
            self._change(decision, taken_ns, frame)
        elif decision.reason != self._told.reason:
            self._tell_state(decision)

    def _change(self, decision: Decision, taken_ns: int, frame: Frame | None) -> None:
        self._since = self._announcer.wall_at(taken_ns)
        event_type = self._event_type(decision)
        if decision.state != UNKNOWN:
            self._last_known = (decision.state, self._since)
            self._time_opening(decision.state, taken_ns)
        # The event first: it is the one that must never be lost.
        self._announcer.event(self.name, event_type, decision, taken_ns)
        self._tell_state(decision)
        if self._config.snapshot and frame is not None:
            self._announcer.snapshot(self.name, self._zone, frame.image)

    def _event_type(self, decision: Decision) -> EventType:
        if decision.state == UNKNOWN:
            return "unknown"
        can_close = CLOSED in self._specs[self._config.task].classes
        before = self._last_known[0] if self._last_known else None
        if before in (None, decision.state) or not can_close:
            return "known"
        return "closed" if decision.state == CLOSED else "opened"

    def _time_opening(self, state: str, taken_ns: int) -> None:
        if state == CLOSED or CLOSED not in self._specs[self._config.task].classes:
            self._open_since_ns = None
        elif self._open_since_ns is None:
            self._open_since_ns = taken_ns
            self._left_open_due_ns = taken_ns + int((self._config.left_open_after_s or 0.0) * 1e9)

    def _tell_state(self, decision: Decision) -> None:
        self._told = decision
        if self._since is None:
            raise AssertionError("start comes first")
        self._announcer.state(
            self.name,
            decision,
            since=self._since,
            last_known=self._last_known,
            tasks=self._tasks,
            kind=self._kind,
        )

    def _remember(self, answers: Answers, row: int) -> None:
        for name, prediction in answers.predictions.items():
            index = int(prediction.classes[row])
            known = UNKNOWN if index == UNKNOWN_INDEX else self._specs[name].classes[index]
            confidence = float(prediction.probabilities[row].max())
            self._tasks[name] = TaskAnswer(name=known, confidence=round(min(confidence, 1.0), 4))
            if name == KIND_TASK and known != UNKNOWN:
                self._kind = known
