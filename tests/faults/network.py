"""Two network namespaces with a cable between them that can be cut: packets vanish, nobody is told.

Only root may make them. What is started while one is entered lives in it, with a loopback of its
own; this machine's network is not touched.
"""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


class Cable:
    """A device's network and a broker's, joined.

    Attributes:
        device_address: The device's end.
        broker_address: The broker's end.
    """

    device_address = "10.203.0.1"
    broker_address = "10.203.0.2"

    def __init__(self) -> None:
        name = f"transom-{os.getpid()}-{next(_numbers)}"
        self._device, self._broker = f"{name}-device", f"{name}-broker"

    def __enter__(self) -> Self:
        """Lay the cable.

        Raises:
            CalledProcessError: This user may not.
        """
        try:
            for namespace in (self._device, self._broker):
                _ip("netns", "add", namespace)
                _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("link", "add", "end", "netns", self._device, "type", "veth",
                "peer", "name", "end", "netns", self._broker)  # fmt: skip
            for namespace, address in (
                (self._device, self.device_address),
                (self._broker, self.broker_address),
            ):
                _ip("-n", namespace, "address", "add", f"{address}/30", "dev", "end")
                _ip("-n", namespace, "link", "set", "end", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in (self._device, self._broker):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)

    def cut(self, port: int | None = None) -> None:
        """Let every packet vanish, both ways; with a port, those of one service only."""
        self._rules("-A", port)

    def mend(self, port: int | None = None) -> None:
        """Undo `cut`."""
        self._rules("-D", port)

    def _rules(self, action: str, port: int | None) -> None:
        for chain, side in (("INPUT", "--sport"), ("OUTPUT", "--dport")):
            command = ["ip", "netns", "exec", self._device, "iptables", "-w", action, chain]
            command += [] if port is None else ["-p", "tcp", side, str(port)]
            subprocess.run([*command, "-j", "DROP"], check=True)

    def at_device(self) -> AbstractContextManager[None]:
        """Enter the device's network."""
        return _entered(self._device)

    def at_broker(self) -> AbstractContextManager[None]:
        """Enter the broker's network."""
        return _entered(self._broker)


@contextmanager
def _entered(namespace: str) -> Iterator[None]:
    """Let this thread, and what it starts, be in a namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    inside = os.open(Path("/run/netns") / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(inside)
        try:
            yield
        finally:
            _set(before)
    finally:
        os.close(before)
        os.close(inside)


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
