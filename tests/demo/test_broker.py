import socket
import sys
from pathlib import Path

import pytest

from demo.broker import running_broker

# A broker that looks whether somebody else could have taken its port before it listens there.
_LOOKS = f"""\
#!{sys.executable}
import re, socket, sys
from pathlib import Path

settings = Path(sys.argv[2])
port = int(re.search("listener ([0-9]+)", settings.read_text())[1])
with socket.socket() as other:
    try:
        other.bind(("127.0.0.1", port))
        found = "free"
    except OSError:
        found = "held"
settings.with_name("found").write_text(found)
with socket.create_server(("127.0.0.1", port)) as listener:
    while True:
        listener.accept()
"""


def test_a_broker_listens_on_loopback_and_ends_with_the_block(tmp_path: Path) -> None:
    with running_broker(tmp_path) as running:
        socket.create_connection(("127.0.0.1", running.port), 2.0).close()

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", running.port), 2.0)


def test_nobody_else_is_given_the_port_before_the_broker_listens(tmp_path: Path) -> None:
    program = tmp_path / "mosquitto"
    program.write_text(_LOOKS)
    program.chmod(0o755)
    with running_broker(tmp_path, search=str(tmp_path)):
        assert (tmp_path / "found").read_text() == "held"


def test_without_mosquitto_the_python_broker_runs_and_says_its_protocol(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path, search=str(tmp_path)) as running:
        assert (running.name, running.protocol) == ("amqtt", "3.1.1")
