"""A clip through the daemon's own rules, faster than real time.

Everything is the daemon's: loop, picture health, gate, network, filter, messages. Only the ends are
others: the cameras read a file, the clock follows it, and what would be published is handed to the
caller. Nothing depends on how fast the machine is, so the same clip gives the same messages.
"""

import heapq
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_runtime.capture import CameraStatus, Frame
from edge_runtime.clips import FilePicture, read_file
from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.delivery import Pace
from edge_runtime.link import Received
from edge_runtime.mqtt import PublisherCounters
from edge_runtime.notify import Notifier
from edge_runtime.outbox import OutboxCounts
from transom.bundle import Bundle
from transom.config import CameraConfig, Config
from transom.crop import Image
from transom.errors import ConfigurationError
from transom.messages import OFFLINE, ONLINE, Message, Topics, decode_any

Tell = Callable[[float, Message], None]
"""Called with the seconds of clip time and the message that would have been sent then."""

LONGEST_TURN_NS = 200_000_000
"""A clip with gaps is stepped through at least this finely, so that timers fire in them."""


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What a replay cost.

    Attributes:
        frames: Frames judged: those of the clips, at the cameras' `fps`.
        clip_s: Length of the longest clip.
        wall_s: Time it took.
        cpu_s: Processor time it took, all threads.
    """

    frames: int
    clip_s: float
    wall_s: float
    cpu_s: float


class ClipClock(Clock):
    """A clock that shows the clip's time; its wall time starts in 1970, set by nobody."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clip's start."""
        return self.now_ns

    def wall(self) -> datetime:
        """Return 1 January 1970 plus the clip's time, UTC."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.now_ns // 1000)

    def is_synchronised(self) -> bool:
        """Return False."""
        return False

    def boot_id(self) -> str:
        """Return `replay`."""
        return "replay"


class ClipCamera:
    """A camera that shows the frame it was given last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.detail = ""
        self._status: CameraStatus = "starting"
        self._frame: Frame | None = None
        self._number = 0

    def start(self) -> None:
        """Do nothing: frames come from `show`."""

    def stop(self, timeout_s: float = 1.0) -> None:
        """Do nothing."""

    def show(self, image: Image, taken_ns: int, key_frames: int | None = None) -> None:
        """Make a picture the newest frame."""
        self._number += 1
        self._status = "online"
        self._frame = Frame(image, taken_ns, self._number, key_frames)

    def end(self) -> None:
        """Have no more frames."""
        self._status, self.detail = "gone", "the file was played to its end"

    def status(self) -> CameraStatus:
        """`starting`, then `online`, then `gone` at the clip's end."""
        return self._status

    def newest(self) -> Frame | None:
        """Return the frame shown last, once."""
        frame, self._frame = self._frame, None
        return frame


class Recorder:
    """Stands where the broker and the outbox stand, and hands every message on."""

    def __init__(self, topics: Topics, clock: Clock, tell: Tell) -> None:
        self._topics = topics
        self._clock = clock
        self._tell = tell
        self._memory: dict[str, bytes] = {}

    def start(self) -> None:
        """Say what the connection says when it is up."""
        self._status(ONLINE)

    def send(self, message: Message) -> None:
        """Hand a value on."""
        self._tell(self._clock.monotonic_s(), message)

    def put(
        self, message: Message, event_id: str, memory: Mapping[str, bytes] | None = None
    ) -> None:
        """Hand an event on."""
        self._memory |= memory or {}
        self._tell(self._clock.monotonic_s(), message)

    def recall(self, key: str) -> bytes | None:
        """Return what was put beside an event of this replay."""
        return self._memory.get(key)

    def flush_events(self) -> None:
        """Do nothing: events are handed on when they are put."""

    def stop(self, timeout_s: float) -> None:
        """Say what a clean end says."""
        self._status(OFFLINE)

    def listen(
        self, topic_filter: str, take: Callable[[Received], None], qos: Literal[0, 1] = 1
    ) -> None:
        """Do nothing: nobody speaks to a replay."""

    def alive(self) -> bool:
        """Return True."""
        return True

    def counts(self) -> OutboxCounts:
        """Nothing waits and nothing is lost."""
        return OutboxCounts(0, 0, 0, 0)

    def counters(self) -> PublisherCounters:
        """Nothing is refused."""
        return PublisherCounters(0, 0, 0)

    def _status(self, payload: str) -> None:
        self.send(Message(self._topics.status, payload.encode(), qos=1, retain=True))


def replay(
    config: Config,
    bundle: Bundle,
    clips: Mapping[str, Path],
    tell: Tell,
    progress: Callable[[float], None] = lambda _clip_s: None,
) -> ReplaySummary:
    """Play clips, or folders of pictures, through the daemon.

    Args:
        config: The configuration; cameras without a clip are left out.
        bundle: The bundle to judge with.
        clips: A file or folder by camera.
        tell: Gets every message, in order.
        progress: Gets the seconds of clip time now and then.

    Raises:
        ConfigurationError: No camera has a clip, or a zone asks for a task the bundle lacks.
        CameraError: A clip cannot be read.
        ClassifierError: The bundle's network does not run here.
    """
    watched = tuple(camera for camera in config.cameras if camera.name in clips)
    if not watched:
        names = ", ".join(camera.name for camera in config.cameras)
        raise ConfigurationError(f"no clip for any camera ({names}); give --clip CAMERA=FILE")
    config = msgspec.structs.replace(config, cameras=watched)
    clock = ClipClock()
    recorder = Recorder(Topics(config.mqtt.prefix, config.device), clock, tell)
    cameras = {camera.name: ClipCamera(camera.name) for camera in watched}
    daemon = Daemon(
        config,
        bundle,
        list(cameras.values()),
        recorder,
        recorder,
        clock,
        Notifier({}),
        processes=None,
    )
    began_s, busy_s, frames = time.perf_counter(), _cpu_s(), 0
    daemon.start()
    for taken_ns, name, picture in _together(watched, clips):
        while clock.now_ns + LONGEST_TURN_NS < taken_ns:
            clock.now_ns += LONGEST_TURN_NS
            daemon.step()
        clock.now_ns = max(taken_ns, clock.now_ns)
        if picture is None:
            cameras[name].end()
            progress(clock.monotonic_s())
            continue
        cameras[name].show(picture.image, taken_ns, picture.key_frames)
        frames += 1
        daemon.step()
        progress(clock.monotonic_s())
    daemon.stop()
    return ReplaySummary(
        frames, clock.monotonic_s(), time.perf_counter() - began_s, _cpu_s() - busy_s
    )


def as_line(clip_s: float, message: Message) -> str:
    """Return a message as `transom replay --json` prints it."""
    line: dict[str, Any] = {
        "t": round(clip_s, 3),
        "topic": message.topic,
        "payload": _shown(message.payload),
        "retain": message.retain,
        "qos": message.qos,
    }
    return msgspec.json.encode(line).decode()


def _shown(payload: bytes) -> Any:
    if payload.startswith(b"\xff\xd8"):
        return f"JPEG, {len(payload)} bytes"
    return decode_any(payload)


def _together(
    cameras: tuple[CameraConfig, ...], clips: Mapping[str, Path]
) -> Iterator[tuple[int, str, FilePicture | None]]:
    """Yield the frames of all clips by their time; None where one ends before the others."""
    streams = [_frames(camera, clips[camera.name]) for camera in cameras]
    return heapq.merge(*streams, key=lambda item: item[:2])


def _frames(camera: CameraConfig, path: Path) -> Iterator[tuple[int, str, FilePicture | None]]:
    """Yield the frames that the camera's process would deliver, then None."""
    pace = Pace(camera.fps)
    taken_ns = 0
    for picture in read_file(path):
        taken_ns = int(picture.clip_s * 1e9)
        if pace.is_due(taken_ns):
            yield taken_ns, camera.name, picture
    yield taken_ns, camera.name, None


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system
