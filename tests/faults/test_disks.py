"""Disks that are full or read-only, under a publisher and under the whole daemon."""

import contextlib
import json
import sqlite3
import time
from pathlib import Path

import pytest

from edge_runtime.clock import Clock
from edge_runtime.ledger import Ledger, LedgerFile
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import FILE_NAME, Outbox
from tests.edge_runtime.broker import Broker, Subscriber, wait_until
from tests.edge_runtime.conftest import TinyBundle
from tests.edge_runtime.disk import SmallDisk, disk
from tests.edge_runtime.updating import Offer, rewrite, wait_for_step, wish_for
from tests.faults.place import ROOT, Place, event_ids, payloads
from tests.faults.proof import Proof
from transom.bundle import read_bundle
from transom.config import OutboxConfig
from transom.messages import Message, Topics

__all__ = ["disk"]

pytestmark = pytest.mark.timeout(400)  # many starts, on a machine that others use too
TOPICS = Topics("transom", "hall-pi")
EVENT = TOPICS.event("front_door")
RECOVERY_S = 5.0


def put(outbox: Outbox, publisher: Publisher, *numbers: int) -> None:
    for number in numbers:
        outbox.put(Message(EVENT, b'{"event_id": "%d"}' % number + b" " * 400), str(number))
    publisher.flush_events()


def numbers(subscriber: Subscriber) -> list[int]:
    payloads = [p if isinstance(p, dict) else json.loads(p) for p in subscriber.payloads(EVENT)]
    return [int(payload["event_id"]) for payload in payloads]


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_events_go_on_while_the_disk_takes_none_and_are_on_it_soon_after(
    kind: str, disk: SmallDisk, tmp_path: Path, proof: Proof
) -> None:
    claim = proof(3, f"outbox and publisher on a disk that is {kind}", unit="disks")
    path = disk.folder / FILE_NAME
    before = Outbox(path, OutboxConfig())
    before.close()
    disk.fill() if kind == "full" else disk.make("ro")
    outbox = Outbox(path, OutboxConfig())
    with Broker(tmp_path / "broker") as broker, broker.subscriber(EVENT) as subscriber:
        publisher = Publisher(broker.config(), TOPICS, outbox, secret=None, clock=Clock())
        publisher.start()
        try:
            put(outbox, publisher, *range(100))
            wait_until(lambda: set(numbers(subscriber)) == set(range(100)), 30.0)
            broker.freeze()
            put(outbox, publisher, *range(100, 700))
            assert outbox.counts().held > 0
            disk.free() if kind == "full" else disk.make("rw")
            began_s = time.monotonic()
            wait_until(lambda: outbox.counts().held == 0, 30.0)
            took_s = time.monotonic() - began_s
            broker.thaw()
            wait_until(lambda: set(numbers(subscriber)) == set(range(700)), 60.0)
        finally:
            publisher.stop(0.2)
    assert outbox.counts().dropped == 0
    assert took_s <= RECOVERY_S
    outbox.close()
    claim.found(
        "publishing went on; on the disk {took_s} s after it took events again; 700 of 700 came",
        took_s=took_s,
    )


def test_what_a_store_holds_that_opens_only_later_is_sent_then(
    disk: SmallDisk, tmp_path: Path
) -> None:
    """What came meanwhile has been sent before it: the connection must not pass over it."""
    path = disk.folder / FILE_NAME
    before = Outbox(path, OutboxConfig())
    for number in range(3):
        before.put(Message(EVENT, b'{"event_id": "%d"}' % number), str(number))
    before.close()
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("DROP TABLE memory")  # opening it must write, and there is no room
        store.execute("PRAGMA journal_mode = DELETE")
    path.with_name(f"{FILE_NAME}.ballast").unlink()
    disk.fill()
    outbox = Outbox(path, OutboxConfig())
    with Broker(tmp_path / "broker") as broker, broker.subscriber(EVENT) as subscriber:
        publisher = Publisher(broker.config(), TOPICS, outbox, secret=None, clock=Clock())
        publisher.start()
        try:
            put(outbox, publisher, 3)
            wait_until(lambda: numbers(subscriber) == [3], 30.0)
            disk.free()
            wait_until(lambda: numbers(subscriber) == [3, 0, 1, 2], 30.0)
        finally:
            publisher.stop(0.2)
    assert outbox.counts().queued == 0
    outbox.close()


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_the_daemon_starts_and_tells_events_on_a_disk_that_takes_nothing(
    kind: str, disk: SmallDisk, tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        3,
        f"`transom run` started on a disk that has become {kind}, with a bundle that came over "
        "MQTT; then the disk is right again",
        unit="disks",
    )
    place = Place(disk.folder, tiny_bundle, aside=tmp_path)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    with place.broker, place.broker.subscriber(f"{ROOT}/#") as heard:
        with place.daemon():
            wait_until(lambda: event_ids(heard), 120.0)
            wish = Offer(place.broker).deploy(new)
            wait_for_step(heard, "started", wish.request)
        disk.fill() if kind == "full" else disk.make("ro")
        told, events = len(payloads(heard, "/state")), len(event_ids(heard))
        with place.daemon():
            wait_until(lambda: len(event_ids(heard)) > events + 6, 120.0)
            served = {state.get("sequence") for state in payloads(heard, "/state")[told:]}
            disk.free() if kind == "full" else disk.make("rw")
            outbox = disk.folder / "state" / f"{FILE_NAME}-wal"
            began_s, there = time.monotonic(), outbox.stat().st_mtime_ns
            wait_until(lambda: outbox.stat().st_mtime_ns > there, 120.0)
            took_s = time.monotonic() - began_s
        waiting = set(place.waiting())
        with place.daemon():
            wait_until(lambda: waiting <= set(event_ids(heard)), 60.0)
    assert served - {None} == {2}
    assert took_s <= RECOVERY_S + 6.0  # there is an event each 2.5 s at least
    claim.found("serves and tells; the outbox is written again {took_s} s after", took_s=took_s)


def test_where_a_bundle_does_not_load_on_a_read_only_disk_the_one_before_serves_and_says_why(
    disk: SmallDisk, tmp_path: Path, tiny_bundle: TinyBundle
) -> None:
    place = Place(disk.folder, tiny_bundle, aside=tmp_path)
    store = disk.folder / "store"
    bad = rewrite(tiny_bundle, store / "new.bundle", sequence=2, parts={"model": b"no network"})
    wish = wish_for(bad)
    bad.rename(store / f"{wish.digest}.bundle")
    before = read_bundle(tiny_bundle.path, None)
    LedgerFile(store).write(
        Ledger(installed=(wish.digest,)).handed_over(wish, previous=before.digest)
    )
    (disk.folder / "state").mkdir()
    disk.make("ro")
    with place.broker, place.broker.subscriber(f"{ROOT}/#") as heard:
        with place.daemon() as process:
            wait_until(lambda: event_ids(heard) or process.poll() is not None, 60.0)
            assert process.poll() is None
        told = wait_for_step(heard, "rolled_back", wish.request)
    assert {state.get("sequence") for state in payloads(heard, "/state")} - {None} == {1}
    assert "tiny 2: network cannot be loaded" in told["reason"]
