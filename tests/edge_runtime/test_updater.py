"""A bundle's way onto a device, over a real broker and through a real trial process."""

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_runtime.precision import PrecisionFile, choose
from tests.edge_runtime.broker import Broker, Subscriber, wait_until
from tests.edge_runtime.disk import SmallDisk, disk
from tests.edge_runtime.updating import (
    TOPICS,
    Device,
    Offer,
    TinyBundle,
    reports,
    rewrite,
    steps,
    wait_for_step,
    wish_for,
)
from transom.bundle import read_bundle
from transom.chunks import CHUNK_BYTES
from transom.config import ContactConfig, SamplesConfig
from transom.messages import Message
from transom.signing import new_key
from transom.updates import depot_topic

__all__ = ["disk"]

WAY = ["accepted", "verified", "tried", "shadow"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", persistence=True) as broker:
        yield broker


@pytest.fixture
def heard(broker: Broker) -> Iterator[Subscriber]:
    with broker.subscriber("transom/hall-pi/#") as subscriber:
        yield subscriber


@pytest.fixture
def offer(broker: Broker) -> Offer:
    return Offer(broker)


@pytest.fixture
def device(tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle) -> Device:
    """A device that serves the tiny bundle, sequence 1, copied into its store by hand."""
    device = Device(tmp_path, broker.config(), tiny_bundle.keys)
    device.store.mkdir()
    (device.store / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
    return device


def test_what_is_desired_is_fetched_tried_and_serves_from_the_next_start_on(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=3 * CHUNK_BYTES)
    with device:
        assert device.bundle.manifest.sequence == 1
        wish = offer.deploy(new)
        wait_until(lambda: device.updater.wants_restart, 30.0)
        wait_until(lambda: steps(heard, wish.request) == WAY)
    assert not list(device.store.glob("*.part"))
    with device:
        assert device.bundle.digest == wish.digest
        wait_for_step(heard, "started", wish.request)
    tried = wait_for_step(heard, "tried", wish.request)
    assert tried["inference_ms"] > 0.0


def test_both_precisions_are_measured_before_it_serves_and_that_is_remembered(
    tmp_path: Path,
    device: Device,
    offer: Offer,
    heard: Subscriber,
    rounded_bundle: TinyBundle,
) -> None:
    with device:
        wish = offer.deploy(rounded_bundle.path)
        wait_until(lambda: device.updater.wants_restart, 30.0)
        tried = wait_for_step(heard, "tried", wish.request)
    measured = PrecisionFile(tmp_path, threads=1).read(wish.digest)
    assert measured is not None
    assert measured.float32_ms is not None
    chosen = choose(read_bundle(rounded_bundle.path, None), "auto", measured)
    assert (tried["precision"], tried["precision_why"]) == (chosen.precision, chosen.why)
    assert tried["inference_ms"] in (measured.int8_ms, measured.float32_ms)


def test_home_assistant_sees_the_offer_its_progress_and_never_a_key_it_does_not_know(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=3 * CHUNK_BYTES)
    with device:
        offer.deploy(new)
        wait_until(lambda: device.updater.wants_restart, 30.0)
    states = [msgspec.json.decode(text) for text in heard.payloads(TOPICS.model_state)]
    assert (states[0]["installed_version"], states[0]["latest_version"]) == ("1", "1")
    assert states[0]["in_progress"] is False
    underway = [state for state in states if state["in_progress"]]
    assert {state["latest_version"] for state in underway} == {"2"}
    percents = [state["update_percentage"] for state in underway]
    assert percents == sorted(percents)
    allowed = {"installed_version", "latest_version", "title", "release_summary", "in_progress"}
    assert all(set(state) <= allowed | {"update_percentage"} for state in states)


def test_a_download_goes_on_where_it_was_broken_off(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=5 * CHUNK_BYTES)
    wish = wish_for(new)
    part = device.store / f"{wish.digest}.part"
    part.write_bytes(new.read_bytes()[: 2 * CHUNK_BYTES + 77])
    offer.send(*offer.chunks(new)[2:])  # the first two are nowhere but on the device
    with device:
        offer.wish(wish)
        wait_until(lambda: device.updater.wants_restart, 30.0)
    assert device.handover.ledger.serving == wish.digest


def test_a_disk_that_fills_during_a_download_gets_back_what_was_fetched(
    disk: SmallDisk,
    broker: Broker,
    offer: Offer,
    heard: Subscriber,
    tmp_path: Path,
    tiny_bundle: TinyBundle,
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=5 * CHUNK_BYTES)
    chunks = offer.chunks(new)
    device = Device(disk.folder, broker.config(), tiny_bundle.keys)
    device.store.mkdir()
    (device.store / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
    with device:
        wish = wish_for(new)
        part = device.store / f"{wish.digest}.part"
        offer.send(*chunks[:2])
        offer.wish(wish)
        wait_until(lambda: part.exists() and part.stat().st_size >= 2 * CHUNK_BYTES, 30.0)
        disk.fill()
        offer.send(*chunks[2:])
        refused = wait_for_step(heard, "refused", wish.request)
        assert "No space left" in refused["reason"]
        assert not list(device.store.glob("*.part"))
        disk.free()
    assert device.handover.ledger.serving is None


def test_what_is_fetched_already_needs_no_room_on_a_card_that_is_nearly_full(
    disk: SmallDisk, broker: Broker, offer: Offer, tmp_path: Path, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=32 * CHUNK_BYTES)
    wish, chunks = wish_for(new), offer.chunks(new)
    device = Device(disk.folder, broker.config(), tiny_bundle.keys)
    device.store.mkdir()
    (device.store / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
    part = device.store / f"{wish.digest}.part"
    part.write_bytes(new.read_bytes()[: 31 * CHUNK_BYTES])
    (device.store / f"{'ab' * 32}.part").write_bytes(bytes(8 << 20))  # of one nobody wants any more
    offer.send(*chunks[31:])
    free_bytes = shutil.disk_usage(disk.folder).free
    (disk.folder / "pictures").write_bytes(bytes(free_bytes + (8 << 20) - (33 << 20) - 4096))
    with device:
        offer.wish(wish)
        wait_until(lambda: device.updater.wants_restart, 30.0)
    assert device.handover.ledger.serving == wish.digest


def test_what_a_power_cut_left_damaged_is_fetched_anew(
    tmp_path: Path, device: Device, offer: Offer, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=3 * CHUNK_BYTES)
    wish = wish_for(new)
    (device.store / f"{wish.digest}.part").write_bytes(b"\0" * CHUNK_BYTES)
    with device:
        offer.deploy(new)
        wait_until(lambda: device.updater.wants_restart, 30.0)


def test_a_chunk_that_is_damaged_is_asked_for_again(
    tmp_path: Path, device: Device, offer: Offer, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=3 * CHUNK_BYTES)
    first, second, *others = offer.chunks(new)
    with device:
        offer.wish(wish_for(new))
        offer.send(first, replace(second, payload=b"damaged", retain=False), second, *others)
        wait_until(lambda: device.updater.wants_restart, 30.0)


def test_a_chunk_that_stays_damaged_is_the_end(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=3 * CHUNK_BYTES)
    first, second, *others = offer.chunks(new)
    damaged = bytes([second.payload[0] ^ 1]) + second.payload[1:]
    offer.send(first, replace(second, payload=damaged), *others)
    with device:
        wish = wish_for(new)
        offer.wish(wish)
        refused = wait_for_step(heard, "refused")
    assert depot_topic("transom", wish.digest, 1) in refused["reason"]
    assert "is not what its digest says" in refused["reason"]


def _strangers(tiny: TinyBundle, folder: Path) -> Path:
    new_key(folder / "stranger.key")
    return rewrite(tiny, folder / "new.bundle", sequence=2, key=folder / "stranger.key")


def _wrong(tiny: TinyBundle, folder: Path) -> Path:
    goldens = read_bundle(tiny.path, None).goldens
    logits = {name: value + np.float32(1.0) for name, value in goldens.logits.items()}
    parts = {"goldens": replace(goldens, logits=logits)}
    return rewrite(tiny, folder / "new.bundle", sequence=2, parts=parts)


def _broken(tiny: TinyBundle, folder: Path) -> Path:
    return rewrite(tiny, folder / "new.bundle", sequence=2, parts={"model": b"no network"})


def _unsuited(tiny: TinyBundle, folder: Path) -> Path:
    manifest = read_bundle(tiny.path, None).manifest
    goldens = read_bundle(tiny.path, None).goldens
    kinds = {"kind": goldens.logits["kind"]}
    parts = {"goldens": replace(goldens, logits=kinds)}
    return rewrite(tiny, folder / "new.bundle", sequence=2, tasks=manifest.tasks[1:], parts=parts)


def test_a_bundle_that_leaves_a_contact_sensor_nothing_to_say_is_refused_before_it_serves(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    hall = device.config.cameras[0]
    zone = msgspec.structs.replace(hall.zones[0], contact=ContactConfig(topic="zigbee2mqtt/door"))
    cameras = (msgspec.structs.replace(hall, zones=(zone,)),)
    device.config = msgspec.structs.replace(device.config, cameras=cameras, samples=SamplesConfig())
    state, *others = read_bundle(tiny_bundle.path, None).manifest.tasks
    tasks = (msgspec.structs.replace(state, classes=("shut", *state.classes[1:])), *others)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, tasks=tasks)
    with device:
        wish = offer.deploy(new)
        told = wait_until(
            lambda: {"refused", "shadow"} & {*steps(heard, wish.request)}, within_s=30.0
        )
        assert told == {"refused"}
        (reason,) = [r["reason"] for r in reports(heard, wish.request) if r["step"] == "refused"]
    assert "zone door: contact needs a task with the class closed" in reason


def _later(tiny: TinyBundle, folder: Path) -> Path:
    return rewrite(tiny, folder / "new.bundle", sequence=2, minimum_runtime="99.0")


def _older(tiny: TinyBundle, folder: Path) -> Path:
    return rewrite(tiny, folder / "new.bundle", sequence=0)


@pytest.mark.parametrize(
    ("make", "changes", "reason"),
    [
        (_strangers, {}, "no trusted key has signed this"),
        (_wrong, {}, "golden"),
        (_broken, {}, "network cannot be loaded"),
        (_unsuited, {}, "does not suit this device: zone door: task 'state'"),
        (_later, {}, "needs Transom 99.0 or later"),
        (_older, {}, "has sequence 0, must be above 1"),
        (_older, {"sequence": 7}, "is not what was announced but tiny 0"),
        (_wrong, {"url": "https://depot.lan/new.bundle"}, "updates.url_prefixes"),
        (_wrong, {"size_bytes": 1 << 30}, "67,108,864 is the most (updates.max_bytes)"),
    ],
)
def test_refuses_and_says_why(
    make: Any,
    changes: dict[str, Any],
    reason: str,
    tmp_path: Path,
    device: Device,
    offer: Offer,
    heard: Subscriber,
    tiny_bundle: TinyBundle,
) -> None:
    with device:
        wish = offer.deploy(make(tiny_bundle, tmp_path), **changes)
        assert reason in wait_for_step(heard, "refused", wish.request)["reason"]
        assert not device.updater.wants_restart
    with device:
        assert device.bundle.manifest.sequence == 1
    assert not list(device.store.glob("*.part"))
    summaries = [msgspec.json.decode(t) for t in heard.payloads(TOPICS.model_state)]
    assert any(state["release_summary"].startswith("refused: ") for state in summaries)


def test_a_bundle_that_was_replaced_is_not_taken_again_after_a_rollback_either(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    with device:
        device.handover.remember(newest=5)  # it had kept 5 before it went back to 1
        wish = offer.deploy(rewrite(tiny_bundle, tmp_path / "old.bundle", sequence=4))
        refused = wait_for_step(heard, "refused", wish.request)
    assert "has sequence 4, must be above 5" in refused["reason"]
    assert not device.updater.wants_restart


def test_an_older_bundle_is_taken_where_the_device_allows_it(
    tmp_path: Path, broker: Broker, offer: Offer, tiny_bundle: TinyBundle
) -> None:
    device = Device(tmp_path, broker.config(), tiny_bundle.keys, allow_older=True)
    with device:
        device.handover.remember(newest=5)
        offer.deploy(rewrite(tiny_bundle, tmp_path / "old.bundle", sequence=4))
        wait_until(lambda: device.updater.wants_restart, 30.0)


def test_a_file_that_is_not_what_its_digest_says_is_refused(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    bundles = [rewrite(tiny_bundle, tmp_path / f"{n}.bundle", sequence=n) for n in (2, 3, 4)]
    # A signature is now and then some bytes shorter; of three bundles two have the same size.
    new, other = next(
        (one, another)
        for one, another in itertools.combinations(bundles, 2)
        if one.stat().st_size == another.stat().st_size
    )
    with device:
        wish = wish_for(new)
        offer.send(*offer.chunks(other, wish.digest))
        offer.wish(wish)
        assert "is not what was announced" in wait_for_step(heard, "refused")["reason"]


def test_a_wish_that_came_to_an_end_is_not_carried_out_when_it_is_delivered_again(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    with device:
        first = offer.deploy(_wrong(tiny_bundle, tmp_path))
        wait_for_step(heard, "refused", first.request)
    with device:  # the broker has retained the wish
        second = offer.deploy(_older(tiny_bundle, tmp_path))
        wait_for_step(heard, "refused", second.request)
    assert steps(heard, first.request) == ["accepted", "verified", "refused"]


def test_who_asks_again_is_answered_without_another_download(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    with device:
        wrong = _wrong(tiny_bundle, tmp_path)
        offer.deploy(wrong)
        wait_for_step(heard, "refused")
        again = wish_for(wrong)
        offer.wish(again)
        assert "was refused before" in wait_for_step(heard, "refused", again.request)["reason"]
        served = wish_for(tiny_bundle.path)
        offer.wish(served)
        wait_for_step(heard, "committed", served.request)
    assert steps(heard, again.request) == ["refused"]
    assert steps(heard, served.request) == ["committed"]


def test_a_wish_that_is_withdrawn_ends_its_download_and_one_that_follows_is_carried_out(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    with device:
        never = wish_for(rewrite(tiny_bundle, tmp_path / "never.bundle", sequence=2))
        offer.wish(never)  # its chunks are nowhere
        wait_for_step(heard, "accepted", never.request)
        offer.withdraw()
        wait_for_step(heard, "withdrawn", never.request)
        wait_until(lambda: not list(device.store.glob("*.part")))
        offer.deploy(rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=3))
        wait_until(lambda: device.updater.wants_restart, 30.0)


def test_a_download_that_nobody_went_on_with_for_a_week_is_removed_at_a_start(
    device: Device,
) -> None:
    device.store.mkdir(parents=True, exist_ok=True)
    old, young = device.store / "old.part", device.store / "young.part"
    for path in (old, young):
        path.write_bytes(b"half")
    week_ago_s = time.time() - 8 * 86400.0
    os.utime(old, (week_ago_s, week_ago_s))
    with device:
        assert (old.exists(), young.exists()) == (False, True)


def test_waits_until_it_is_asked_where_that_is_configured(
    tmp_path: Path, broker: Broker, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    device = Device(tmp_path, broker.config(), tiny_bundle.keys, install="when_asked")
    press = Message(TOPICS.model_install, b"install")
    offer.send(replace(press, retain=True))  # an old press, kept by mistake, starts nothing
    with device:
        wish = offer.deploy(rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2))
        wait_for_step(heard, "waiting", wish.request)
        waiting = msgspec.json.decode(heard.payloads(TOPICS.model_state)[-1])
        assert waiting["latest_version"] == "2"
        assert not waiting["in_progress"]
        offer.send(press)
        wait_until(lambda: device.updater.wants_restart, 30.0)


def test_what_cannot_be_read_is_passed_over(
    tmp_path: Path, device: Device, offer: Offer, heard: Subscriber, tiny_bundle: TinyBundle
) -> None:
    with device:
        for payload in (b"{", b"[]", b'{"request":"x"}', b"\xff"):
            offer.send(Message(TOPICS.model_desired, payload))
        offer.deploy(rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2))
        wait_until(lambda: device.updater.wants_restart, 30.0)


def test_what_nobody_expects_refuses_one_bundle_and_not_every_one_after_it(
    tmp_path: Path,
    device: Device,
    offer: Offer,
    heard: Subscriber,
    tiny_bundle: TinyBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = rewrite(tiny_bundle, tmp_path / "first.bundle", sequence=2)
    second = rewrite(tiny_bundle, tmp_path / "second.bundle", sequence=3)

    def stumble(*_: object) -> None:
        raise KeyError("nobody expects this")

    with device:
        install = device.handover.install
        monkeypatch.setattr(device.handover, "install", stumble)
        wish = offer.deploy(first)
        refused = wait_for_step(heard, "refused", wish.request)
        assert refused["reason"].startswith("unexpected KeyError: ")
        monkeypatch.setattr(device.handover, "install", install)
        offer.deploy(second)
        wait_until(lambda: device.updater.wants_restart, 60.0)
