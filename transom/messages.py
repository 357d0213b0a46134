"""MQTT topics and payloads as values: what the daemon sends and what anybody may read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from transom.errors import MessageError, start_of

ONLINE = "online"
OFFLINE = "offline"

EventType = Literal["opened", "closed", "left_open", "unknown", "known"]
Reason = Literal[
    "starting",
    "gone",
    "frozen",
    "covered",
    "dark",
    "bright",
    "corrupt",
    "moved",
    "unlike",
    "unsure",
]
"""Why a state is unknown; `unlike` = unlike anything trained on, `unsure` = between two states."""

DeviceClass = Literal["door", "window", "garage_door", "opening"]
"""What Home Assistant shows a zone as."""

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT publication.

    Attributes:
        topic: Full topic.
        payload: Bytes; empty and retained removes what was retained.
        qos: 0 or 1.
        retain: Whether the broker keeps it for later subscribers.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device.

    Examples:
        >>> Topics("transom", "hall-pi").state("front_door")
        'transom/hall-pi/front_door/state'
    """

    prefix: str
    device: str

    @property
    def root(self) -> str:
        """Where every topic of the device begins."""
        return f"{self.prefix}/{self.device}"

    @property
    def status(self) -> str:
        """`online` or `offline`, retained; also the last will."""
        return f"{self.root}/status"

    @property
    def diagnostics(self) -> str:
        """Figures about the daemon, QoS 0 and not retained: the next ones come soon."""
        return f"{self.root}/diagnostics"

    @property
    def model_state(self) -> str:
        """Home Assistant's `update` JSON, retained."""
        return f"{self.root}/model/state"

    @property
    def model_desired(self) -> str:
        """What to install (`updates.Desired`), retained; heard only where configured."""
        return f"{self.root}/model/desired"

    @property
    def model_install(self) -> str:
        """Command: install what is desired now; heard only where configured."""
        return f"{self.root}/model/install"

    @property
    def model_report(self) -> str:
        """How far the device is with what is desired (`updates.ModelReport`), not retained."""
        return f"{self.root}/model/report"

    @property
    def model_keys(self) -> str:
        """Which keys to trust (`keyring`), signed, retained; heard only where configured."""
        return f"{self.root}/model/keys"

    @property
    def model_trusted(self) -> str:
        """Which keys are trusted (`updates.TrustedKeys`), retained."""
        return f"{self.root}/model/trusted"

    @property
    def samples(self) -> str:
        """Where what is kept is asked for and answered (`sharing`), only where configured."""
        return f"{self.root}/samples"

    @property
    def samples_ask(self) -> str:
        """Command: tell of samples, or send one (`sharing.Ask`)."""
        return f"{self.samples}/ask"

    def state(self, zone: str) -> str:
        """A zone's state, retained."""
        return f"{self.root}/{zone}/state"

    def event(self, zone: str) -> str:
        """A zone's events, never retained: Home Assistant ignores retained events."""
        return f"{self.root}/{zone}/event"

    def snapshot(self, zone: str) -> str:
        """JPEG of the zone at its last change, retained."""
        return f"{self.root}/{zone}/snapshot"

    def correct(self, zone: str) -> str:
        """What a zone's state truly is: a command to the device."""
        return f"{self.root}/{zone}/correct"

    def camera_status(self, camera: str) -> str:
        """`online` or `offline`, retained."""
        return f"{self.root}/camera/{camera}/status"

    def camera_problem(self, camera: str) -> str:
        """What is wrong with a camera's picture, retained."""
        return f"{self.root}/camera/{camera}/problem"


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object; readers ignore keys that a later version adds."""


class TaskAnswer(Payload, frozen=True, kw_only=True):
    """What one task says of a zone now.

    Attributes:
        name: The task's class.
        confidence: Its probability.
    """

    name: str = msgspec.field(name="class")
    confidence: Probability


class Taught(Payload, frozen=True, kw_only=True):
    """What a zone was taught on the device.

    Attributes:
        examples: Pictures that are learnt from, by label; one that leaves classes open names them
            joined by `|`.
        is_used: Whether the zone is judged by what was learnt from them.
        reason: Why not: `few` (no two labels that exclude each other), or because it would be worse
            than the bundle alone on the `examples` or on the `guard`.
    """

    examples: Mapping[str, int]
    is_used: bool
    reason: Literal["few", "examples", "guard"] | None = None


class Contact(Payload, frozen=True, kw_only=True):
    """What a zone's contact sensor says.

    Attributes:
        state: The last that it said.
        agrees: Whether the camera says the same; false once it has not for half a minute, null
            where one of them does not know.
    """

    state: Literal["open", "closed", "unknown"]
    agrees: bool | None = None


class ZoneState(Payload, frozen=True, kw_only=True):
    """Payload of `…/<zone>/state`.

    Attributes:
        state: A class of the zone's task, or `unknown`.
        kind: Class of the task `kind`, where the bundle has one and believes it.
        confidence: The filter's probability of `state`; 0 when unknown.
        since: UTC, ISO 8601: when this state began.
        last_known: The last state that was not `unknown`: kept while the state is `unknown`, and
            over a restart.
        last_known_at: When it was last seen; UTC, ISO 8601.
        reason: Why the state is unknown; null when it is known.
        model: Name of the bundle that has judged it so: where another takes over, of the one
            before until the new one has looked.
        sequence: Sequence of that bundle.
        tasks: What every task says of the newest usable picture, by its name: the bundle alone.
        taught: What the zone was taught on the device; null = nothing.
        contact: What the zone's contact sensor says; null = it has none.
    """

    state: str
    kind: str | None = None
    confidence: Probability
    since: str
    last_known: str | None = None
    last_known_at: str | None = None
    reason: Reason | None = None
    model: str
    sequence: int
    tasks: Mapping[str, TaskAnswer] = {}
    taught: Taught | None = None
    contact: Contact | None = None


class ZoneEvent(Payload, frozen=True, kw_only=True):
    """Payload of `…/<zone>/event`.

    Attributes:
        event_id: Unique; a copy delivered twice carries the same one.
        event_type: What happened.
        state: The state now.
        previous: The state before.
        at: UTC wall time, ISO 8601.
        time_synced: Whether the clock was synchronised then.
        boot_id: The machine's boot, from the kernel.
        monotonic_ns: Nanoseconds since that boot.
        confidence: The filter's probability of `state`.
        latency_ms: From the frame that decided it to this message.
        open_s: Seconds that the zone has been open; with `left_open`.
        reason: Why, with `unknown`.
    """

    event_id: str
    event_type: EventType
    state: str
    previous: str
    at: str
    time_synced: bool
    boot_id: str
    monotonic_ns: int
    confidence: Probability
    latency_ms: float
    open_s: float | None = None
    reason: Reason | None = None


class CameraProblem(Payload, frozen=True, kw_only=True):
    """Payload of `…/camera/<camera>/problem`.

    Attributes:
        problem: Whether the camera's picture cannot be used.
        reason: Why.
    """

    problem: bool
    reason: Reason | None = None


class Diagnostics(Payload, frozen=True, kw_only=True):
    """Payload of `…/diagnostics`; absent figures are those the machine does not give.

    Attributes:
        uptime_s: Seconds since the daemon started.
        frame_age_s: Age of the newest frame, by camera.
        fps: Frames judged per second, by camera.
        inference_ms: Median time of the network for one batch.
        precision: In which the network runs: `int8` or `float32`.
        precision_why: Why, with figures.
        cpu_percent: Of one core, all processes of the daemon.
        rss_mb: Resident memory of the main process, MiB.
        temperature_c: Of the processor.
        throttled: Bits of the firmware's get_throttled; 0 = never.
        queued_events: Events that wait for the broker.
        dropped_events: Events dropped because the outbox was full.
        refused_events: Events that the broker refused, ever.
        refused_topics: Topics whose newest message it refused, since the start; 0 = all is well.
        reconnects: To the broker, since the start.
        samples: Pictures kept to be labelled.
        sample_bytes: Their bytes.
        labelled_samples: Those of them that have a label.
    """

    uptime_s: float
    frame_age_s: Mapping[str, float | None]
    fps: Mapping[str, float]
    inference_ms: float | None
    cpu_percent: float
    rss_mb: float
    temperature_c: float | None = None
    throttled: int | None = None
    queued_events: int
    dropped_events: int
    refused_events: int
    refused_topics: int = 0
    reconnects: int
    samples: int | None = None
    sample_bytes: int | None = None
    labelled_samples: int | None = None
    precision: str | None = None
    precision_why: str = ""


class ModelState(Payload, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Payload of `…/model/state`: Home Assistant accepts these keys and no others.

    Attributes:
        installed_version: Of the bundle that serves: its sequence.
        latest_version: Of the bundle that is offered, or that serves.
        title: Name of the bundle.
        release_summary: What is to be said of it, or why it was refused; at most 255 characters.
        in_progress: Whether it is being fetched and tried.
        update_percentage: How far that is.

    References:
        https://www.home-assistant.io/integrations/update.mqtt/
    """

    installed_version: str
    latest_version: str
    title: str
    release_summary: Annotated[str, Meta(max_length=255)] = ""
    in_progress: bool = False
    update_percentage: Annotated[int, Meta(ge=0, le=100)] | None = None


FORGET_LAST, FORGET_ALL = "forget-last", "forget-all"
"""Corrections that take the newest one back, or all; no class can be named so."""


def read_correction(data: bytes, classes: Sequence[str], topic: str) -> str:
    """Read the payload of `…/correct`: a class as text or in JSON, or what is to be forgotten.

    Args:
        data: The payload.
        classes: What the zone tells.
        topic: Where it came from, for the message.

    Returns:
        One of `classes`, `FORGET_LAST` or `FORGET_ALL`.

    Raises:
        MessageError: It is neither.

    Examples:
        >>> read_correction(b'{"class": "closed"}', ("closed", "open"), "t")
        'closed'
    """
    said = decode_any(data)
    word = said.get("class") if isinstance(said, dict) else said
    known = [*classes, FORGET_LAST, FORGET_ALL]
    if not isinstance(word, str) or word.strip() not in known:
        shown = ascii(word)[:60]
        raise MessageError(f"{topic}: must be one of {', '.join(known)}, got {shown}")
    return word.strip()


PayloadType = TypeVar("PayloadType", bound=Payload)


def encode(payload: Payload) -> bytes:
    """Return a payload as JSON."""
    return msgspec.json.encode(payload)


def decode(data: bytes, payload_type: type[PayloadType], topic: str) -> PayloadType:
    """Read a payload.

    Raises:
        MessageError: The data is not such a payload; the message names the topic.
    """
    try:
        return msgspec.json.decode(data, type=payload_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"{topic}: {start_of(error)}") from error


def decode_any(data: bytes) -> Any:
    """Return JSON as plain values, anything else as text; for tools that show messages."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data.decode("utf-8", "replace")
