"""What a zone is taught: in the daemon, with a real network; corrections through a real broker."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.lessons import LEAST_APART_S, MOST_OF_A_LABEL, WAIT_S
from edge_runtime.link import Received
from edge_runtime.mqtt import Publisher, PublisherCounters
from edge_runtime.notify import Notifier
from edge_runtime.outbox import Outbox
from edge_runtime.replay import Recorder
from edge_runtime.samples import SampleStore
from edge_runtime.zone_messages import MOST_A_TURN
from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.test_daemon import Play, camera_config, config_of
from transom.bundle import Bundle, read_bundle
from transom.config import Config, OutboxConfig, SamplesConfig
from transom.crop import Image
from transom.messages import Topics

SHADE, LIGHT = 120.0, 217.0
"""Brightness of a blue door shut and open: the first is `ajar` to the network."""

CORRECT = "transom/pi/door/correct"


class Commanded(Recorder):
    """A broker to whom a test says what somebody else publishes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.takers: dict[str, Callable[[Received], None]] = {}
        self.outages = 0

    def counters(self) -> PublisherCounters:
        """Say how often the connection was lost and is back."""
        return PublisherCounters(self.outages, 0, 0)

    def listen(
        self, topic_filter: str, take: Callable[[Received], None], qos: Literal[0, 1] = 1
    ) -> None:
        assert qos == 0
        self.takers[topic_filter] = take


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture(scope="module")
def blue(scene: Callable[..., Image]) -> Callable[[float, float], list[Image]]:
    """Frames of a blue door of a brightness, for some seconds."""
    drawn: dict[float, list[Image]] = {}

    def paint(brightness: float, seed: int) -> Image:
        image = scene(brightness, seed=seed, height=120).astype(np.int16)
        image[18:114, 56:104] += np.array([30, 0, -30], np.int16)
        return np.clip(image, 0, 255).astype(np.uint8)

    def frames(brightness: float, seconds: float) -> list[Image]:
        if brightness not in drawn:
            drawn[brightness] = [paint(brightness, seed) for seed in range(20)]
        return [drawn[brightness][i % 20] for i in range(round(seconds * 5))]

    return frames


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    opened = SampleStore(tmp_path / "samples.sqlite3", SamplesConfig())
    yield opened
    opened.close()


def teachable(*, every_s: float = 60.0, **more: Any) -> Config:
    samples = SamplesConfig(random_per_day=0.0, every_s=every_s)
    return config_of(camera_config(correct=True, **more), samples=samples)


@pytest.fixture
def play(bundle: Bundle, play_list_camera: Any, store: SampleStore) -> Callable[..., Play]:
    def start(frames: list[Image], config: Config | None = None, **more: Any) -> Play:
        return Play(
            more.pop("bundle", bundle),
            config or teachable(),
            play_list_camera,
            frames,
            recorder_type=Commanded,
            samples=store,
            **more,
        )

    return start


def say(play: Play, said: str, *, topic: str = CORRECT, retain: bool = False) -> None:
    take = play.recorder.takers.get(topic)  # type: ignore[attr-defined]
    if take is not None:
        take(Received(topic, said.encode(), retain))


def states(play: Play) -> list[str]:
    return [state for _, _, state in play.events()]


def taught(play: Play) -> Any:
    return play.payloads("door/state")[-1]["taught"]


def test_two_taps_turn_a_door_that_the_network_gets_wrong(play: Any, blue: Any) -> None:
    frames = blue(SHADE, 10) + blue(LIGHT, 10) + blue(SHADE, 10) + blue(LIGHT, 10)
    door = play(frames)
    door.turn(6)
    assert states(door) == ["ajar"]
    say(door, "closed")
    door.turn(10)
    assert states(door) == ["ajar", "open"]
    assert taught(door) == {"examples": {"closed": 1}, "is_used": False, "reason": "few"}
    say(door, "open")
    door.turn(24)
    assert taught(door) == {"examples": {"open": 1, "closed": 1}, "is_used": True, "reason": None}
    assert states(door) == ["ajar", "open", "closed", "open"]
    # What the network itself says goes on being told beside it.
    assert door.payloads("door/state")[-2]["tasks"]["state"]["class"] == "ajar"


def test_a_lesson_takes_effect_while_nothing_moves(play: Any, blue: Any) -> None:
    door = play(blue(LIGHT, 8) + blue(SHADE, 40))
    door.turn(6)
    say(door, "open")
    door.turn(32)
    assert states(door) == ["open", "ajar"]
    say(door, "closed")
    door.turn(6)
    assert states(door) == ["open", "ajar", "closed"]


def test_what_was_taught_outlives_a_restart(play: Any, blue: Any) -> None:
    door = play(blue(LIGHT, 6) + blue(SHADE, 6))
    for said in ("open", "closed"):
        door.turn(5)
        say(door, said)
        door.turn(1)
    again = play(blue(SHADE, 5))
    assert taught(again)["is_used"]
    again.turn(5)
    assert states(again) == ["closed"]


def test_another_bundle_answers_the_labelled_pictures_anew(
    play: Any, blue: Any, bundle: Bundle, store: SampleStore
) -> None:
    door = play(blue(LIGHT, 6) + blue(SHADE, 6))
    for said in ("open", "closed"):
        door.turn(5)
        say(door, said)
        door.turn(1)
    before = {s.id: s.embedding for s in store.lessons("door", "state")}
    again = play(blue(SHADE, 5), bundle=replace(bundle, digest="f" * 64))
    after = list(store.lessons("door", "state"))
    assert {s.model for s in after} == {"f" * 64}
    for sample in after:  # from the stored picture, whose compression changes it a little
        assert sample.embedding == pytest.approx(before[sample.id], abs=0.02)
    again.turn(5)
    assert states(again) == ["closed"]


def test_a_zone_that_now_tells_two_states_keeps_what_it_was_taught(
    play: Any, blue: Any, store: SampleStore
) -> None:
    door = play(blue(LIGHT, 6) + blue(SHADE, 6))
    for said in ("ajar", "closed"):
        door.turn(5)
        say(door, said)
        door.turn(1)
    again = play(blue(SHADE, 5), teachable(ajar_is_open=True))
    assert {s.label for s in store.lessons("door", "state")} == {"closed", "open"}
    again.turn(5)
    assert states(again) == ["closed"]
    play(blue(SHADE, 5), teachable())
    assert {s.label for s in store.lessons("door", "state")} == {"closed", "ajar|open"}


def test_a_stored_picture_that_is_damaged_or_of_unknown_label_teaches_nothing(
    play: Any, blue: Any, bundle: Bundle, store: SampleStore
) -> None:
    door = play(blue(LIGHT, 5))
    door.turn(5)
    (kept,) = store.samples()
    labelled = {"labelled_by": "page", "labelled_at": "2026-01-01T00:00:00.000Z"}
    away = np.array([-1.0, 0.0, 0.0, 0.0], np.float32)
    store.add(replace(kept, embedding=away, picture=b"no JPEG", label="open", **labelled))
    store.add(replace(kept, label="half_open", **labelled))
    again = play(blue(LIGHT, 5), bundle=replace(bundle, digest="e" * 64))
    again.turn(5)
    assert [s.label for s in store.samples()] == ["half_open"]
    assert taught(again) is None


def test_the_newest_correction_and_all_of_them_can_be_taken_back(
    play: Any, blue: Any, store: SampleStore
) -> None:
    door = play(blue(LIGHT, 6) + blue(SHADE, 60))
    for said in ("open", "closed"):
        door.turn(5)
        say(door, said)
        door.turn(1)
    door.turn(6)
    assert states(door)[-1] == "closed"
    say(door, "forget-last")
    door.turn(1)
    assert taught(door) == {"examples": {"open": 1}, "is_used": False, "reason": "few"}
    door.turn(6)
    assert states(door)[-1] == "ajar"
    say(door, "forget-all")
    door.turn(1)
    assert taught(door) is None
    assert store.counts().labelled == 0


def test_a_label_from_elsewhere_teaches_at_once(play: Any, blue: Any, store: SampleStore) -> None:
    door = play(blue(LIGHT, 6) + blue(SHADE, 30), teachable(every_s=1.0))
    door.turn(12)
    assert states(door) == ["open", "ajar"]
    kept = {s.classes[s.probabilities.argmax()]: s.id for s in store.samples()}
    assert store.label(kept["open"], "open", "page", "2026-01-01T00:00:00.000Z")
    assert store.label(kept["ajar"], "closed", "page", "2026-01-01T00:00:01.000Z")
    door.turn(6)
    assert states(door) == ["open", "ajar", "closed"]


def test_a_zone_that_is_not_to_be_corrected_is_not(
    play: Any, blue: Any, store: SampleStore
) -> None:
    config = config_of(camera_config(), samples=SamplesConfig(random_per_day=0.0))
    door = play(blue(LIGHT, 4), config)
    say(door, "closed")
    door.turn(4)
    assert store.counts().labelled == 0


@pytest.mark.parametrize(("said", "retain"), [("wide open", False), ("closed", True)])
def test_what_is_no_correction_is_a_warning(
    play: Any, blue: Any, store: SampleStore, caplog: pytest.LogCaptureFixture, said: str,
    retain: bool,
) -> None:  # fmt: skip
    door = play(blue(LIGHT, 4))
    say(door, said, retain=retain)
    door.turn(4)
    assert store.counts().labelled == 0
    assert "correction is not used" in caplog.text


def test_a_label_for_which_no_picture_comes_is_dropped(
    play: Any, blue: Any, store: SampleStore, caplog: pytest.LogCaptureFixture
) -> None:
    dark = [np.full_like(blue(LIGHT, 1)[0], 4) + np.uint8(i % 3) for i in range(75)]
    door = play(blue(LIGHT, 4) + dark + blue(LIGHT, 4))
    door.turn(5)
    say(door, "closed")
    door.turn(WAIT_S + 8)
    assert store.counts().labelled == 0
    assert "label was not used, no usable picture came" in caplog.text


def test_who_speaks_faster_than_is_heard_does_not_keep_the_daemon_from_looking(
    play: Any, blue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = play(blue(LIGHT, 10))
    said = 0

    def correct(*_: object) -> None:
        nonlocal said
        said += 1
        assert said < 1000, "hears without end"
        say(door, "open")

    monkeypatch.setattr("edge_runtime.zone_watch.ZoneWatch.correct", correct)
    say(door, "open")
    for _ in range(100):
        say(door, "open")
    door.turn(2)
    assert 10 <= said <= 10 * MOST_A_TURN
    assert door.payloads("door/state")[-1]["state"] != "unknown"


def test_a_flood_of_corrections_is_not_a_flood_of_writes(
    play: Any, blue: Any, store: SampleStore
) -> None:
    door = play(blue(LIGHT, 10) + blue(SHADE, 10))
    added: list[float] = []
    add = store.add
    store.add = lambda sample: added.append(door.clock.monotonic_s()) or add(sample)  # type: ignore[method-assign, func-returns-value]
    for index in range(100):
        say(door, ("closed", "open")[index % 2])
        door.turn(0.2)
    labelled = [s for s in store.samples() if s.label is not None]
    assert len(labelled) <= 2  # the pictures are alike
    gaps = np.diff([s for s in added if s > 1.0])
    assert len(added) <= 20 / LEAST_APART_S + 4
    assert len(gaps) > 5


def test_no_more_than_the_newest_examples_of_a_label_are_learnt_from(
    bundle: Bundle, play: Any, blue: Any, store: SampleStore
) -> None:
    door = play(blue(LIGHT, 4))
    door.turn(4)
    (kept,) = store.samples()
    random = np.random.default_rng(0)
    for number in range(MOST_OF_A_LABEL + 5):
        embedding = random.normal(0, 1, 4).astype(np.float32)
        at = f"2026-01-01T00:00:{number:02}.000Z"
        store.add(
            replace(kept, embedding=embedding, label="open", labelled_by="page", labelled_at=at)
        )
    held = len(list(store.lessons("door", "state")))
    again = play(blue(LIGHT, 1))
    again.turn(1)
    assert taught(again)["examples"] == {"open": min(held, MOST_OF_A_LABEL)}


def test_a_correction_comes_through_a_real_broker(
    bundle: Bundle, blue: Any, play_list_camera: Any, store: SampleStore, tmp_path: Path
) -> None:
    frames = itertools.cycle(blue(LIGHT, 4))
    with Broker(tmp_path / "broker") as broker, broker.subscriber() as house:
        config = msgspec.structs.replace(teachable(), mqtt=broker.config())
        clock, topics = Clock(), Topics("transom", "pi")
        outbox = Outbox(tmp_path / "outbox.sqlite3", OutboxConfig())
        publisher = Publisher(config.mqtt, topics, outbox, secret=None, clock=clock)
        camera = play_list_camera(frames, monotonic_ns=clock.monotonic_ns)
        daemon = Daemon(
            config, bundle, [camera], publisher, outbox, clock, Notifier({}), samples=store
        )
        daemon.start()

        def until(condition: Callable[[], Any]) -> None:
            wait_until(lambda: (daemon.step(), condition())[1], 20.0)

        until(lambda: CORRECT in broker.log())
        broker.publish(CORRECT, "closed")
        until(lambda: store.counts().labelled == 1)
        until(lambda: '"closed":1' in str(house.payloads("transom/pi/door/state")))
        daemon.stop()
        outbox.close()
    (lesson,) = store.lessons("door", "state")
    assert (lesson.label, lesson.labelled_by) == ("closed", "mqtt")
