"""`transom run` itself, killed: events arrive, and a bundle with which it keeps dying is left."""

import contextlib
import math
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_runtime.ledger import ALLOWED_STARTS
from edge_runtime.outbox import FILE_NAME, Outbox
from tests.edge_runtime.broker import Subscriber, wait_until
from tests.edge_runtime.conftest import TinyBundle
from tests.edge_runtime.updating import Offer, rewrite, wait_for_step
from tests.faults.ledger import WINDOW, Ledger, Verdict
from tests.faults.network import Cable
from tests.faults.outages import Outages, start_broker
from tests.faults.place import ROOT, Place, event_ids, payloads
from tests.faults.proof import Proof
from transom.config import OutboxConfig

pytestmark = pytest.mark.timeout(400)  # many starts, on a machine that others use too


REFUSED = f"{ROOT}/door_5/event"
SIDE_BY_SIDE = 4
"""Houses at most: a daemon that waits for its door leaves the processor to others."""


def take_stock(ledger: Ledger, place: Place, heard: Subscriber, refused: str = "") -> None:
    """Note what has come, then what the killed daemon still has."""
    for event_id in dict.fromkeys([*event_ids(heard), *place.waiting(refused)]):
        if event_id not in ledger.accepted:
            ledger.accept(event_id)


class KilledDaemon:
    """A daemon at one end of a cable that can be cut, started and killed again and again."""

    def __init__(self, place: Place, cable: Cable) -> None:
        self._place, self._cable = place, cable
        self._life = contextlib.ExitStack()

    def start(self) -> None:
        with self._cable.at_device():
            self._life.enter_context(self._place.daemon())

    def kill(self) -> None:
        self._life.close()

    def wait_for_events(self, count: int, within_s: float) -> None:
        """Wait until its outbox was written that often, or the time is up."""
        until_s, written = time.monotonic() + within_s, self._written()
        while count and time.monotonic() < until_s:
            before, written = written, self._written()
            count -= written != before
            time.sleep(0.002)

    def _written(self) -> int:
        try:
            return self._place.log_size()
        except FileNotFoundError:  # it has not begun yet
            return 0


@dataclass(frozen=True)
class Killed:
    """What came of the kills in a house."""

    kills: int
    verdict: Verdict
    interruptions: int
    refused: int


def kill_in_a_house(folder: Path, tiny: TinyBundle, kills: int, seed: int) -> Killed:
    """Kill a house's daemon again and again, among outages; then let everything out."""
    ledger = Ledger()
    with contextlib.ExitStack() as stack:
        cable = stack.enter_context(Cable())
        broker = start_broker(folder / "broker", cable, REFUSED)
        stack.callback(broker.kill)
        with cable.at_broker():
            heard = stack.enter_context(broker.subscriber(f"{ROOT}/#", is_lasting=True))
        place = Place(folder, tiny, broker=broker, host=cable.broker_address)
        daemon = KilledDaemon(place, cable)
        stack.callback(daemon.kill)
        outages = Outages(broker, cable, random.Random(seed), before=24, before_s=9.0, during=12,
                          during_s=3.0)  # fmt: skip
        for _ in range(kills):
            with cable.at_broker(), outages.around(daemon.start, daemon.wait_for_events):
                daemon.kill()
            take_stock(ledger, place, heard, REFUSED)
        daemon.start()
        wait_until(lambda: ledger.accepted <= set(event_ids(heard)), 120.0)
        daemon.kill()
        arrived = event_ids(heard)
    for event_id in arrived:
        if event_id not in ledger.accepted:
            ledger.accept(event_id)
    store = Outbox(folder / "state" / FILE_NAME, OutboxConfig())
    assert {letter.message.topic for letter in store.dead_letters()} <= {REFUSED}
    refused = store.counts().refused
    store.close()
    return Killed(kills, ledger.judge(arrived), outages.interruptions, refused)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks to cut")
def test_no_event_of_the_daemon_is_lost_by_killing_it(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        1,
        "`transom run` with six zones of a door that opens and shuts, killed; its broker frozen, "
        "stopped or restarted, the cable cut (network namespaces), one topic in six refused",
        fast=2,
        full=1000,
        unit="kills",
    )
    houses = min(SIDE_BY_SIDE, math.ceil(claim.runs / 10))
    shares = [claim.runs // houses + (number < claim.runs % houses) for number in range(houses)]
    with ThreadPoolExecutor(houses) as side_by_side:
        each = []
        for number, share in enumerate(shares):
            folder = tmp_path / str(number)
            folder.mkdir()
            each.append(side_by_side.submit(kill_in_a_house, folder, tiny_bundle, share, number))
        killed = [future.result() for future in each]
    for one in killed:
        assert not one.verdict.lost
        assert not one.verdict.strangers
        assert one.verdict.copies <= WINDOW * (one.kills + 1 + one.interruptions)
    accepted = sum(one.verdict.accepted for one in killed)
    refused = sum(one.refused for one in killed)
    assert accepted > claim.runs
    assert refused > 0
    claim.found(
        "{accepted} events, {lost} lost, {copies} copies ({allowed} allowed); {refused} refused "
        "and told",
        accepted=accepted,
        lost=sum(len(one.verdict.lost) for one in killed),
        copies=sum(one.verdict.copies for one in killed),
        allowed=sum(WINDOW * (one.kills + one.interruptions) for one in killed),
        refused=refused,
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
        for _ in range(1, ALLOWED_STARTS):
            told = len(payloads(heard, "/state"))
            with place.daemon():
                wait_until(lambda told=told: says(2, told), 120.0)
            take_stock(ledger, place, heard)
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
