"""One zone from crop to message: is it worth a look, what is decided, who is told."""

from dataclasses import dataclass
from datetime import datetime

from edge_runtime.announcer import Announcer
from edge_runtime.capture import Frame
from edge_runtime.classifier import Answers
from edge_runtime.decision import Decision, StateFilter
from edge_runtime.history import Moment, ZoneHistory
from edge_runtime.motion import GATE_PX, MotionGate
from edge_runtime.seen import Floats, Seen
from edge_runtime.two_states import told_probabilities, told_spec, told_state
from edge_runtime.view_watch import ViewWatch
from edge_runtime.zone_memory import OpenTimer, ZoneMemory
from edge_runtime.zone_samples import ZoneSamples
from transom.config import DecisionConfig, ZoneConfig
from transom.crop import Image, crop_zone, grey_zone
from transom.geometry import Zone
from transom.manifest import Manifest
from transom.messages import Contact, EventType, Reason, TaskAnswer, Taught, read_correction
from transom.prediction import UNKNOWN_INDEX
from transom.preprocess import preprocess
from transom.tasks import CLOSED, UNKNOWN

KIND_TASK = "kind"


@dataclass(frozen=True)
class Belief:
    """What is known of a zone, for the watch that goes on with another bundle.

    Attributes:
        filter: Of the zone's classes.
        told: What was told last.
        since_ns: Since when that holds, monotonic.
        last_known: The last state that was not `unknown`, and when it was seen last.
    """

    filter: StateFilter
    told: Decision
    since_ns: int
    last_known: tuple[str, int | datetime] | None


class ZoneWatch:
    """Watches one zone.

    Args:
        config: The zone.
        manifest: Of the bundle that serves; its tasks, and what the network is fed.
        decision: Budget of the filter.
        announcer: Told of every change.
        samples: What is kept of the zone, and what it is taught; None = neither.
        history: Where the last hour is kept for those who look; None = nowhere.
        interval_s: Seconds between two frames of its camera.

    Raises:
        ValueError: The bundle has not the task, or the task not the classes, that the zone needs.
    """

    def __init__(
        self,
        config: ZoneConfig,
        manifest: Manifest,
        decision: DecisionConfig,
        announcer: Announcer,
        samples: ZoneSamples | None = None,
        history: ZoneHistory | None = None,
        interval_s: float = 0.0,
    ) -> None:
        self.name = config.name
        self.samples = samples
        self.history = history
        self._config = config
        self._zone = config.zone
        self._is_in_frame = True
        self._specs = {spec.name: spec for spec in manifest.tasks}
        self._input = manifest.input
        self._gate = MotionGate()
        told = told_spec(manifest, config)
        self._classes = told.classes
        self._filter = StateFilter(told, decision, interval_s)
        self._announcer = announcer
        self._told = Decision(UNKNOWN, 0.0, False, UNKNOWN, "starting")
        self._lessons: tuple[Taught | None, Contact | None] = (None, None)
        self._is_of_another = False
        self._since_ns: int | None = None
        self._last_known: tuple[str, int | datetime] | None = None
        self._tasks: dict[str, TaskAnswer] = {}
        self._kind: str | None = None
        self._timer = OpenTimer(config.left_open_after_s, config.left_open_repeat_s)
        self._frame: Frame | None = None  # the newest, where snapshots are wanted
        self._looked: tuple[Floats, Floats] | None = None  # without and with what was taught

    @property
    def state(self) -> str:
        """The state that was told last."""
        return self._told.state

    @property
    def told(self) -> Decision:
        """What was told last."""
        return self._told

    @property
    def since_ns(self) -> int | None:
        """Since when the state is what it is, monotonic; None before the start."""
        return self._since_ns

    @property
    def classes(self) -> tuple[str, ...]:
        """What the zone tells."""
        return self._classes

    @property
    def task(self) -> str:
        """The bundle's task whose class is the zone's state."""
        return self._config.task

    @property
    def device_class(self) -> str:
        """What the zone is, as Home Assistant has it."""
        return self._config.device_class

    @property
    def shape(self) -> Zone:
        """Where the zone is in the picture now."""
        return self._zone

    @property
    def belief(self) -> Belief | None:
        """What the watch that takes this one's place can go on with; None before the start."""
        if self._since_ns is None:
            return None
        return Belief(self._filter, self._told, self._since_ns, self._last_known)

    def start(self, now_ns: int, before: Belief | None = None) -> None:
        """Say that nothing is known yet, in place of what was retained by an earlier run.

        What that run knew last, and for how long the zone had been open, counts on. Where another
        bundle takes over, what was told stays told until the new one has seen the zone itself.

        Args:
            now_ns: Monotonic.
            before: Of the watch whose place this one takes, in the same run.
        """
        self._since_ns = now_ns
        memory = self._announcer.recall(self.name)
        known = None if memory is None else told_state(memory.state, self._classes)
        if memory is not None and known is not None:
            age_s = self._announcer.age_s(memory)
            self._timer.resume(now_ns, memory, age_s or 0.0)
            self._last_known = (known, self._announcer.moment(memory))
            self._filter.resume(known)
        if before is not None and before.filter.classes == self._classes:
            self._take_over(before)
        else:
            self._tell_state(self._told)

    def _take_over(self, before: Belief) -> None:
        self._filter.take_over(before.filter)
        self._told, self._since_ns = before.told, before.since_ns
        self._last_known = before.last_known
        self._lessons = self._lessons_now()
        self._is_of_another = True

    def tell_again(self) -> None:
        """Publish the state anew: the clock was set, and its times were wrong before."""
        self._tell_state(self._told)

    def follow(self, view: ViewWatch) -> None:
        """Look where the zone has drifted to; nowhere, where that is out of the frame."""
        shape = view.zone_now(self._config.zone)
        self._is_in_frame = shape is not None
        if shape is not None:
            self._zone = shape

    def crop_if_due(self, frame: Frame) -> Image | None:
        """Return the zone's crop when it deserves a look by the network, else None.

        A zone in doubt gets a look at every frame. A settled one is looked at when something
        moves in it and, because a gate can miss, once in a while.
        """
        if not self._is_in_frame:
            self.miss("moved", frame.taken_ns)
            return None
        margin = self._input.margin
        grey = grey_zone(frame.image, self._zone, GATE_PX, margin)
        has_moved = self._gate.is_due(grey, frame.taken_ns / 1e9)
        is_wanted = self.samples is not None and self.samples.is_waiting(frame.taken_ns)
        if has_moved or is_wanted or not self._filter.is_settled:
            crop = crop_zone(frame.image, self._zone, self._input.size, margin)
            return preprocess(crop, self._input.preprocess)
        self._take(self._filter.hold(frame.taken_ns / 1e9), frame.taken_ns, frame)
        return None

    def judge(self, answers: Answers, row: int, frame: Frame) -> None:
        """Take in what the network says of the zone's crop in `frame`, row `row` of a batch."""
        self._remember(answers, row)
        seen = self._seen(answers, row, frame)
        judged = seen if self.samples is None else self.samples.judge(seen)
        self._looked = seen.probabilities, judged.probabilities
        # A probability below its threshold is evidence all the same, so the filter gets it; a
        # picture unlike training has probabilities that mean nothing.
        decision = (
            self._filter.update(None, frame.taken_ns / 1e9, "unlike")
            if judged.is_unlike
            else self._filter.update(
                judged.probabilities, frame.taken_ns / 1e9, motion=self._gate.motion
            )
        )
        if self.samples is not None:
            self.samples.keep(seen, judged, has_changed=decision.changed)
        self._take(decision, frame.taken_ns, frame)

    def correct(self, payload: bytes, now_ns: int, by: str) -> None:
        """Take in what somebody says of the zone's true state; `by` = by which way.

        Raises:
            MessageError: It is no class of the zone.
        """
        if self.samples is None:
            return
        topic = self._announcer.topics.correct(self.name)
        self.samples.correct(read_correction(payload, self.samples.classes, topic), now_ns, by)

    def _seen(self, answers: Answers, row: int, frame: Frame) -> Seen:
        prediction = answers.predictions[self._config.task]
        classes = self._specs[self._config.task].classes
        return Seen(
            frame=frame.image,
            shape=self._zone,
            taken_ns=frame.taken_ns,
            taken_at=self._announcer.wall_at(frame.taken_ns),
            embedding=answers.embedding[row],
            probabilities=told_probabilities(prediction.probabilities[row], classes, self._classes),
            is_unlike=bool(prediction.unlike[row]),
            is_believed=int(prediction.classes[row]) != UNKNOWN_INDEX,
        )

    def hear_contact(self, payload: bytes, now_ns: int, *, is_retained: bool) -> None:
        """Take in what the zone's contact sensor says."""
        if self.samples is not None and self.samples.contact is not None:
            self.samples.contact.hear(payload, now_ns, is_retained=is_retained)

    def miss_contact(self) -> None:
        """Take in that the zone's contact sensor may have spoken and not been heard."""
        if self.samples is not None and self.samples.contact is not None:
            self.samples.contact.miss()

    def check_contact(self, now_ns: int) -> None:
        """Compare the zone with its contact sensor; tell what is new of either."""
        if self.samples is None or self.samples.contact is None:
            return
        self.samples.contact.compare(self._told.state, now_ns)
        if self._lessons_now() != self._lessons:
            self._tell_state(self._told)

    def miss(self, reason: Reason, taken_ns: int) -> None:
        """Take in that there is no usable picture of the zone, and why."""
        self._take(self._filter.update(None, taken_ns / 1e9, reason), taken_ns, None)

    def check_left_open(self, now_ns: int) -> None:
        """Say, with a picture where wanted, that the zone has been open for too long."""
        told = self._told
        if told.state in (UNKNOWN, CLOSED) or not self._timer.is_due(now_ns):
            return
        still = Decision(told.state, told.confidence, False, told.state, None)
        self._announcer.event(
            self.name,
            "left_open",
            still,
            now_ns,
            self._timer.open_s(now_ns),
            self._memory(told.state, now_ns),
        )
        if self._frame is not None:
            self._announcer.snapshot(self.name, self._zone, self._frame.image)

    def _take(self, decision: Decision, taken_ns: int, frame: Frame | None) -> None:
        self._frame = frame if self._config.snapshot else None
        if self.history is not None:
            said, judged = (None, None) if frame is None else self._looked or (None, None)
            posterior = self._filter.posterior
            self.history.note(Moment(taken_ns, said, judged, posterior, decision))
        if decision.changed:
            self._change(decision, taken_ns)
        elif (
            decision.reason != self._told.reason
            or self._lessons_now() != self._lessons
            or self._is_now_its_own(decision)
        ):
            self._tell_state(decision)

    def _is_now_its_own(self, decision: Decision) -> bool:
        """Whether the state was told of another bundle, and this one says the same by now."""
        has_looked = bool(self._tasks)
        is_sure = self._filter.is_settled or decision.state == UNKNOWN
        return self._is_of_another and has_looked and is_sure

    def _change(self, decision: Decision, taken_ns: int) -> None:
        self._since_ns = taken_ns
        event_type = self._event_type(decision)
        memory: ZoneMemory | None = None
        if decision.state != UNKNOWN:
            self._last_known = (decision.state, taken_ns)
            self._time_opening(decision.state, taken_ns)
            memory = self._memory(decision.state, taken_ns)
        elif self._last_known is not None and self._filter.believed_s is not None:
            self._last_known = (self._last_known[0], int(self._filter.believed_s * 1e9))
        # The event first: it is the one that must never be lost.
        self._announcer.event(self.name, event_type, decision, taken_ns, memory=memory)
        self._tell_state(decision)
        if self._frame is not None:
            self._announcer.snapshot(self.name, self._zone, self._frame.image)

    def _memory(self, state: str, taken_ns: int) -> ZoneMemory:
        open_s, told_s = self._timer.open_s(taken_ns), self._timer.told_s
        return self._announcer.memory(state, taken_ns, open_s, told_s)

    def _event_type(self, decision: Decision) -> EventType:
        if decision.state == UNKNOWN:
            return "unknown"
        can_close = CLOSED in self._classes
        before = self._last_known[0] if self._last_known else None
        if before in (None, decision.state) or not can_close:
            return "known"
        return "closed" if decision.state == CLOSED else "opened"

    def _time_opening(self, state: str, taken_ns: int) -> None:
        if state == CLOSED or CLOSED not in self._classes:
            self._timer.closed()
        else:
            self._timer.opened(taken_ns)

    def _lessons_now(self) -> tuple[Taught | None, Contact | None]:
        if self.samples is None:
            return None, None
        contact = self.samples.contact
        return self.samples.taught(), None if contact is None else contact.told()

    def _tell_state(self, decision: Decision) -> None:
        self._told = decision
        # What is told before a look, for the clock or the contact sensor, is told once more.
        self._is_of_another = self._is_of_another and not self._tasks
        self._lessons = self._lessons_now()
        if self._since_ns is None:
            raise AssertionError("start comes first")
        self._announcer.state(
            self.name,
            decision,
            since=self._wall(self._since_ns),
            last_known=self._last_known and (self._last_known[0], self._wall(self._last_known[1])),
            tasks=self._tasks,
            kind=self._kind,
            taught=self._lessons[0],
            contact=self._lessons[1],
        )

    def _wall(self, moment: int | datetime) -> datetime:
        return moment if isinstance(moment, datetime) else self._announcer.wall_at(moment)

    def _remember(self, answers: Answers, row: int) -> None:
        for name, prediction in answers.predictions.items():
            index = int(prediction.classes[row])
            known = UNKNOWN if index == UNKNOWN_INDEX else self._specs[name].classes[index]
            confidence = float(prediction.probabilities[row].max())
            self._tasks[name] = TaskAnswer(name=known, confidence=round(min(confidence, 1.0), 4))
            if name == KIND_TASK and known != UNKNOWN:
                self._kind = known
