"""Devices that take bundles, started anew whenever another one is to serve, and their broker."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.replay import ClipClock
from tests.edge_runtime.broker import Broker
from tests.edge_runtime.conftest import tiny_bundle
from tests.edge_runtime.updating import Device, TinyBundle

__all__ = ["tiny_bundle"]


class Household:
    """Devices at one broker; each is well for as long as it runs."""

    def __init__(self, folder: Path, broker: Broker, tiny: TinyBundle) -> None:
        self._folder = folder
        self._broker = broker
        self._tiny = tiny
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.devices: dict[str, Device] = {}

    def add(self, *names: str, **updates: Any) -> None:
        """Set devices up and let them run; they serve a bundle of their own, sequence 1."""
        for name in names:
            folder = self._folder / name
            device = Device(
                folder,
                self._broker.config(),
                self._tiny.keys,
                ClipClock(),
                name,
                **{"healthy_s": 1.0, **updates},
            )
            device.store.mkdir(parents=True)
            (device.store / "mine.bundle").write_bytes(self._tiny.path.read_bytes())
            self.devices[name] = device
            thread = threading.Thread(target=self._run, args=(device,))
            thread.start()
            self._threads.append(thread)

    def serves(self) -> dict[str, int]:
        """Return the sequence that each device serves."""
        return {name: device.serves for name, device in self.devices.items()}

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, device: Device) -> None:
        while not self._ended.is_set():
            with device:
                while not device.updater.wants_restart and not self._ended.wait(0.02):
                    device.work_well(0.0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", persistence=True) as broker:
        yield broker


@pytest.fixture
def household(tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle) -> Iterator[Household]:
    with ExitStack() as stack:
        household = Household(tmp_path, broker, tiny_bundle)
        stack.callback(household.end)
        yield household
