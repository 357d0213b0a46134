"""The loop: cameras that play lists, the real network, filter and messages."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_runtime.announcer import EventStore
from edge_runtime.daemon import Daemon
from edge_runtime.heartbeat import DIAGNOSTICS_S
from edge_runtime.mqtt import PublisherCounters
from edge_runtime.notify import Notifier
from edge_runtime.outbox import OutboxCounts
from edge_runtime.replay import ClipClock, Recorder
from tests.edge_runtime.service_manager import ServiceManager
from tests.faults.proof import Proof
from transom.bundle import Bundle, read_bundle
from transom.config import (
    CameraConfig,
    Config,
    DecisionConfig,
    HomeAssistantConfig,
    MqttConfig,
    ZoneConfig,
)
from transom.crop import Image
from transom.errors import ClassifierError, ConfigurationError
from transom.goldens import Goldens
from transom.messages import Message, Topics, decode_any

FPS = 5.0
TURN_NS = int(1e9 / FPS)
CLOSED, AJAR, OPEN = 40.0, 128.0, 217.0
DOOR = ((0.36, 0.17), (0.64, 0.17), (0.64, 0.93), (0.36, 0.93))

Scene = Callable[..., Image]


def camera_config(name: str = "hall", zone: str = "door", **more: Any) -> CameraConfig:
    zones = (ZoneConfig(name=zone, polygon=DOOR, **more),)
    return CameraConfig(name=name, source=f"file:{name}.mp4", fps=FPS, zones=zones)


def config_of(*cameras: CameraConfig, **more: Any) -> Config:
    return Config(
        device="pi",
        mqtt=MqttConfig(host="localhost"),
        cameras=cameras or (camera_config(),),
        **more,
    )


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture(scope="module")
def pictures(scene: Scene) -> Callable[..., list[Image]]:
    """Frames of a door of one brightness; twenty different ones, over and over."""
    drawn: dict[float, list[Image]] = {}

    def frames(brightness: float, seconds: float) -> list[Image]:
        if brightness not in drawn:
            drawn[brightness] = [scene(brightness, seed=i, height=120) for i in range(20)]
        return [drawn[brightness][i % 20] for i in range(int(seconds * FPS))]

    return frames


class Play:
    """A daemon whose cameras play lists of frames, on a clock that the test moves."""

    def __init__(
        self,
        bundle: Bundle,
        config: Config,
        camera_type: Any,
        *frames: Iterable[Image | None],
        notifier: Notifier | None = None,
        clock: ClipClock | None = None,
        outbox: EventStore | None = None,
        recorder_type: type[Recorder] = Recorder,
        **more: Any,
    ) -> None:
        self.clock = clock or ClipClock()
        self.sent: list[tuple[float, Message]] = []
        self.recorder = recorder_type(
            Topics("transom", "pi"), self.clock, lambda s, message: self.sent.append((s, message))
        )
        self.cameras = [
            camera_type(played, name=camera.name, monotonic_ns=self.clock.monotonic_ns)
            for camera, played in zip(config.cameras, frames, strict=True)
        ]
        self.daemon = Daemon(
            config,
            bundle,
            self.cameras,
            self.recorder,
            outbox or self.recorder,
            self.clock,
            notifier or Notifier({}),
            **more,
        )
        self.daemon.start()

    def turn(self, seconds: float) -> None:
        for _ in range(round(seconds * FPS)):
            self.clock.now_ns += TURN_NS
            self.daemon.step()

    def payloads(self, topic: str) -> list[Any]:
        full = f"transom/pi/{topic}"
        return [decode_any(m.payload) for _, m in self.sent if m.topic == full]

    def events(self, zone: str = "door") -> list[tuple[str, str, str]]:
        found = self.payloads(f"{zone}/event")
        return [(e["event_type"], e["previous"], e["state"]) for e in found]


def restarted(first: Play, bundle: Bundle, config: Config, camera_type: Any, frames: Any,
              **more: Any) -> Play:  # fmt: skip
    """Start a daemon in the place of one before, on its clock and with its outbox."""
    return Play(
        bundle, config, camera_type, frames, clock=first.clock, outbox=first.recorder, **more
    )


def test_a_door_that_opens_and_closes_gives_one_event_each(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    frames = pictures(CLOSED, 6) + pictures(OPEN, 6) + pictures(CLOSED, 6)
    play = Play(bundle, config_of(), play_list_camera, frames)
    play.turn(18)
    assert play.events() == [
        ("known", "unknown", "closed"),
        ("opened", "closed", "open"),
        ("closed", "open", "closed"),
    ]
    states = [state["state"] for state in play.payloads("door/state")]
    assert states == ["unknown", "closed", "open", "closed"]
    assert play.payloads("door/state")[-1]["tasks"]["state"]["class"] == "closed"


def test_a_change_is_told_within_two_seconds_and_dated_by_its_frame(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 6) + pictures(OPEN, 6))
    play.turn(12)
    event = play.payloads("door/event")[1]
    told_s = [s for s, m in play.sent if m.topic.endswith("/event")][1]
    assert 6.0 < told_s < 8.0
    assert event["monotonic_ns"] == round(told_s * 1e9)
    assert event["at"] == f"1970-01-01T00:00:{told_s:06.3f}Z"
    assert event["boot_id"] == "replay"
    assert event["time_synced"] is False


def test_an_event_is_stored_before_its_state_is_told(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 2))
    play.turn(2)
    topics = [
        m.topic.rpartition("/")[2] for _, m in play.sent if m.topic.startswith("transom/pi/door")
    ]
    assert topics == ["state", "event", "state"]


def test_events_are_not_retained_and_the_rest_is(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 2))
    play.turn(2)
    for _, message in play.sent:
        assert message.retain != message.topic.endswith("/event")
        assert message.qos == 1


def test_zones_of_two_cameras_are_judged_apart(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    config = config_of(camera_config("hall", "front"), camera_config("yard", "back"))
    front, back = pictures(OPEN, 4) + pictures(CLOSED, 8), pictures(CLOSED, 12)
    play = Play(bundle, config, play_list_camera, front, back)
    play.turn(12)
    assert play.events("front") == [("known", "unknown", "open"), ("closed", "open", "closed")]
    assert play.events("back") == [("known", "unknown", "closed")]


def test_all_zones_that_are_due_go_through_the_network_at_once(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    hall = camera_config("hall", "front")
    more = tuple(ZoneConfig(name=name, polygon=DOOR) for name in ("side", "cellar"))
    config = config_of(
        msgspec.structs.replace(hall, zones=hall.zones + more), camera_config("yard", "back")
    )
    play = Play(bundle, config, play_list_camera, pictures(OPEN, 1), pictures(CLOSED, 1))
    play.turn(1)
    assert len(play.daemon.inference_ms) == FPS
    states = [play.payloads(f"{zone}/state")[-1]["state"] for zone in ("front", "cellar", "back")]
    assert states == ["open", "open", "closed"]


def noise_around(level: float, count: int) -> list[Image]:
    """Frames of a sensor that sees nothing but one brightness."""
    random = np.random.default_rng(0)
    drawn = (random.normal(level, 2.0, (120, 160, 3)) for _ in range(count))
    return [np.clip(values, 0, 255).astype(np.uint8) for values in drawn]


def half_decoded(frame: Image) -> Image:
    image = frame.copy()
    image[60:] = 128
    return image


@pytest.mark.parametrize(
    ("reason", "spoilt"),
    [
        ("dark", lambda frames: noise_around(5.0, len(frames))),
        ("bright", lambda frames: noise_around(252.0, len(frames))),
        ("covered", lambda frames: noise_around(90.0, len(frames))),
        ("corrupt", lambda frames: [half_decoded(frame) for frame in frames]),
        ("frozen", lambda frames: frames[:1] * len(frames)),
    ],
)
def test_a_picture_of_no_use_is_a_problem_of_the_camera_that_heals_and_never_a_class(
    bundle: Bundle,
    pictures: Any,
    play_list_camera: Any,
    reason: str,
    spoilt: Callable[[list[Image]], list[Image]],
) -> None:
    play = Play(
        bundle,
        config_of(),
        play_list_camera,
        pictures(OPEN, 4) + spoilt(pictures(CLOSED, 8)) + pictures(OPEN, 6),
    )
    play.turn(18)
    if reason == "frozen":  # of the picture that is stuck now, the first seconds were alive
        assert play.events()[-2:] == [
            ("unknown", "closed", "unknown"),
            ("opened", "unknown", "open"),
        ]
    else:
        assert play.events() == [
            ("known", "unknown", "open"),
            ("unknown", "open", "unknown"),
            ("known", "unknown", "open"),
        ]
    assert [e["reason"] for e in play.payloads("door/event") if e["state"] == "unknown"] == [reason]
    assert play.payloads("camera/hall/problem") == [
        {"problem": False, "reason": None},
        {"problem": True, "reason": reason},
        {"problem": False, "reason": None},
    ]


def test_two_reasons_that_alternate_are_one_problem_until_one_of_them_lasts(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    shape = pictures(OPEN, 1)[0].shape
    random = np.random.default_rng(0)
    dark = [random.integers(0, 12, shape).astype(np.uint8) for _ in range(40)]
    covered = [random.integers(80, 92, shape).astype(np.uint8) for _ in range(60)]
    dusk = [picture for pair in zip(dark, covered[:40], strict=True) for picture in pair]
    frames = pictures(OPEN, 4) + dusk + covered[40:]
    play = Play(bundle, config_of(), play_list_camera, frames)
    play.turn(20)
    problems = [problem["reason"] for problem in play.payloads("camera/hall/problem")]
    states = [state["reason"] for state in play.payloads("door/state")]
    assert (problems, states) == ([None, "dark"], ["starting", None, "dark"])
    play.turn(4)
    assert play.payloads("camera/hall/problem")[-1]["reason"] == "covered"
    assert play.payloads("door/state")[-1]["reason"] == "covered"


def test_a_camera_that_goes_takes_its_zones_with_it(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 4))
    play.turn(4)
    play.cameras[0].state = "gone"
    play.turn(4)
    assert play.events()[-1] == ("unknown", "open", "unknown")
    assert play.payloads("camera/hall/status") == ["offline", "online", "offline"]
    assert play.payloads("camera/hall/problem")[-1] == {"problem": True, "reason": "gone"}
    state = play.payloads("door/state")[-1]
    assert (state["state"], state["reason"], state["last_known"]) == ("unknown", "gone", "open")


def test_a_camera_that_is_online_but_silent_makes_its_zones_unknown_within_six_seconds(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 4))
    play.turn(4)
    assert play.cameras[0].status() == "online"
    play.turn(6)
    assert play.events()[-1] == ("unknown", "open", "unknown")


def test_a_slow_camera_is_not_a_silent_one(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    camera = CameraConfig(
        name="hall", source="file:a.mp4", fps=0.2, zones=(ZoneConfig(name="door", polygon=DOOR),)
    )
    rare = [picture for shown in pictures(OPEN, 2) for picture in [shown] + [None] * 24]
    play = Play(bundle, config_of(camera), play_list_camera, rare)
    play.turn(50)
    assert play.events() == [("known", "unknown", "open")]


@pytest.mark.parametrize("fps", [1.4, 1.0, 0.5, 0.2, 0.1])
@pytest.mark.parametrize("bad", [0.0, 255.0])
def test_one_bad_picture_is_no_news_however_rare_pictures_are(
    bundle: Bundle, pictures: Any, play_list_camera: Any, fps: float, bad: float
) -> None:
    zones = (ZoneConfig(name="door", polygon=DOOR),)
    camera = CameraConfig(name="hall", source="file:a.mp4", fps=fps, zones=zones)
    (spoilt,) = [np.zeros_like(pictures(OPEN, 1)[0])] if bad == 0.0 else pictures(bad, 1 / FPS)
    good = pictures(OPEN, 4)
    shown = [*good[:10], spoilt, *good[10:]]
    rare = [picture for one in shown for picture in [one] + [None] * (round(FPS / fps) - 1)]
    play = Play(bundle, config_of(camera), play_list_camera, rare)
    play.turn(len(rare) / FPS)
    assert play.events() == [("known", "unknown", "open")]
    assert play.payloads("camera/hall/problem") == [{"problem": False, "reason": None}]


def test_a_picture_unlike_training_is_unknown(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 4) + pictures(255.0, 10))
    play.turn(14)
    assert play.events()[-1] == ("unknown", "open", "unknown")
    assert play.payloads("door/event")[-1]["reason"] == "unlike"


def test_a_door_left_open_is_told_again_until_it_closes(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    camera = camera_config(left_open_after_s=10.0, left_open_repeat_s=5.0)
    frames = pictures(CLOSED, 4) + pictures(AJAR, 8) + pictures(OPEN, 16) + pictures(CLOSED, 20)
    play = Play(bundle, config_of(camera), play_list_camera, frames)
    play.turn(48)
    types = [event_type for event_type, _, _ in play.events()]
    assert types == ["known", "opened", "opened", *["left_open"] * 3, "closed"]
    left_open = [e["open_s"] for e in play.payloads("door/event") if e["event_type"] == "left_open"]
    assert left_open == pytest.approx([10.0, 15.0, 20.0], abs=0.5)


@pytest.mark.parametrize("downtime_s", [0.0, 3.0, 60.0])
def test_the_time_that_a_door_was_open_counts_on_over_a_restart(
    bundle: Bundle, pictures: Any, play_list_camera: Any, downtime_s: float
) -> None:
    config = config_of(camera_config(left_open_after_s=10.0, left_open_repeat_s=30.0))
    first = Play(bundle, config, play_list_camera, pictures(CLOSED, 4) + pictures(OPEN, 6))
    first.turn(10)
    first.clock.now_ns += int(downtime_s * 1e9)
    second = restarted(first, bundle, config, play_list_camera, pictures(OPEN, 20))
    began_s = first.clock.monotonic_s()
    second.turn(20)
    events = [e for e in first.payloads("door/event") if e["monotonic_ns"] / 1e9 > began_s]
    assert [e["event_type"] for e in events] == ["known", "left_open"]
    # It was seen open 4 s after the start and some looks later.
    assert events[1]["open_s"] == pytest.approx(max(10.0, 4.8 + downtime_s), abs=0.7)


def test_the_time_that_a_door_was_ajar_counts_on_where_ajar_is_open_from_now_on(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    config = config_of(camera_config(left_open_after_s=10.0))
    first = Play(bundle, config, play_list_camera, pictures(CLOSED, 4) + pictures(AJAR, 6))
    first.turn(10)
    config = config_of(camera_config(left_open_after_s=10.0, ajar_is_open=True))
    second = restarted(first, bundle, config, play_list_camera, pictures(AJAR, 10))
    assert second.payloads("door/state")[0]["last_known"] == "open"
    second.turn(10)
    assert [event for event, _, _ in first.events()][2:] == ["known", "left_open"]


def test_restarts_that_come_more_often_than_repetitions_do_not_put_them_off(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    config = config_of(camera_config(left_open_after_s=5.0, left_open_repeat_s=30.0))
    first = Play(bundle, config, play_list_camera, pictures(CLOSED, 4) + pictures(OPEN, 8))
    first.turn(12)
    for _ in range(4):
        again = restarted(first, bundle, config, play_list_camera, pictures(OPEN, 20))
        again.turn(20)
    open_s = [e["open_s"] for e in first.payloads("door/event") if e["event_type"] == "left_open"]
    assert open_s == pytest.approx([5.0, 35.0, 65.0], abs=0.7)


def test_a_repetition_that_was_told_before_a_restart_is_not_told_again_early(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    config = config_of(camera_config(left_open_after_s=5.0, left_open_repeat_s=30.0))
    first = Play(bundle, config, play_list_camera, pictures(CLOSED, 4) + pictures(OPEN, 8))
    first.turn(12)
    second = restarted(first, bundle, config, play_list_camera, pictures(OPEN, 40))
    second.turn(40)
    told = [e["open_s"] for e in first.payloads("door/event") if e["event_type"] == "left_open"]
    assert told == pytest.approx([5.0, 35.0], abs=0.5)


def test_a_door_that_was_closed_before_a_restart_and_is_open_after_it_has_opened(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    first = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 4))
    first.turn(4)
    last_known = first.payloads("door/state")[-1]["since"]
    second = restarted(first, bundle, config_of(), play_list_camera, pictures(OPEN, 6))
    starting = second.payloads("door/state")[0]
    assert (starting["state"], starting["last_known"]) == ("unknown", "closed")
    assert starting["last_known_at"] == last_known
    second.turn(6)
    assert first.events()[-1] == ("opened", "unknown", "open")


def test_when_a_door_was_seen_last_is_right_after_a_restart_once_the_clock_is_set(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    clock = JumpingClock()
    first = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 4), clock=clock)
    first.turn(4)
    seen = datetime.fromisoformat(first.payloads("door/state")[-1]["since"])
    clock.shift = timedelta(days=20_000)
    second = restarted(first, bundle, config_of(), play_list_camera, pictures(CLOSED, 1))
    told = second.payloads("door/state")[0]["last_known_at"]
    assert datetime.fromisoformat(told) == seen + clock.shift


@pytest.mark.parametrize("boot", ["replay", "another"])
def test_a_bad_first_picture_after_a_restart_is_no_change_of_a_door_long_closed(
    bundle: Bundle, pictures: Any, play_list_camera: Any, boot: str
) -> None:
    class Boot(ClipClock):
        def boot_id(self) -> str:
            return boot

    first = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 4))
    first.turn(4)
    clock = Boot()
    clock.now_ns = int(2 * 86400e9)  # of which it was watched for all but a moment
    frames = pictures(OPEN, 1 / FPS) + pictures(CLOSED, 10)
    second = Play(bundle, config_of(), play_list_camera, frames, clock=clock, outbox=first.recorder)
    second.turn(10)
    assert first.events() == [("known", "unknown", "closed")] * 2


@pytest.fixture
def newer(bundle: Bundle) -> Bundle:
    """The same network under the next sequence."""
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, sequence=2))


def test_a_zone_keeps_its_state_while_another_bundle_takes_over(
    bundle: Bundle, newer: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    first = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 4))
    first.turn(4)
    told = first.payloads("door/state")[-1]
    second = restarted(
        first,
        newer,
        config_of(),
        play_list_camera,
        pictures(CLOSED, 2) + pictures(OPEN, 6),
        beliefs=first.daemon.beliefs,
    )
    assert second.payloads("door/state") == []  # it has not looked yet: nothing of its own to tell
    assert second.daemon.watches[0].zones[0].told.state == "closed"
    second.turn(2)
    (again,) = second.payloads("door/state")
    assert (again["state"], again["since"], again["sequence"]) == ("closed", told["since"], 2)
    assert set(again["tasks"]) == {"state", "kind"}
    second.turn(6)
    assert first.events() == [("known", "unknown", "closed"), ("opened", "closed", "open")]


def test_a_door_that_is_open_when_another_bundle_takes_over_has_opened(
    bundle: Bundle, newer: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    first = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 4))
    first.turn(4)
    second = restarted(
        first, newer, config_of(), play_list_camera, pictures(OPEN, 6), beliefs=first.daemon.beliefs
    )
    second.turn(6)
    told = [(state["state"], state["sequence"]) for state in second.payloads("door/state")]
    assert told == [("open", 2)]
    assert first.events()[1:] == [("opened", "closed", "open")]


def test_a_state_that_another_bundle_cannot_confirm_becomes_unknown(
    bundle: Bundle, newer: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    first = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 4))
    first.turn(4)
    unlike = pictures(255.0, 20)
    second = restarted(
        first, newer, config_of(), play_list_camera, unlike, beliefs=first.daemon.beliefs
    )
    second.turn(20)
    (told,) = second.payloads("door/state")
    assert (told["state"], told["last_known"], told["sequence"]) == ("unknown", "closed", 2)


def test_what_no_clock_knows_the_length_of_is_not_made_up(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    class NextBoot(ClipClock):
        def boot_id(self) -> str:
            return "another"

    config = config_of(camera_config(left_open_after_s=10.0))
    first = Play(bundle, config, play_list_camera, pictures(OPEN, 6))
    first.turn(6)
    clock = NextBoot()
    second = Play(
        bundle, config, play_list_camera, pictures(OPEN, 12), clock=clock, outbox=first.recorder
    )
    second.turn(12)
    event = first.payloads("door/event")[-1]
    assert event["event_type"] == "left_open"
    assert event["monotonic_ns"] / 1e9 == pytest.approx(10.0, abs=0.5)


def test_unknown_says_when_the_door_was_last_seen(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 30) + pictures(0.0, 10))
    play.turn(40)
    state = play.payloads("door/state")[-1]
    assert (state["state"], state["last_known"]) == ("unknown", "open")
    seen_s = datetime.fromisoformat(state["last_known_at"]).timestamp()
    assert seen_s == pytest.approx(30.0, abs=0.5)


def test_left_open_comes_with_a_picture_of_now(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    config = config_of(camera_config(snapshot=True, left_open_after_s=10.0))
    play = Play(bundle, config, play_list_camera, pictures(OPEN, 12))
    play.turn(12)
    topics = [m.topic.removeprefix("transom/pi/door/") for _, m in play.sent if "door" in m.topic]
    assert topics[-2:] == ["event", "snapshot"]
    assert [t for t in topics if t == "snapshot"] == ["snapshot"] * 2


def test_ajar_is_open_where_two_states_are_enough(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    frames = pictures(CLOSED, 4) + pictures(AJAR, 6) + pictures(OPEN, 6) + pictures(CLOSED, 6)
    config = config_of(camera_config(ajar_is_open=True))
    play = Play(bundle, config, play_list_camera, frames)
    play.turn(22)
    assert [state for _, _, state in play.events()] == ["closed", "open", "closed"]
    components = json.loads(
        next(m.payload for _, m in play.sent if m.topic.startswith("homeassistant"))
    )["components"]
    assert components["door-state"]["options"] == ["closed", "open", "unknown"]


class JumpingClock(ClipClock):
    """Its wall time is set to another one again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = timedelta()
        self.is_right = False

    def wall(self) -> datetime:
        return super().wall() + self.shift

    def is_synchronised(self) -> bool:
        return self.is_right


@pytest.mark.parametrize("jump_days", [1, -1, 20_000])
def test_a_clock_that_jumps_causes_nothing(
    bundle: Bundle, pictures: Any, play_list_camera: Any, jump_days: int, proof: Proof
) -> None:
    claim = proof(
        15, f"the wall clock jumps by {jump_days:+,} days, three times in a minute", unit="clips"
    )

    def events(clock: JumpingClock, jump: timedelta) -> list[Any]:
        config = config_of(camera_config(left_open_after_s=10.0, left_open_repeat_s=10.0))
        frames = pictures(CLOSED, 10) + pictures(OPEN, 30) + pictures(CLOSED, 10)
        clock.shift = timedelta(days=max(-jump.days, 0))  # so that it never is before 1970
        play = Play(bundle, config, play_list_camera, frames, clock=clock)
        for seconds in (12, 13, 25):
            play.turn(seconds)
            clock.shift += jump
            clock.is_right = True
        problems = [p for p in play.payloads("camera/hall/problem") if p["problem"]]
        assert problems == []
        timed = play.payloads("door/event")
        return [(e["event_type"], e["monotonic_ns"], e["open_s"]) for e in timed]

    told = events(JumpingClock(), timedelta(days=jump_days))
    assert told == events(JumpingClock(), timedelta())
    assert [event_type for event_type, _, _ in told] == [
        "known", "opened", "left_open", "left_open", "closed"
    ]  # fmt: skip
    claim.found("{events} events as without, 0 stalls", events=len(told))


def test_states_are_told_again_with_the_right_time_once_the_clock_is_set(
    bundle: Bundle, pictures: Any, play_list_camera: Any, proof: Proof
) -> None:
    claim = proof(15, "started in 1970, the clock is set while the door is closed", unit="clips")
    clock = JumpingClock()
    play = Play(bundle, config_of(), play_list_camera, pictures(CLOSED, 20), clock=clock)
    play.turn(10)
    assert play.payloads("door/state")[-1]["since"].startswith("1970-01-01")
    assert play.payloads("door/event")[-1]["time_synced"] is False
    clock.shift, clock.is_right = timedelta(days=20_000), True
    play.turn(2)
    right = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=20_000)
    since = datetime.fromisoformat(play.payloads("door/state")[-1]["since"])
    assert timedelta() <= since - right < timedelta(seconds=1)
    assert len(play.events()) == 1
    claim.found("`time_synced` is false before; the state's time is told again, right; no event")


def test_a_snapshot_is_sent_where_configured_and_shows_the_zone(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    config = config_of(camera_config("hall", "front", snapshot=True), camera_config("yard", "back"))
    play = Play(bundle, config, play_list_camera, pictures(OPEN, 2), pictures(OPEN, 2))
    play.turn(2)
    pictures_sent = [m for _, m in play.sent if m.topic.endswith("/snapshot")]
    assert [m.topic for m in pictures_sent] == ["transom/pi/front/snapshot"]
    jpeg = cv2.imdecode(np.frombuffer(pictures_sent[0].payload, np.uint8), cv2.IMREAD_COLOR)
    assert jpeg is not None
    height, width = jpeg.shape[:2]
    assert float(jpeg[height // 4 : -height // 4, width // 4 : -width // 4].mean()) > 190.0


def furnished(picture: Image) -> Image:
    """A frame with enough corners beside the door that a move of the camera can be told."""
    image = picture.copy()
    for row in range(10, 110, 16):
        for column in [*range(6, 50, 16), *range(112, 156, 16)]:
            colour = [int(value) for value in (row * 2, 250 - column, 60 + column)]
            cv2.rectangle(image, (column, row), (column + 8, row + 6), colour, -1)
    return image


def looking_elsewhere(picture: Image) -> Image:
    matrix = np.array([[1.0, 0.0, 40.0], [0.0, 1.0, 10.0]])
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT))


def test_a_camera_that_is_knocked_aside_is_a_problem_and_tells_no_class(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    closed = [furnished(picture) for picture in pictures(CLOSED, 20)]
    aside = [looking_elsewhere(furnished(picture)) for picture in pictures(CLOSED, 30)]
    play = Play(bundle, config_of(), play_list_camera, closed + aside + closed)
    play.turn(70)
    assert play.events() == [
        ("known", "unknown", "closed"),
        ("unknown", "closed", "unknown"),
        ("known", "unknown", "closed"),
    ]
    assert play.payloads("door/event")[1]["reason"] == "moved"
    problems = [problem["reason"] for problem in play.payloads("camera/hall/problem")]
    assert problems == [None, "moved", None]


def test_a_camera_that_sags_a_little_takes_its_zones_with_it(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, [furnished(p) for p in pictures(OPEN, 30)])
    play.turn(15)
    watch = play.daemon._watches[0]
    frames = [np.roll(furnished(picture), 4, axis=1) for picture in pictures(OPEN, 20)]
    play.cameras[0]._frames = iter(frames)
    play.turn(15)
    zone = watch.zones[0]._zone
    assert zone.points[0][0] == pytest.approx(DOOR[0][0] + 4 / 160, abs=0.005)
    assert play.events() == [("known", "unknown", "open")]


def test_a_zone_that_has_drifted_out_of_the_picture_is_unknown_until_it_is_back(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    edge = ((0.97, 0.2), (1.0, 0.2), (1.0, 0.9), (0.97, 0.9))
    zones = (ZoneConfig(name="door", polygon=edge),)
    camera = CameraConfig(name="hall", source="file:hall.mp4", fps=FPS, zones=zones)
    here = [furnished(picture) for picture in pictures(OPEN, 45)]
    drifted = [np.roll(picture, 4, axis=1) for picture in here[75:150]]
    frames = here[:75] + drifted + here[150:]
    play = Play(bundle, config_of(camera), play_list_camera, frames)
    play.turn(15)
    before = play.daemon.watches[0].zones[0].state
    play.turn(15)
    assert play.payloads("door/state")[-1]["reason"] == "moved"
    play.turn(15)
    states = [state for _, _, state in play.events()]
    assert states == [before, "unknown", before]


def test_says_what_it_is_at_the_start(bundle: Bundle, play_list_camera: Any) -> None:
    play = Play(bundle, config_of(), play_list_camera, [])
    topics = [m.topic for _, m in play.sent]
    assert "homeassistant/device/transom_pi/config" in topics
    assert play.payloads("model/state")[0]["title"] == "tiny"
    assert play.payloads("door/state")[0]["reason"] == "starting"


def test_sends_no_discovery_where_it_is_switched_off(bundle: Bundle, play_list_camera: Any) -> None:
    config = config_of(homeassistant=HomeAssistantConfig(discovery=False))
    play = Play(bundle, config, play_list_camera, [])
    assert not [m for _, m in play.sent if m.topic.startswith("homeassistant")]


def test_sends_diagnostics_every_thirty_seconds(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 70))
    play.turn(70)
    figures = play.payloads("diagnostics")
    assert len(figures) == int(70 / DIAGNOSTICS_S)
    assert figures[1]["fps"]["hall"] == pytest.approx(FPS, rel=0.05)
    assert figures[1]["inference_ms"] > 0.0
    assert figures[1]["frame_age_s"]["hall"] < 0.5


def test_a_refusal_of_the_broker_is_told_at_once(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    class Refused(Recorder):
        number = 0

        def counters(self) -> PublisherCounters:
            return PublisherCounters(0, self.number, self.number)

        def counts(self) -> OutboxCounts:
            return OutboxCounts(0, 0, 0, self.number)

    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 10), recorder_type=Refused)
    play.turn(4)
    assert play.payloads("diagnostics") == []
    Refused.number = 1
    play.turn(6)
    (figures,) = play.payloads("diagnostics")
    assert (figures["refused_events"], figures["refused_topics"]) == (1, 1)


def test_a_still_and_settled_zone_is_looked_at_rarely(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    still = pictures(OPEN, 40)
    play = Play(bundle, config_of(), play_list_camera, still)
    play.turn(40)
    looks = len(play.daemon.inference_ms)
    assert 5 <= looks < 0.3 * len(still)
    assert play.events() == [("known", "unknown", "open")]


def test_refuses_a_zone_whose_task_the_bundle_does_not_have(
    bundle: Bundle, play_list_camera: Any
) -> None:
    with pytest.raises(ConfigurationError, match="zone door: task 'weather' is not in bundle tiny"):
        Play(bundle, config_of(camera_config(task="weather")), play_list_camera, [])


def test_refuses_a_network_that_answers_its_goldens_wrongly(
    bundle: Bundle, play_list_camera: Any
) -> None:
    goldens = bundle.goldens
    wrong = {name: logits + 1.0 for name, logits in goldens.logits.items()}
    damaged = replace(bundle, goldens=Goldens(goldens.crops, wrong, goldens.tolerance))
    with pytest.raises(ClassifierError, match="golden"):
        Play(damaged, config_of(), play_list_camera, [])


@pytest.fixture
def service_manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path / "notify") as manager:
        yield manager


def test_is_ready_after_the_first_verdict_of_every_camera(
    bundle: Bundle, pictures: Any, play_list_camera: Any, service_manager: ServiceManager
) -> None:
    config = config_of(camera_config("hall", "front"), camera_config("yard", "back"))
    play = Play(
        bundle,
        config,
        play_list_camera,
        pictures(OPEN, 2),
        [],
        notifier=Notifier(service_manager.environment),
    )
    play.turn(2)
    assert "READY=1" not in service_manager.heard()
    play.cameras[1].state = "gone"
    play.turn(1)
    heard = service_manager.heard()
    assert heard.count("READY=1") == 1
    assert "STATUS=watching 2 cameras" in heard


def test_says_in_a_line_what_it_watches(
    bundle: Bundle, pictures: Any, play_list_camera: Any, service_manager: ServiceManager
) -> None:
    notifier = Notifier(service_manager.environment)
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 1), notifier=notifier)
    play.turn(1)
    assert "STATUS=watching 1 camera" in service_manager.heard()


def test_says_that_no_change_can_be_told(
    bundle: Bundle, play_list_camera: Any, caplog: pytest.LogCaptureFixture
) -> None:
    decision = DecisionConfig(known_above=0.99, settle_s=1.0)
    Play(bundle, config_of(decision=decision), play_list_camera, [])
    assert "camera hall: no change would ever be told" in caplog.text


def test_feeds_the_watchdog_by_frames_and_by_reported_outages_only(
    bundle: Bundle, pictures: Any, play_list_camera: Any, service_manager: ServiceManager
) -> None:
    play = Play(
        bundle,
        config_of(),
        play_list_camera,
        pictures(OPEN, 10),
        notifier=Notifier(service_manager.environment),
    )
    play.turn(10)
    assert service_manager.heard().count("WATCHDOG=1") >= 8
    play.turn(30)  # it says that it is online, and no frame comes
    service_manager.heard()
    play.turn(10)
    assert "WATCHDOG=1" not in service_manager.heard()
    play.cameras[0].state = "gone"
    play.turn(2)
    assert "WATCHDOG=1" in service_manager.heard()


def test_a_turn_without_a_frame_says_so(
    bundle: Bundle, pictures: Any, play_list_camera: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, pictures(OPEN, 1))
    assert play.daemon.step()
    play.turn(2)
    assert not play.daemon.step()


def test_run_ends_when_asked_and_says_goodbye(
    bundle: Bundle, pictures: Any, play_list_camera: Any, service_manager: ServiceManager
) -> None:
    play = Play(
        bundle,
        config_of(),
        play_list_camera,
        pictures(OPEN, 1),
        notifier=Notifier(service_manager.environment),
    )
    before = signal.signal(signal.SIGUSR1, lambda *_: play.daemon.ask_to_stop())
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        play.daemon.run()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert play.payloads("status")[-1] == "offline"
    assert not play.cameras[0].is_started
    assert "STOPPING=1" in service_manager.heard()
