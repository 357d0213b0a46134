import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as the service manager has one."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address if request.param == "path" else "\0" + address)
        channel.settimeout(5.0)
        yield channel


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    address = manager.getsockname()
    text = "@" + address[1:].decode() if isinstance(address, bytes) else address
    return {"NOTIFY_SOCKET": text} | more


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        (Notifier.ready, b"READY=1"),
        (Notifier.watchdog, b"WATCHDOG=1"),
        (Notifier.stopping, b"STOPPING=1"),
        (lambda notifier: notifier.status("3 zones\nREADY=1"), b"STATUS=3 zones READY=1"),
    ],
)
def test_tells_the_service_manager(
    manager: socket.socket, tell: Callable[[Notifier], None], expected: bytes
) -> None:
    tell(Notifier(environment(manager)))
    assert manager.recv(1024) == expected


@pytest.mark.timeout(10)
def test_a_manager_that_stops_reading_never_blocks_the_daemon(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager))

    for _ in range(1000):  # many times the length of a socket's queue
        notifier.watchdog()

    assert manager.recv(1024) == b"WATCHDOG=1"


def test_says_nothing_without_a_service_manager(tmp_path: Path) -> None:
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
