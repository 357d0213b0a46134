import socket
from pathlib import Path

import pytest

from demo.broker import running_broker


def test_a_broker_listens_on_loopback_and_ends_with_the_block(tmp_path: Path) -> None:
    with running_broker(tmp_path) as running:
        socket.create_connection(("127.0.0.1", running.port), 2.0).close()

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", running.port), 2.0)


def test_without_mosquitto_the_python_broker_runs_and_says_its_protocol(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path, search=str(tmp_path)) as running:
        assert (running.name, running.protocol) == ("amqtt", "3.1.1")
