"""A broker for the demo: mosquitto where it is installed, else one written in Python."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transom.errors import TransomError

_START_TIMEOUT_S = 20.0
_SYSTEM = "/usr/sbin"  # where Debian puts mosquitto, and not on every PATH

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
"""

_AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


@dataclass(frozen=True)
class Broker:
    """A broker that listens on loopback.

    Attributes:
        name: The program.
        port: TCP port.
        protocol: The newest MQTT version that it speaks.
    """

    name: str
    port: int
    protocol: Literal["5", "3.1.1"]


@contextmanager
def running_broker(folder: Path, search: str | None = None) -> Iterator[Broker]:
    """Run a broker on a free port of loopback until the block ends.

    Args:
        folder: For its settings and its log.
        search: Where to look for mosquitto, as in PATH; PATH and the system's folders if None.

    Raises:
        TransomError: It does not come up.
    """
    with _held_port() as port:
        yield from _running(folder, port, search)


def _running(folder: Path, port: int, search: str | None) -> Iterator[Broker]:
    mosquitto = shutil.which("mosquitto", path=search or f"{os.environ.get('PATH', '')}:{_SYSTEM}")
    if mosquitto:
        broker = Broker("mosquitto", port, "5")
        settings = folder / "mosquitto.conf"
        settings.write_text(_MOSQUITTO.format(port=port))
        command = [mosquitto, "-c", str(settings)]
    else:
        broker = Broker("amqtt", port, "3.1.1")
        settings = folder / "amqtt.yaml"
        settings.write_text(_AMQTT.format(port=port))
        command = [str(Path(sys.executable).with_name("amqtt")), "-c", str(settings)]
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _wait_until_open(process, broker, folder)
            yield broker
        finally:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _held_port() -> Iterator[int]:
    """Yield a port that nobody else is given until the block ends.

    A socket that is bound and does not listen holds it: the system gives it to nobody, and a broker
    that sets SO_REUSEADDR, as both here do, may listen beside it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


def _wait_until_open(process: "subprocess.Popen[bytes]", broker: Broker, folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", broker.port), 1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TransomError(f"the broker {broker.name} did not start; see {folder / 'broker.log'}")
