"""The process that speaks HTTP for the daemon.

What comes over the network never waits for the loop that watches doors, nor slows it: this process
has an interpreter of its own, a low priority, and nothing of the daemon's in its memory.

It is started as `python -m edge_runtime.web.process`, with its orders on standard input. What is
asked goes to the daemon over one socket, a call at a time; the end of that socket is the end of the
process.
"""

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection

import msgspec
import uvicorn
from starlette.types import ASGIApp

from edge_runtime.child import die_with
from edge_runtime.web.app import make_app
from edge_runtime.web.call import Call, Reply, refusal
from edge_runtime.web.certificate import wait_for_another
from edge_runtime.web.order import HAS_NEW_CERTIFICATE, Order
from edge_runtime.web.patience import MOST_TAKEN_AT_ONCE, ImpatientProtocol

_NICER = 10
_GONE = refusal(503, "the daemon is starting or stopping; try again")


class Channel:
    """Calls to the daemon, one at a time; safe to use from several threads."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        self._lock = threading.Lock()

    def ask(self, call: Call) -> Reply:
        """Return the daemon's reply; where it has gone, the process ends."""
        with self._lock:
            try:
                self._connection.send_bytes(msgspec.msgpack.encode(call))
                return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Reply)
            except (EOFError, OSError):
                threading.Timer(0.1, os._exit, (0,)).start()
                return _GONE


def serve(
    app: ASGIApp, listener: socket.socket, certificate: tuple[str, str] | None = None
) -> None:
    """Serve an application until the process is told to end.

    Args:
        app: The page.
        listener: A listening socket.
        certificate: File of the certificate, and of its key; None = no TLS.
    """
    make_server(app, certificate).run(sockets=[listener])


def make_server(app: ASGIApp, certificate: tuple[str, str] | None = None) -> uvicorn.Server:
    """Return what serves an application; see `serve`."""
    file, key = certificate or (None, None)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        log_level="error",  # a stranger's bytes that are no HTTP are a warning to it, each time
        lifespan="off",
        ws="none",
        http=ImpatientProtocol,
        server_header=False,
        proxy_headers=False,
        backlog=MOST_TAKEN_AT_ONCE,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=1,
        ssl_certfile=file,
        ssl_keyfile=key,
    )
    return uvicorn.Server(config)


def _end_with(certificate: tuple[str, str]) -> None:
    """End the process when its certificate was replaced: the next one begins with the new one."""
    wait_for_another(certificate, time.sleep)
    os._exit(HAS_NEW_CERTIFICATE)


def main() -> None:
    """Serve until the daemon ends or wants no more."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    die_with(order.parent)
    with suppress(OSError):  # a service's sandbox may forbid it
        os.nice(_NICER)
    if order.certificate is not None:
        threading.Thread(target=_end_with, args=(order.certificate,), daemon=True).start()
    channel = Channel(order.channel)
    app = make_app(order.access, channel.ask)
    serve(app, socket.socket(fileno=order.listener), order.certificate)


if __name__ == "__main__":
    main()
