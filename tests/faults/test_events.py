"""Accepted events arrive, whatever is killed, frozen, refused or cut."""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from edge_runtime.outbox import Outbox
from tests.edge_runtime.broker import Broker, Subscriber, wait_until
from tests.faults.event_source import REFUSED_EACH, TOPICS, topic_of
from tests.faults.ledger import WINDOW, Ledger
from tests.faults.network import Cable
from tests.faults.outages import Outages, start_broker
from tests.faults.proof import Proof
from transom.config import OutboxConfig

PER_ROUND = 1_000_000


@dataclass
class Source:
    """The device under test, and what it has said."""

    process: "subprocess.Popen[str]"
    ledger: Ledger = field(default_factory=Ledger)
    refused: set[str] = field(default_factory=set)
    offered_refused: set[str] = field(default_factory=set)
    counts: tuple[int, int, int] | None = None
    kills: int = 0
    _accepted: threading.Condition = field(default_factory=threading.Condition)
    _count: int = 0
    _killed: int = 0

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def start(self, first: int) -> None:
        self.counts = None
        self._say(f"start {first}")

    def kill(self) -> None:
        self.kills += 1
        self._say("kill")
        with self._accepted:
            assert self._accepted.wait_for(lambda: self._killed == self.kills, 30.0)

    def wait_for_events(self, count: int, within_s: float) -> None:
        """Wait until so many more were accepted, or the time is up: some faults stop them."""
        with self._accepted:
            wanted = self._count + count
            self._accepted.wait_for(lambda: self._count >= wanted, within_s)

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._accepted:
                self._note(*line.split())
                self._accepted.notify_all()

    def _note(self, word: str, *numbers: str) -> None:
        match word:
            case "killed":
                self._killed += 1
            case "counts":
                queued, dropped, refused = map(int, numbers)
                self.counts = queued, dropped, refused
            case "offer" if self._is_refused(numbers[0]):
                self.offered_refused.add(numbers[0])
            case "offer":
                self.ledger.offer(numbers[0])
            case "accept" if self._is_refused(numbers[0]):
                self.refused.add(numbers[0])
                self._count += 1
            case "accept":
                self.ledger.accept(numbers[0])
                self._count += 1

    def _is_refused(self, number: str) -> bool:
        return int(number) % REFUSED_EACH == 7


@contextlib.contextmanager
def source_of(broker: Broker, host: str, store: Path) -> Iterator[Source]:
    command = [sys.executable, "-m", "tests.faults.event_source", host, str(broker.port)]
    process = subprocess.Popen(
        [*command, str(store), "5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    source = Source(process)
    try:
        yield source
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10.0)
        source.reader.join(10.0)
        assert process.stdout is not None
        process.stdout.close()


def arrivals(subscriber: Subscriber) -> list[str]:
    payloads = subscriber.payloads(TOPICS.event("front_door"))
    return [str((json.loads(p) if isinstance(p, str) else p)["event_id"]) for p in payloads]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks to cut")
def test_no_event_is_lost_by_kills_under_load_with_a_broker_that_fails_too(
    tmp_path: Path, proof: Proof
) -> None:
    claim = proof(
        1,
        "outbox and publisher, of the daemon, in a process of their own at full load, killed; the "
        "broker restarted or frozen, the cable cut (network namespaces), one topic in two refused",
        fast=10,
        full=1000,
        unit="kills",
    )
    refusals = proof(
        2,
        "one event in 40 on a topic that the broker's access list denies, during the kills",
        fast=10,
        full=1000,
        unit="kills",
    )
    dice = random.Random(11)
    with Cable() as cable:
        broker = start_broker(tmp_path / "broker", cable, TOPICS.event("refused_door"))
        outages = Outages(broker, cable, dice)
        with contextlib.ExitStack() as stack:
            stack.callback(broker.kill)
            with cable.at_broker():
                subscriber = stack.enter_context(broker.subscriber("#", is_lasting=True))
            with cable.at_device():
                source = stack.enter_context(
                    source_of(broker, cable.broker_address, tmp_path / "store")
                )
            for round_ in range(claim.runs):
                start = partial(source.start, round_ * PER_ROUND)
                with cable.at_broker(), outages.around(start, source.wait_for_events):
                    source.kill()
            source.start(-1)
            wait_until(lambda: source.counts is not None, 60.0)
            wait_until(lambda: source.ledger.accepted <= set(arrivals(subscriber)), 60.0)
            source.kill()
            verdict = source.ledger.judge(arrivals(subscriber))
    verdict.check(source.kills + outages.interruptions)
    assert source.counts is not None
    _, dropped, refused = source.counts
    assert dropped == 0
    assert verdict.accepted > 10 * claim.runs
    assert len(source.refused) <= refused <= len(source.offered_refused)
    store = Outbox(tmp_path / "store" / "outbox.sqlite3", OutboxConfig())
    assert {letter.message.topic for letter in store.dead_letters()} == {topic_of(7)}
    store.close()
    claim.found(
        "{accepted} accepted, {lost} lost, {copies} copies ({allowed} allowed), at most {longest} "
        "in a row",
        accepted=verdict.accepted,
        lost=len(verdict.lost),
        copies=verdict.copies,
        allowed=WINDOW * (source.kills + outages.interruptions),
        longest=verdict.longest_repeat,
    )
    refusals.found(
        "{accepted} accepted and refused by the broker, {counted} counted as refused, 0 as sent",
        accepted=len(source.refused),
        counted=refused,
    )
