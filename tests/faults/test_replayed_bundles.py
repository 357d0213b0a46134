"""Bundles that were good once, offered again by somebody who kept them."""

from pathlib import Path
from typing import Any

import msgspec

from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.updating import (
    Device,
    Offer,
    TinyBundle,
    reports,
    rewrite,
    way_back_from,
    wish_for,
)
from tests.faults.proof import Proof
from transom.signing import new_key


def test_what_was_good_once_is_not_taken_again(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    """A device that has had sequence 7 is offered older ones, as they are and under other names."""
    claim = proof(
        11, "older signed bundles replayed: as they are, announced as newer, under another digest, "
        "by another key, in the place of another", fast=8, full=8, unit="offers",
    )  # fmt: skip
    serving = rewrite(tiny_bundle, tmp_path / "serving.bundle", sequence=7)
    old = rewrite(tiny_bundle, tmp_path / "old.bundle", sequence=3)
    same = rewrite(tiny_bundle, tmp_path / "same.bundle", sequence=7, padding=10)
    new_key(tmp_path / "stranger" / "stranger.key")
    foreign = rewrite(
        tiny_bundle, tmp_path / "foreign.bundle", sequence=9,
        key=tmp_path / "stranger" / "stranger.key",
    )  # fmt: skip
    newer = rewrite(tiny_bundle, tmp_path / "newer.bundle", sequence=9, name="tiny")
    offers: list[tuple[Path, dict[str, Any]]] = [
        (old, {}),
        (old, {"sequence": 8}),
        (old, {"sequence": 2**53 - 1, "name": "other"}),
        (old, {"sequence": 8, "digest": wish_for(newer).digest}),
        (old, {"sequence": 8, "size_bytes": old.stat().st_size + 1}),
        (same, {}),
        (same, {"sequence": 8}),
        (foreign, {}),
    ]
    with (
        Broker(tmp_path / "broker") as broker,
        broker.subscriber("transom/hall-pi/#") as heard,
    ):
        device = Device(tmp_path, broker.config(), tiny_bundle.keys)
        device.store.mkdir()
        (device.store / "mine.bundle").write_bytes(serving.read_bytes())
        before = {path for path in tmp_path.rglob("*") if "broker" not in path.parts}
        with device:
            offer = Offer(broker)
            refused = []
            for path, lies in offers[: claim.runs]:
                wish = wish_for(path, **lies)
                offer.send(*offer.chunks(path, wish.digest))
                offer.wish(wish)
                said = wait_until(
                    lambda wish=wish: [
                        r
                        for r in reports(heard, wish.request)
                        if r["step"] in ("refused", "committed")
                    ],
                    30.0,
                )
                refused.append(said[-1]["step"] == "refused")
                assert not device.updater.wants_restart
            stale = msgspec.structs.replace(way_back_from(old), sequence=3)
            offer.wish(stale)  # a rollback of long ago, kept and sent again
            wait_until(lambda: reports(heard, stale.request), 30.0)
            assert not device.updater.wants_restart
        new = {path.name for path in tmp_path.rglob("*") if "broker" not in path.parts and
               path not in before}  # fmt: skip
    assert all(refused)
    assert {name.partition(".")[0] for name in new} <= {"outbox", "ledger", "recovery_keys"}
    claim.found("{taken} taken, nothing left in the store", taken=refused.count(False))
