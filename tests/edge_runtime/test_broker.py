"""The broker of the tests is a real one, and no test takes the port of another."""

import socket
from pathlib import Path

import pytest

from tests.edge_runtime.broker import Broker, free_port


def test_a_port_is_given_to_nobody_else() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


def test_a_server_listens_on_the_port_that_was_held_for_it(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        socket.create_connection(("127.0.0.1", broker.port), 5.0).close()
