"""What the page answers, as types; the process that speaks HTTP reads them too."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from transom.messages import Reason, Taught


class Refusal(msgspec.Struct, frozen=True):
    """Why something is not done.

    Attributes:
        error: The reason, for the person who asked.
    """

    error: str


class SessionShown(msgspec.Struct, frozen=True):
    """What a browser that has signed in needs.

    Attributes:
        csrf: To be sent as `X-CSRF-Token` with all that changes something.
    """

    csrf: str


class MomentShown(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a zone.

    Attributes:
        age_s: Seconds since its picture was taken.
        bundle: Probability of each class by the bundle alone; null = no usable picture.
        judged: The same with what the zone was taught.
        filter: Probability of each class that the decision filter holds.
        state: What was told: a class or `unknown`.
        reason: Why it is unknown; null where it is not.
    """

    age_s: float
    bundle: list[float] | None
    judged: list[float] | None
    filter: list[float]
    state: str
    reason: Reason | None


class ZoneShown(msgspec.Struct, frozen=True, kw_only=True):
    """A zone as it is now.

    Attributes:
        name: Its name.
        task: The task whose class is its state.
        classes: Of that task, in the order of all probabilities.
        device_class: What it is.
        polygon: Its corners where it is now, in fractions of the picture.
        state: What was told: a class or `unknown`.
        confidence: The filter's probability of `state`; 0 when unknown.
        reason: Why it is unknown; null where it is not.
        for_s: Seconds for which it is so; null before the first state.
        now: The newest look; null before the first.
        taught: What it was taught, as in its published state; null = nothing.
    """

    name: str
    task: str
    classes: Sequence[str]
    device_class: str
    polygon: list[tuple[float, float]]
    state: str
    confidence: float
    reason: Reason | None
    for_s: float | None
    now: MomentShown | None
    taught: Taught | None


class CameraShown(msgspec.Struct, frozen=True, kw_only=True):
    """A camera as it is now.

    Attributes:
        name: Its name.
        online: Whether pictures come.
        problem: Why they are of no use; null where they are.
        has_drifted: Whether it looks elsewhere than when its zones were drawn.
        frame_age_s: Seconds since the newest frame; null before the first.
        frame: That frame's number.
        size: Its width and height in pixels.
        zones: Its zones.
    """

    name: str
    online: bool
    problem: Reason | None
    has_drifted: bool
    frame_age_s: float | None
    frame: int | None
    size: tuple[int, int] | None
    zones: list[ZoneShown]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What there is.

    Attributes:
        kind: Whether a device or a data set answers.
        name: Its name.
        keeps_samples: Whether there are pictures to be labelled.
        cameras: Of a device.
    """

    kind: Literal["device", "dataset"]
    name: str
    keeps_samples: bool
    cameras: list[CameraShown]


class StretchShown(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a zone was so.

    Attributes:
        age_s: Seconds since it began, a day at most.
        state: What was told: a class or `unknown`.
    """

    age_s: float
    state: str


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The last hour and the last day of a zone.

    Attributes:
        zone: Its name.
        classes: In the order of all probabilities.
        moments: The oldest first: one every five seconds, and each that brought news.
        day: Which states began in the last 24 hours, since the daemon started; the oldest first.
    """

    zone: str
    classes: Sequence[str]
    moments: list[MomentShown]
    day: list[StretchShown]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of drawn zones.

    Attributes:
        saved: Whether they are in the file.
        file: The configuration file.
        toml: The camera's zones as they are to be in the file.
        why: Why they are not.
    """

    saved: bool
    file: str
    toml: str
    why: str = ""


class Opinion(msgspec.Struct, frozen=True):
    """A class and how probable it is.

    Attributes:
        says: The class.
        confidence: Its probability.
    """

    says: str
    confidence: float


class SampleShown(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that may be labelled.

    Attributes:
        id: By which it is named.
        place: Its zone or group.
        says: Its class, with what was taught.
        confidence: The probability of that.
        bundle: The same by the bundle alone.
        label: Its label, or several joined by `|`; null = none.
        labelled_by: Who said so.
        why: Why it is there.
        taken_at: UTC, ISO 8601, or empty.
        copies: Pictures that it stands for.
    """

    id: str
    place: str
    says: str
    confidence: float
    bundle: Opinion
    label: str | None
    labelled_by: str | None
    why: str
    taken_at: str
    copies: int


class ClusterShown(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of one place that look alike, get the same class and have the same label.

    Attributes:
        id: The first picture's.
        place: The zone or group.
        classes: Labels that they can have.
        says: Their class, with what was taught.
        label: Their label; null = none.
        copies: Pictures that they stand for.
        worth: What a label of them is worth, beside others.
        samples: The pictures.
    """

    id: str
    place: str
    classes: Sequence[str]
    says: str
    label: str | None
    copies: int
    worth: float
    samples: list[SampleShown]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many pictures there are.

    Attributes:
        samples: All.
        labelled: Those with a label.
    """

    samples: int
    labelled: int


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """What cannot be shown.

    Attributes:
        id: The picture's; empty where it has none.
        place: The zone, or the file.
        why: What is wrong with it.
    """

    id: str
    place: str
    why: str


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures that may be labelled.

    Attributes:
        tasks: Those that there are.
        task: Of a data set: whose labels are shown.
        places: Zones or groups.
        counts: How many pictures there are.
        waiting: How many the network has not looked at yet.
        total: How many clusters there are of what was asked for.
        clusters: What is worth a label most first, at most 200.
        aside: What cannot be shown.
        can_forget: Whether pictures can be deleted.
    """

    tasks: Sequence[str]
    task: str | UnsetType = UNSET
    places: list[str]
    counts: Counts
    waiting: int
    total: int
    clusters: list[ClusterShown]
    aside: list[Aside]
    can_forget: bool


class Change(msgspec.Struct, frozen=True):
    """What a label changed in the answer to one picture.

    Attributes:
        id: The picture.
        before: What it was.
        after: What it is.
    """

    id: str
    before: Opinion
    after: Opinion


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What labels of one place have taught, and what that changed.

    Attributes:
        place: The zone or group.
        task: Whose classes.
        examples: Pictures that are learnt from, by label.
        is_used: Whether the place is judged by what was learnt.
        reason: Why not: `few`, `examples` or `guard`; null where it is.
        judged: Pictures of the place that are answered with it.
        changes: Those whose class is another than before.
        labelled: How many have a label.
        agree_before: Of those: how many the answers agreed with before.
        agree_after: The same now.
    """

    place: str
    task: str
    examples: Mapping[str, int]
    is_used: bool
    reason: str | None
    judged: int
    changes: list[Change]
    labelled: int
    agree_before: int
    agree_after: int


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of labels.

    Attributes:
        before: The labels that they took the place of: send them back to undo.
        missing: Pictures that are no longer there.
        lessons: What the labels taught.
    """

    before: Mapping[str, str | None]
    missing: list[str]
    lessons: list[Lesson]
