"""A real clip through the daemon as systemd starts it, into a real broker, to a subscriber."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.samples import SampleStore
from tests.edge_runtime.broker import (
    Broker,
    Certificates,
    Subscriber,
    make_certificates,
    wait_until,
)
from tests.edge_runtime.service_manager import ServiceManager
from transom.config import SamplesConfig

DEVICE = "hall-pi"
ROOT = f"transom/{DEVICE}"
CLIP = Path("window_clip") / "main_campus_1.mp4"
PASSWORD = "canary-password-7f3a"
USERS = {"transom": PASSWORD, "house": "house-password"}
ACCESS = (
    "user transom",
    f"topic write {ROOT}/#",
    f"topic write homeassistant/device/transom_{DEVICE}/config",
    "topic read homeassistant/status",
    f"topic read {ROOT}/+/correct",
    "topic read zigbee2mqtt/#",
    "user house",
    "topic read #",
    f"topic write {ROOT}/+/correct",
    "topic write zigbee2mqtt/#",
)


@dataclass(frozen=True)
class ClipBundle:
    """A bundle and the zone of the clip in which it sees something happen.

    Attributes:
        path: The bundle.
        keys: Folder of the key that signed it.
        zone: Polygon, in fractions of the frame.
    """

    path: Path
    keys: Path
    zone: list[list[float]]


@pytest.fixture(scope="module")
def clip_bundle(tiny_bundle: Any) -> ClipBundle:
    """A network that knows brightness, and a pane that gets darker as its window is shut."""
    left, top, right, bottom = 11 / 32, 10 / 24, 14 / 32, 16 / 24
    zone = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return ClipBundle(tiny_bundle.path, tiny_bundle.keys, zone)


class Installation:
    """A device's files, a broker with password, access list and TLS, and the daemon between.

    Args:
        folder: Where the files go.
        clip: What the camera shows.
        bundle: What judges it.
        loop: Whether the clip starts again at its end.
        zone: Further keys of the zone, in TOML.
        tables: Further tables, in TOML.
    """

    def __init__(
        self,
        folder: Path,
        clip: Path,
        bundle: ClipBundle,
        *,
        loop: bool,
        zone: str = "",
        tables: str = "",
    ) -> None:
        self.folder = folder
        self.certificates: Certificates = make_certificates(folder / "certificates")
        self.broker = Broker(
            folder / "broker", users=USERS, access=ACCESS, certificates=self.certificates
        )
        (folder / "credentials").mkdir()
        (folder / "credentials" / "mqtt-password").write_text(PASSWORD)
        self.config = folder / "transom.toml"
        self.config.write_text(
            f"""
device = "{DEVICE}"
state_directory = "{folder / "state"}"
[mqtt]
host = "localhost"
port = {self.broker.port}
tls = true
ca_file = "{self.certificates.authority}"
username = "transom"
password_file = "mqtt-password"
[models]
trusted_keys = "{bundle.keys}"
bundle = "{bundle.path}"
{tables}
[[cameras]]
name = "campus"
source = "file:{clip}"
loop = {str(loop).lower()}
fps = 5
[[cameras.zones]]
name = "pane"
device_class = "window"
polygon = {bundle.zone}
snapshot = true
{zone}
"""
        )

    @contextmanager
    def daemon(self, manager: ServiceManager) -> Iterator["subprocess.Popen[str]"]:
        """Start `transom run` as the unit does, and end it whatever happens."""
        environment = {
            name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"
        } | {"CREDENTIALS_DIRECTORY": str(self.folder / "credentials"), **manager.environment}
        with (self.folder / "journal").open("ab") as journal:
            process = subprocess.Popen(
                [sys.executable, "-m", "transom", "run", "--config", str(self.config)],
                env=environment,
                stderr=journal,
                stdout=journal,
                text=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def house(self) -> Iterator[Subscriber]:
        with self.broker.subscriber(user="house", password=USERS["house"]) as subscriber:
            yield subscriber

    def say(self, topic: str, payload: str) -> None:
        """Publish as somebody of the house."""
        self.broker.publish(
            topic, payload, user="house", password=USERS["house"], certificates=self.certificates
        )

    def replayed(self) -> list[dict[str, Any]]:
        """What `transom replay` says of the same clip."""
        done = subprocess.run(
            [sys.executable, "-m", "transom", "replay", "--config", str(self.config), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


def until_ready(manager: ServiceManager) -> list[str]:
    heard: list[str] = []

    def is_ready() -> bool:
        heard.extend(manager.heard())
        return "READY=1" in heard

    wait_until(is_ready, 30.0)
    return heard


def payloads(subscriber: Subscriber, topic: str) -> list[Any]:
    found = subscriber.payloads(topic)
    return [json.loads(p) if isinstance(p, str) and p.startswith("{") else p for p in found]


def transitions(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(e["event_type"], e["previous"], e["state"]) for e in events]


@pytest.fixture(scope="module")
def played(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, clip_bundle: ClipBundle
) -> Iterator[tuple[Installation, Subscriber, list[str]]]:
    """The clip, played once from its beginning to its end; then SIGTERM."""
    folder = tmp_path_factory.mktemp("played")
    place = Installation(folder, shared_data / CLIP, clip_bundle, loop=False)
    with (
        place.broker,
        ServiceManager(folder / "notify") as manager,
        place.house() as house,
        place.daemon(manager) as process,
    ):
        heard = until_ready(manager)
        # At the clip's end the camera is gone, and the zone with it.
        wait_until(lambda: "unknown" in str(payloads(house, f"{ROOT}/pane/event")[1:]), 30.0)
        process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        assert process.wait(5.0) == 0, (folder / "journal").read_text()
        assert time.monotonic() - began_s < 2.0
        house.wait_for(f"{ROOT}/status", "offline")
        heard += manager.heard()
        yield place, house, heard


Played = tuple[Installation, Subscriber, list[str]]


def test_a_subscriber_gets_the_events_that_a_replay_foretells(played: Played) -> None:
    place, house, _ = played
    lines = place.replayed()
    foretold = [line for line in lines[:-1] if line["topic"] == f"{ROOT}/pane/event"]
    expected = transitions([line["payload"] for line in foretold])
    got = payloads(house, f"{ROOT}/pane/event")
    assert len(expected) >= 2, "the clip must show a change"
    assert transitions(got)[: len(expected)] == expected
    assert transitions(got)[len(expected) :] == [("unknown", expected[-1][2], "unknown")]
    times_s = [(e["monotonic_ns"] - got[0]["monotonic_ns"]) / 1e9 for e in got]
    foretold_s = [line["t"] - foretold[0]["t"] for line in foretold]
    assert times_s[: len(expected)] == pytest.approx(foretold_s, abs=0.7)


def test_every_event_is_whole(played: Played) -> None:
    events = payloads(played[1], f"{ROOT}/pane/event")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len({event["event_id"] for event in events}) == len(events)
    for event in events:
        assert event["boot_id"] == boot_id
        assert isinstance(event["time_synced"], bool)
        assert 0.0 <= event["latency_ms"] < 1000.0
        assert 0.0 <= event["confidence"] <= 1.0
        assert event["at"].endswith("Z")
    moments = [event["monotonic_ns"] for event in events]
    assert moments == sorted(moments)
    assert not any(copy.retain for copy in played[1].copies(f"{ROOT}/pane/event"))


def test_the_status_goes_from_online_to_offline(played: Played) -> None:
    assert payloads(played[1], f"{ROOT}/status") == ["online", "offline"]


def test_the_camera_and_the_states_are_told(played: Played) -> None:
    house = played[1]
    assert "online" in payloads(house, f"{ROOT}/camera/campus/status")
    assert payloads(house, f"{ROOT}/camera/campus/status")[-1] == "offline"
    last = payloads(house, f"{ROOT}/pane/state")[-1]
    assert (last["state"], last["reason"]) == ("unknown", "gone")
    assert last["last_known"] == payloads(house, f"{ROOT}/pane/event")[-1]["previous"]
    assert payloads(house, f"{ROOT}/pane/snapshot")


def test_states_are_retained_for_those_who_come_later(played: Played) -> None:
    place, house, _ = played
    with place.house() as late:
        for topic in ("status", "pane/state", "camera/campus/status", "model/state"):
            copy = late.wait_for(f"{ROOT}/{topic}")
            assert copy.retain
            assert copy.payload == house.copies(f"{ROOT}/{topic}")[-1].payload
        assert late.wait_for(f"homeassistant/device/transom_{DEVICE}/config").retain


def test_discovery_names_the_topics_that_are_used(played: Played) -> None:
    house = played[1]
    discovery = payloads(house, f"homeassistant/device/transom_{DEVICE}/config")[0]
    assert set(discovery) <= {"device", "origin", "availability", "qos", "components"}
    pane = discovery["components"]["pane"]
    assert pane["device_class"] == "window"
    assert house.copies(pane["state_topic"])


def test_the_service_manager_hears_readiness_progress_and_the_end(played: Played) -> None:
    heard = played[2]
    assert heard.count("READY=1") == 1
    assert "WATCHDOG=1" in heard
    assert heard[-1] == "STOPPING=1"


def test_no_secret_is_written_down(played: Played) -> None:
    place, house, _ = played
    journal = (place.folder / "journal").read_text()
    assert PASSWORD not in journal
    assert PASSWORD not in str(house.copies())
    for path in (place.folder / "state").rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()


def test_nothing_is_left_in_the_outbox(played: Played) -> None:
    from edge_runtime.outbox import FILE_NAME, Outbox
    from transom.config import OutboxConfig

    outbox = Outbox(played[0].folder / "state" / FILE_NAME, OutboxConfig())
    counts = outbox.counts()
    outbox.close()
    assert (counts.queued, counts.dropped, counts.refused) == (0, 0, 0)


def test_a_daemon_that_is_killed_leaves_its_last_will_and_no_process(
    shared_data: Path, tmp_path: Path, clip_bundle: ClipBundle
) -> None:
    place = Installation(tmp_path, shared_data / CLIP, clip_bundle, loop=True)
    with (
        place.broker,
        ServiceManager(tmp_path / "notify") as manager,
        place.house() as house,
        place.daemon(manager) as process,
    ):
        house.wait_for(f"{ROOT}/status", "online", 30.0)
        until_ready(manager)
        children = children_of(process.pid)
        assert children, "each camera has a process of its own"
        process.kill()
        house.wait_for(f"{ROOT}/status", "offline", 5.0)
        wait_until(lambda: not any(is_running(child) for child in children), 5.0)


def test_a_looped_clip_stops_within_two_seconds_and_says_offline(
    shared_data: Path, tmp_path: Path, clip_bundle: ClipBundle
) -> None:
    place = Installation(tmp_path, shared_data / CLIP, clip_bundle, loop=True)
    with (
        place.broker,
        ServiceManager(tmp_path / "notify") as manager,
        place.house() as house,
        place.daemon(manager) as process,
    ):
        house.wait_for(f"{ROOT}/pane/event", within_s=30.0)
        until_ready(manager)
        children = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        began_s = time.monotonic()
        assert process.wait(5.0) == 0
        assert time.monotonic() - began_s < 2.0
        house.wait_for(f"{ROOT}/status", "offline", 1.0)
        assert not any(is_running(child) for child in children)


def test_corrections_and_a_contact_sensor_teach_the_installed_daemon(
    shared_data: Path, tmp_path: Path, clip_bundle: ClipBundle
) -> None:
    place = Installation(
        tmp_path,
        shared_data / CLIP,
        clip_bundle,
        loop=True,
        zone='correct = true\ncontact = { topic = "zigbee2mqtt/pane" }',
        tables="[samples]\nevery_s = 1.0",
    )
    with (
        place.broker,
        ServiceManager(tmp_path / "notify") as manager,
        place.house() as house,
        place.daemon(manager) as process,
    ):
        until_ready(manager)

        def told(key: str) -> Any:
            states = payloads(house, f"{ROOT}/pane/state")
            return states[-1][key] if states else None

        place.say(f"{ROOT}/pane/correct", "closed")
        wait_until(lambda: (told("taught") or {}).get("examples") == {"closed": 1}, 30.0)
        place.say("zigbee2mqtt/pane", '{"contact": true}')
        wait_until(lambda: (told("contact") or {}).get("state") == "closed", 30.0)
        place.say(f"{ROOT}/pane/correct", "open")
        wait_until(lambda: "open" in (told("taught") or {"examples": {}})["examples"], 30.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5.0) == 0, (tmp_path / "journal").read_text()
    store = SampleStore(tmp_path / "state" / "samples.sqlite3", SamplesConfig())
    labels = {sample.label for sample in store.lessons("pane", "state")}
    store.close()
    assert "open" in labels


def children_of(process_id: int) -> list[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(word) for word in text.split()]


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
