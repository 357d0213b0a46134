"""What happens to broker and network around a kill."""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests.edge_runtime.broker import Broker, wait_until
from tests.faults.network import Cable

OUTAGES = (
    "none",
    "broker frozen",
    "broker stopped",
    "broker restarted",
    "cable cut",
    "cable cut at the start",
)


class WaitForEvents(Protocol):
    """Waits until a device has accepted so many more events, or the time is up."""

    def __call__(self, count: int, within_s: float) -> None: ...


def start_broker(folder: Path, cable: Cable, refused: str) -> Broker:
    """Start a broker at its end of a cable, which keeps all over restarts but refuses a topic."""
    with cable.at_broker():
        broker = Broker(
            folder,
            access=("topic readwrite #", f"topic deny {refused}"),
            persistence=True,
            options=("max_queued_messages 1000000",),
            address=cable.broker_address,
        )
        broker.start()
    return broker


class Outages:
    """Chance picks one for each life of a device.

    Args:
        broker: Of the device.
        cable: Between them.
        dice: The chance.
        before: Events at most before an outage.
        before_s: Seconds at most before an outage.
        during: Events at most in an outage, before the kill.
        during_s: Seconds at most in an outage, before the kill.

    Attributes:
        interruptions: How often the device's connection has been ended, without a kill.
    """

    def __init__(
        self,
        broker: Broker,
        cable: Cable,
        dice: random.Random,
        *,
        before: int = 60,
        before_s: float = 2.0,
        during: int = 30,
        during_s: float = 0.5,
    ) -> None:
        self.interruptions = 0
        self._broker, self._cable, self._dice = broker, cable, dice
        self._before, self._before_s = before, before_s
        self._during, self._during_s = during, during_s

    @contextlib.contextmanager
    def around(self, start: Callable[[], None], wait_for_events: WaitForEvents) -> Iterator[None]:
        """Start the device and let an outage meet it, which is over when the block has ended."""
        outage = self._dice.choice(OUTAGES)
        if outage == "cable cut at the start":
            self._cable.cut()
        start()
        wait_for_events(self._dice.randrange(1, self._before), within_s=self._before_s)
        match outage:
            case "broker stopped":
                self._broker.stop()
            case "broker restarted":
                self._restart()
            case "broker frozen":
                self._broker.freeze()
            case "cable cut":
                self._cable.cut()
        if outage != "none":
            wait_for_events(self._dice.randrange(1, self._during), within_s=self._during_s)
        yield
        match outage:
            case "broker stopped":
                self._start()
            case "broker frozen":
                self._broker.thaw()
            case "cable cut" | "cable cut at the start":
                self._cable.mend()

    def _restart(self) -> None:
        """The device finds a broker again only when the subscriber has."""
        self.interruptions += 1
        self._cable.cut()
        self._broker.stop()
        self._start()
        self._cable.mend()

    def _start(self) -> None:
        """What a broker keeps for a subscriber over its restart is no promise of ours."""
        log = self._broker.folder / "mosquitto.log"
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            self._broker.start()
            said = bytearray()

            def is_back() -> bool:
                said.extend(file.read())
                return b"Sending SUBACK to subscriber" in said

            wait_until(is_back)
