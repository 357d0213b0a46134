"""`transom run` itself, killed: events arrive, and a bundle with which it keeps dying is left."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.ledger import ALLOWED_STARTS
from tests.edge_runtime.broker import Subscriber, wait_until
from tests.edge_runtime.conftest import TinyBundle
from tests.edge_runtime.updating import Offer, rewrite, wait_for_step
from tests.faults.ledger import Ledger
from tests.faults.place import ROOT, Place, event_ids, payloads
from tests.faults.proof import Proof

pytestmark = pytest.mark.timeout(400)  # many starts, on a machine that others use too


def take_stock(ledger: Ledger, place: Place, heard: Subscriber, name: str) -> None:
    """Note what has come, then what the killed daemon still has."""
    for event_id in dict.fromkeys(event_ids(heard)):
        if event_id not in ledger.accepted:
            ledger.accept(event_id)
    for event_id in place.waiting(place.folder / name):
        if event_id not in ledger.accepted:
            ledger.accept(event_id)


def more_events(heard: Subscriber) -> Callable[[], bool]:
    before = len(set(event_ids(heard)))
    return lambda: len(set(event_ids(heard))) > before


def test_no_event_of_the_daemon_is_lost_by_killing_it(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        1,
        "`transom run` with six zones of a door that opens and shuts, killed; each second time its "
        "broker is frozen before",
        fast=2,
        full=60,
        unit="kills",
    )
    place, ledger, dice = Place(tmp_path, tiny_bundle), Ledger(), random.Random(2)
    caught = 0
    with place.broker, place.broker.subscriber(f"{ROOT}/#") as heard:
        for kill in range(claim.runs):
            with place.daemon():
                wait_until(more_events(heard), 120.0)
                if kill % 2:
                    place.broker.freeze()
                    for _ in range(dice.randrange(1, 4)):
                        before = place.log_size()
                        wait_until(lambda before=before: place.log_size() > before, 30.0)
            place.broker.thaw()
            before = len(ledger.accepted)
            take_stock(ledger, place, heard, f"after-{kill}")
            caught += len(ledger.accepted) - before
        with place.daemon():
            wait_until(lambda: ledger.accepted <= set(event_ids(heard)), 120.0)
        arrived = event_ids(heard)
    for event_id in dict.fromkeys(arrived):
        ledger.accept(event_id)
    verdict = ledger.judge(arrived)
    assert not verdict.lost
    assert not verdict.strangers
    assert verdict.copies <= 15 * (claim.runs + 1)
    claim.found(
        "{accepted} events, {lost} lost, {copies} copies",
        accepted=verdict.accepted,
        lost=len(verdict.lost),
        copies=verdict.copies,
    )


def test_a_bundle_with_which_the_daemon_keeps_dying_is_left_after_three_starts(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        10,
        "`transom run` killed three times in a row with a bundle that came over MQTT",
        unit="crash loops",
    )
    place, ledger = Place(tmp_path, tiny_bundle), Ledger()
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)

    def says(sequence: int, after: int) -> bool:
        told = payloads(heard, "/state")[after:]
        return any(state.get("sequence") == sequence for state in told)

    with place.broker, place.broker.subscriber(f"{ROOT}/#") as heard:
        with place.daemon():
            wait_until(lambda: says(1, 0), 120.0)
            wish = Offer(place.broker).deploy(new)
            wait_for_step(heard, "started", wish.request)
            wait_until(lambda: says(2, 0), 120.0)
        for start in range(1, ALLOWED_STARTS):
            told = len(payloads(heard, "/state"))
            with place.daemon():
                wait_until(lambda told=told: says(2, told), 120.0)
            take_stock(ledger, place, heard, f"after-{start}")
        told, died_s = len(payloads(heard, "/state")), time.monotonic()
        with place.daemon():
            wait_until(lambda: says(1, told), 120.0)
            took_s = time.monotonic() - died_s
            wait_for_step(heard, "rolled_back", wish.request)
            wait_until(lambda: ledger.accepted <= set(event_ids(heard)), 120.0)
    assert took_s <= 60.0
    claim.found(
        "the one before served {took_s} s after the third death; {accepted} events, 0 lost",
        took_s=took_s,
        accepted=len(ledger.accepted),
    )
