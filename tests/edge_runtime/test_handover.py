"""Probation, crashes and the way back: what serves after each start."""

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.handover import Handover
from edge_runtime.ledger import ALLOWED_STARTS, FILE_NAME, Ledger, LedgerFile
from edge_runtime.link import Received, Take
from edge_runtime.outbox import Outbox
from edge_runtime.replay import ClipClock
from edge_runtime.shadow import SharedLooks
from edge_runtime.update_reports import UpdateReports
from edge_runtime.updater import Updater
from tests.edge_runtime.broker import Broker, Subscriber, wait_until
from tests.edge_runtime.updating import (
    Device,
    Offer,
    TinyBundle,
    rewrite,
    steps,
    wait_for_step,
    way_back_from,
    wish_for,
)
from transom.config import OutboxConfig
from transom.messages import Message, encode
from transom.signing import new_key
from transom.updates import Install


@dataclass
class Home:
    """A device that serves a bundle of its own, sequence 1, and what goes over its broker."""

    folder: Path
    broker: Broker
    tiny: TinyBundle
    offer: Offer
    heard: Subscriber
    device: Device

    def bundle(self, sequence: int) -> Path:
        path = self.folder / f"{sequence}.bundle"
        return path if path.exists() else rewrite(self.tiny, path, sequence=sequence)

    def hand_over(self, sequence: int) -> Install:
        """Bring the device to the point where another bundle serves from the next start on."""
        with self.device as device:
            wish = self.offer.deploy(self.bundle(sequence))
            wait_until(lambda: device.updater.wants_restart, 30.0)
        return wish

    def commit(self, sequence: int) -> Install:
        """Bring the device to another bundle for good."""
        wish = self.hand_over(sequence)
        with self.device as device:
            device.work_well(61.0)
            wait_for_step(self.heard, "committed", wish.request)
        return wish

    def sequence_after_a_start(self) -> int:
        with self.device as device:
            return device.bundle.manifest.sequence

    def crash(self) -> int:
        """Start, end without a word, and return what served."""
        device = self.device.__enter__()
        device.crash()
        return device.bundle.manifest.sequence


@pytest.fixture
def home(tmp_path: Path, tiny_bundle: TinyBundle) -> Iterator[Home]:
    with (
        Broker(tmp_path / "broker", persistence=True) as broker,
        broker.subscriber("transom/hall-pi/#") as heard,
    ):
        device = Device(tmp_path, broker.config(), tiny_bundle.keys, ClipClock())
        device.store.mkdir()
        (device.store / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
        yield Home(tmp_path, broker, tiny_bundle, Offer(broker), heard, device)


def test_a_bundle_is_kept_once_the_device_was_well_with_it_for_long_enough(home: Home) -> None:
    wish = home.hand_over(2)
    with home.device as device:
        device.work_well(30.0)
        device.updater.note_health(is_well=False)  # what came before no longer counts
        device.work_well(59.0)
        assert device.handover.ledger.probation is not None
        device.work_well(2.0)
        wait_for_step(home.heard, "committed", wish.request)
    assert home.device.handover.ledger.probation is None
    assert home.sequence_after_a_start() == 2


def test_who_asks_again_for_a_bundle_on_probation_is_told_how_it_ends(home: Home) -> None:
    home.hand_over(2)
    with home.device as device:
        again = wish_for(home.bundle(2))
        home.offer.wish(again)
        wait_for_step(home.heard, "started", again.request)
        device.work_well(61.0)
        wait_for_step(home.heard, "committed", again.request)


def test_a_device_that_does_not_get_well_goes_back(home: Home) -> None:
    wish = home.hand_over(2)
    with home.device as device:
        for _ in range(302):
            device.updater.note_health(is_well=False)
            device.clock.now_ns += 1_000_000_000
        wait_until(lambda: device.updater.wants_restart)
    told = wait_for_step(home.heard, "rolled_back", wish.request)
    assert "was not well within 301 s" in told["reason"]
    assert home.sequence_after_a_start() == 1


class Gate:
    """The way to a broker, which lets nothing past while it is shut."""

    def __init__(self) -> None:
        self.takes: dict[str, Take] = {}
        self.opened, self.is_waited_for = threading.Event(), threading.Event()
        self.opened.set()

    def listen(self, topic_filter: str, take: Take) -> None:
        self.takes[topic_filter] = take

    def ignore(self, topic_filter: str) -> None:
        del self.takes[topic_filter]

    def send(self, message: Message) -> None:
        pass

    def flush_events(self) -> None:
        self.is_waited_for.set()
        self.opened.wait(30.0)

    def say(self, topic: str, payload: bytes) -> None:
        self.takes[topic](Received(topic, payload, retain=False))


def test_a_verdict_that_finds_the_inbox_full_is_given_again(home: Home, tmp_path: Path) -> None:
    home.hand_over(2)
    config, topics, clock, gate = home.device.config, home.device.topics, ClipClock(), Gate()
    outbox = Outbox(tmp_path / "outbox.sqlite3", OutboxConfig())
    reports = UpdateReports(topics, outbox, gate, clock)
    handover = Handover(config.models, reports, LedgerFile(home.device.store), "")
    updater = Updater(config, topics, gate, handover, reports, handover.begin(), clock)
    updater.start()
    wishes = [encode(wish_for(home.bundle(3))) for _ in range(2)]
    gate.say(topics.model_desired, wishes[0])
    gate.is_waited_for.clear()
    gate.opened.clear()
    gate.say(topics.model_desired, wishes[1])  # asked again, which is answered
    assert gate.is_waited_for.wait(30.0)
    for _ in range(100):
        gate.say(topics.model_desired, b"?")
    updater.note_health(is_well=True)
    clock.now_ns += 61_000_000_000
    updater.note_health(is_well=True)
    gate.opened.set()

    def is_kept() -> bool:
        updater.note_health(is_well=True)
        return handover.ledger.probation is None

    wait_until(is_kept)
    updater.stop()
    outbox.close()


def test_an_updater_that_has_ended_leaves_with_the_network_that_it_opened(home: Home) -> None:
    home.hand_over(2)
    assert home.device.updater.successor is not None
    ended = weakref.ref(home.device.updater)
    gc.disable()  # cycles are collected now and then, and a network is large
    try:
        del home.device.updater
        assert ended() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("is_committed", [False, True])
def test_three_crashes_in_a_row_bring_the_bundle_before_back(
    home: Home, is_committed: bool
) -> None:
    if is_committed:
        home.commit(2)
    else:
        home.hand_over(2)
    assert [home.crash() for _ in range(ALLOWED_STARTS)] == [2] * ALLOWED_STARTS
    assert [home.crash() for _ in range(5)] == [1] * 5
    with home.device:
        told = wait_for_step(home.heard, "rolled_back")
    assert told["reason"] == "daemon ended 3 times before it was well"


def test_a_house_that_loses_its_power_again_and_again_keeps_its_bundle(home: Home) -> None:
    home.commit(2)
    served = []
    for number in range(2 * ALLOWED_STARTS):
        home.device.boot_id = f"boot {number}"
        served.append(home.crash())
    assert served == [2] * (2 * ALLOWED_STARTS)
    assert [home.crash() for _ in range(ALLOWED_STARTS)][-1] == 1  # without its power going


def test_a_bundle_on_probation_is_left_though_the_machine_goes_down_with_it(home: Home) -> None:
    home.hand_over(2)
    served = []
    for number in range(ALLOWED_STARTS + 1):
        home.device.boot_id = f"boot {number}"
        served.append(home.crash())
    assert served == [2] * ALLOWED_STARTS + [1]


def test_an_orderly_end_is_no_crash(home: Home) -> None:
    home.hand_over(2)
    assert [home.sequence_after_a_start() for _ in range(5)] == [2] * 5


def test_goes_back_when_asked_and_only_from_the_bundle_that_is_meant(home: Home) -> None:
    home.commit(2)
    with home.device as device:
        other = way_back_from(home.bundle(1))
        home.offer.wish(other)
        assert "serves tiny 2" in wait_for_step(home.heard, "refused", other.request)["reason"]
        wish = way_back_from(home.bundle(2))
        home.offer.wish(wish)
        wait_until(lambda: device.updater.wants_restart)
    wait_for_step(home.heard, "rolled_back", wish.request)
    assert home.sequence_after_a_start() == 1
    assert steps(home.heard, wish.request) == ["rolled_back"]


def test_without_a_bundle_from_before_there_is_no_way_back(home: Home) -> None:
    with home.device:
        wish = way_back_from(home.tiny.path)
        home.offer.wish(wish)
        told = wait_for_step(home.heard, "refused", wish.request)
    assert "has no bundle from before" in told["reason"]


def test_the_bundle_before_is_kept_and_those_before_it_are_not(home: Home) -> None:
    first, second, third = (home.commit(sequence) for sequence in (2, 3, 4))
    kept = {path.name for path in home.device.store.glob("*.bundle")}
    assert kept == {"mine.bundle", f"{second.digest}.bundle", f"{third.digest}.bundle"}
    assert first.digest not in home.device.handover.ledger.installed


def test_a_signed_bundle_from_before_is_not_taken_again(home: Home) -> None:
    home.commit(2)
    home.commit(3)
    with home.device:
        for sequence in (1, 2):
            wish = home.offer.deploy(home.bundle(sequence))
            reason = wait_for_step(home.heard, "refused", wish.request)["reason"]
            assert f"has sequence {sequence}, must be above 3" in reason


def test_a_bundle_that_was_left_is_not_taken_again_even_if_it_is_the_newest(home: Home) -> None:
    home.hand_over(2)
    [home.crash() for _ in range(ALLOWED_STARTS)]
    with home.device:
        wish = home.offer.deploy(home.bundle(2))
        reason = wait_for_step(home.heard, "refused", wish.request)["reason"]
    assert "was refused before: daemon ended 3 times before it was well" in reason
    assert "set updates.allow_older" in reason


def test_an_older_bundle_is_taken_where_the_device_itself_allows_it(home: Home) -> None:
    home.commit(3)
    home.device = Device(
        home.folder,
        home.broker.config(),
        home.tiny.keys,
        ClipClock(),
        allow_older=True,
    )
    home.hand_over(2)
    assert home.sequence_after_a_start() == 2


def test_a_newer_bundle_that_somebody_copies_into_the_store_serves(home: Home) -> None:
    home.commit(2)
    (home.device.store / "by-hand.bundle").write_bytes(home.bundle(5).read_bytes())
    assert home.sequence_after_a_start() == 5


def test_a_damaged_ledger_leaves_the_newest_bundle_serving(home: Home) -> None:
    home.commit(2)
    (home.device.store / FILE_NAME).write_bytes(b'{"serving":')
    assert home.sequence_after_a_start() == 2


def trust_two(home: Home) -> Path:
    """Let the device trust the old key and a new one; return the folder of both."""
    keys = home.folder / "both"
    keys.mkdir()
    for name, key in (("old", home.tiny.private_key), ("new", home.folder / "new.key")):
        if name == "new":
            new_key(key)
        (keys / f"{name}.pub").write_bytes(key.with_suffix(".pub").read_bytes())
    home.device = Device(home.folder, home.broker.config(), keys, ClipClock())
    return keys


def test_bundles_of_the_old_key_and_the_new_one_are_taken_while_both_are_trusted(
    home: Home,
) -> None:
    keys = trust_two(home)
    home.commit(2)
    rewrite(home.tiny, home.folder / "3.bundle", sequence=3, key=home.folder / "new.key")
    home.commit(3)

    (keys / "old.pub").unlink()  # nothing signed with it is left that serves
    assert home.sequence_after_a_start() == 3
    with home.device:
        wish = home.offer.deploy(home.bundle(4))
        reason = wait_for_step(home.heard, "refused", wish.request)["reason"]
    assert "no trusted key has signed this" in reason


def test_a_bundle_on_probation_whose_key_is_revoked_is_left_and_not_told_to_be_kept(
    home: Home,
) -> None:
    keys = trust_two(home)
    rewrite(home.tiny, home.folder / "2.bundle", sequence=2, key=home.folder / "new.key")
    wish = home.hand_over(2)
    (keys / "new.pub").unlink()
    with home.device as device:
        reason = wait_for_step(home.heard, "rolled_back", wish.request)["reason"]
        device.work_well(61.0)
        assert device.bundle.manifest.sequence == 1
        again = home.offer.deploy(home.bundle(2))
        wait_for_step(home.heard, "refused", again.request)
    assert "tiny 1 serves instead" in reason
    assert "committed" not in steps(home.heard)
    assert home.device.handover.ledger.probation is None


def test_the_highest_sequence_there_is_keeps_nothing_out_once_its_key_is_not_trusted(
    home: Home,
) -> None:
    """Who has stolen a key may sign that, and nothing can ever be above it."""
    keys = trust_two(home)
    home.commit(2**53 - 1)
    (keys / "old.pub").unlink()
    rewrite(home.tiny, home.folder / "3.bundle", sequence=3, key=home.folder / "new.key")
    rewrite(home.tiny, home.folder / "2.bundle", sequence=2, key=home.folder / "new.key")
    home.commit(3)
    assert home.sequence_after_a_start() == 3
    with home.device:
        wish = home.offer.deploy(home.bundle(2))
        reason = wait_for_step(home.heard, "refused", wish.request)["reason"]
    assert "has sequence 2, must be above 3" in reason


def test_a_bundle_whose_installation_was_cut_short_does_not_serve_though_it_is_the_newest(
    home: Home,
) -> None:
    wish = home.hand_over(2)
    ledger = LedgerFile(home.device.store)
    ledger.write(Ledger(installed=(wish.digest,)))  # as it is before the last step
    assert home.device.handover.path_of(wish.digest).exists()
    assert home.sequence_after_a_start() == 1
    home.hand_over(2)
    assert home.sequence_after_a_start() == 2


def test_where_the_bundle_that_serves_is_damaged_the_one_before_serves(home: Home) -> None:
    home.commit(2)
    third = home.commit(3)
    home.device.handover.path_of(third.digest).write_bytes(b"damaged")
    assert home.sequence_after_a_start() == 2


def test_a_bundle_is_kept_though_an_older_one_cannot_be_removed(home: Home) -> None:
    second = home.commit(2)
    home.commit(3)
    file = home.device.handover.path_of(second.digest)
    file.unlink()
    file.mkdir()  # which no unlink removes
    home.commit(4)
    assert second.digest in home.device.handover.ledger.installed
    file.rmdir()
    home.commit(5)
    assert second.digest not in home.device.handover.ledger.installed


def test_a_ledger_that_the_disk_does_not_give_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()  # reading it is an error of the disk's kind
    file = LedgerFile(tmp_path)
    assert file.read() == Ledger()
    depths = set()
    for _ in range(3):  # as the updater tries again; the error must not grow by it
        with pytest.raises(IsADirectoryError) as caught:
            file.write(Ledger(newest=3))
        depths.add(len(caught.traceback))
    assert len(depths) == 1
    assert (tmp_path / FILE_NAME).is_dir()


# ---------------------------------------------------------------- the shadow


def looks(said: str, count: int, brightness: int) -> SharedLooks:
    crops = np.full((count, 32, 32, 3), brightness, np.uint8)
    return SharedLooks(crops, (("state", said),) * count)


@pytest.mark.parametrize(
    ("said", "agreement", "outcome"),
    [("closed", 1.0, "shadow"), ("open", 0.0, "refused")],
)
def test_the_new_network_runs_beside_the_old_one_and_must_not_contradict_it(
    home: Home, said: str, agreement: float, outcome: str
) -> None:
    home.device = Device(
        home.folder, home.broker.config(), home.tiny.keys, ClipClock(), shadow_decisions=20
    )
    with home.device as device:
        wish = home.offer.deploy(home.bundle(2))
        wait_until(lambda: device.updater.shadow_input is not None, 30.0)
        for _ in range(4):
            device.updater.take_looks(looks(said, 5, 38))
        told: dict[str, Any] = wait_for_step(home.heard, outcome, wish.request)
    if outcome == "shadow":
        assert (told["decisions"], told["agreement"]) == (20, agreement)
        assert home.sequence_after_a_start() == 2
    else:
        assert "on 0.0% of 20 looks, 50.0% required" in told["reason"]
        assert home.sequence_after_a_start() == 1


def test_a_bundle_whose_key_is_revoked_while_its_network_runs_beside_is_refused(home: Home) -> None:
    keys = trust_two(home)
    rewrite(home.tiny, home.folder / "2.bundle", sequence=2, key=home.folder / "new.key")
    home.device = Device(home.folder, home.broker.config(), keys, ClipClock(), shadow_decisions=20)
    with home.device as device:
        wish = home.offer.deploy(home.bundle(2))
        wait_until(lambda: device.updater.shadow_input is not None, 30.0)
        (keys / "new.pub").unlink()
        for _ in range(4):
            device.updater.take_looks(looks("closed", 5, 38))
        reason = wait_for_step(home.heard, "refused", wish.request)["reason"]
    assert "no trusted key has signed this" in reason
    assert home.sequence_after_a_start() == 1
