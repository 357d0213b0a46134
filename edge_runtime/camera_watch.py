"""One camera from frame to crops: its outages, its pictures' health, where it looks, its zones."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.announcer import Announcer
from edge_runtime.capture import Camera, CameraStatus, Frame
from edge_runtime.decision import grace_s
from edge_runtime.picture import PictureHealth
from edge_runtime.view_watch import ViewWatch
from edge_runtime.zone_watch import Belief, ZoneWatch
from transom.config import CameraConfig
from transom.crop import Image
from transom.messages import Reason

_log = logging.getLogger(__name__)

_STALE_S = 10.0


@dataclass(frozen=True, slots=True)
class Look:
    """A crop that the network is to judge."""

    zone: ZoneWatch
    frame: Frame
    crop: Image


class CameraWatch:
    """One camera: its frames' health, its outages, its zones.

    Attributes:
        frame: The newest frame, where somebody may ask for it.

    Args:
        config: The camera.
        camera: Its frames.
        zones: What to look at.
        announcer: Told when the camera comes, goes or shows nothing of use.
        view: Where the camera looks.
        keeps_frame: Whether somebody may ask for the newest frame.
        patience_s: Seconds without a frame, at least, after which a camera that is still `online`
            is taken as gone for its zones.
    """

    def __init__(
        self,
        config: CameraConfig,
        camera: Camera,
        zones: list[ZoneWatch],
        announcer: Announcer,
        view: ViewWatch,
        *,
        patience_s: float,
        keeps_frame: bool = False,
    ) -> None:
        self.name = config.name
        self.camera = camera
        self.zones = zones
        self.has_verdict = False
        self.frame: Frame | None = None
        self._keeps_frame = keeps_frame
        self._announcer = announcer
        self._health = PictureHealth()
        self._view = view
        self._shift = view.shift
        self._patience_s = max(patience_s, 3.0 / config.fps)
        self._grace_s = grace_s(1.0 / config.fps)
        self._status: CameraStatus = "starting"
        self._frame_s: float | None = None
        self._frames = 0
        self._is_online: bool | None = None
        self._problem: Reason | None = None
        self._unusable: tuple[Reason, float] | None = None
        self._other: tuple[Reason, float] | None = None  # found beside it, and since when

    def start(self, now_ns: int, beliefs: Mapping[str, Belief]) -> None:
        """Start the camera, where it has not begun, and say what is known of it.

        Args:
            now_ns: Monotonic.
            beliefs: Of the watches whose places its zones' take, by zone.
        """
        self._tell_online(self.camera.status() == "online")
        self._announcer.camera_problem(self.name, None)
        for zone in self.zones:
            zone.start(now_ns, beliefs.get(zone.name))
        self.camera.start()

    def follow_status(self) -> None:
        """Say when the camera comes or goes."""
        self._status = self.camera.status()
        self._tell_online(self._status == "online")
        if self._status == "gone":
            self._tell_problem("gone")
            self.has_verdict = True
        elif self._problem == "gone":
            self._tell_problem(None)

    def examine(self, frame: Frame) -> list[Look]:
        """Judge a new frame; return the crops in it that the network is to see."""
        self._frame_s = frame.taken_ns / 1e9
        self._frames += 1
        self.frame = frame if self._keeps_frame else None
        self.has_verdict = True
        reason = self._health.judge(frame.image, self._frame_s, frame.key_frames)
        if reason is None:
            reason = self._view.judge(frame.image, self._frame_s)
        reason = self._steady(reason, self._frame_s)
        self._follow_health(reason, self._frame_s)
        if reason is not None:
            for zone in self.zones:
                zone.miss(reason, frame.taken_ns)
            return []
        if self._view.is_lost:  # perhaps moved: what it shows now is no evidence for any state
            return []
        if self._view.shift is not self._shift:
            self._shift = self._view.shift
            for zone in self.zones:
                zone.follow(self._view)
        crops = [(zone, zone.crop_if_due(frame)) for zone in self.zones]
        return [Look(zone, frame, crop) for zone, crop in crops if crop is not None]

    def wait(self, now_ns: int) -> None:
        """Do what a turn without a new frame asks for."""
        age_s = self.frame_age_s(now_ns / 1e9)
        if self._status == "gone" or (age_s is not None and age_s > self._patience_s):
            for zone in self.zones:
                zone.miss("gone", now_ns)

    @property
    def is_online(self) -> bool:
        """Whether frames come."""
        return self._is_online is True

    @property
    def problem(self) -> Reason | None:
        """Why its pictures are of no use; None where they are."""
        return self._problem

    @property
    def has_drifted(self) -> bool:
        """Whether its zones have been followed away from where they were drawn."""
        return self._view.has_drifted

    def is_accounted_for(self, now_s: float) -> bool:
        """Whether a frame was judged lately, or the world was told why not."""
        if self._status != "online":
            return True  # told, and its process is being replaced
        return self._frame_s is not None and now_s - self._frame_s < _STALE_S + self._patience_s

    def frame_age_s(self, now_s: float) -> float | None:
        """Return the seconds since the newest frame; None before the first."""
        return None if self._frame_s is None else now_s - self._frame_s

    def take_frame_count(self) -> int:
        """Return the frames judged since the last call."""
        frames, self._frames = self._frames, 0
        return frames

    def _steady(self, found: Reason | None, now_s: float) -> Reason | None:
        """Return why pictures are of no use: what was found first, until another reason lasts.

        At dusk, say, `dark` and `covered` alternate from one picture to the next.
        """
        if found is None or self._unusable is None or found == self._unusable[0]:
            self._other = None
            return found
        if self._other is None or self._other[0] != found:
            self._other = (found, now_s)
        return found if now_s - self._other[1] >= self._grace_s else self._unusable[0]

    def _follow_health(self, reason: Reason | None, now_s: float) -> None:
        if reason is None:
            self._unusable = None
            self._tell_problem(None)
            return
        if self._unusable is None or self._unusable[0] != reason:
            self._unusable = (reason, now_s)
        if now_s - self._unusable[1] >= self._grace_s:
            self._tell_problem(reason)

    def _tell_online(self, is_online: bool) -> None:
        if is_online != self._is_online:
            self._is_online = is_online
            self._announcer.camera_status(self.name, is_online)

    def _tell_problem(self, reason: Reason | None) -> None:
        if reason != self._problem:
            self._problem = reason
            self._announcer.camera_problem(self.name, reason)
            if reason is None:
                _log.info("camera picture is usable camera=%s", self.name)
            else:
                _log.warning("camera picture is of no use camera=%s reason=%s", self.name, reason)
