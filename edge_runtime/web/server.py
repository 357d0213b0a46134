"""The daemon's half of the page: a thread that answers what the page's process is asked.

HTTP is spoken in a process of its own (`process`), with a low priority; only what somebody with the
token asks comes here, one call at a time, and after each the thread rests for as long as the answer
took. What takes time in an answer (encoding a picture, reading the store) lets the daemon's loop
run beside it. The process is replaced when it ends, and is no part of what the watchdog watches.

What keeps the page from being served may pass: a device has its address some seconds after its
start, a certificate and its key are replaced one after the other. So it is tried again.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from edge_runtime.web.address import access_of, environment, link_to, listen_at, read_token
from edge_runtime.web.call import Call, Desk
from edge_runtime.web.certificate import check_certificate
from edge_runtime.web.order import HAS_NEW_CERTIFICATE, Order
from transom.config import PageConfig
from transom.errors import PageError

_log = logging.getLogger(__name__)

_AGAIN_S = 5.0
_MOST_REST_S = 0.25


class PageServer:
    """Serves the page of a device.

    Args:
        config: The page.
        folder: The state directory, where the token is.
        certificate: File of the certificate and of its key, for https.

    Raises:
        PageError: The token cannot be used.
    """

    def __init__(
        self, config: PageConfig, folder: Path, certificate: tuple[str, str] | None = None
    ) -> None:
        self._config = config
        self._certificate = certificate
        self._token = read_token(folder)
        self._listener: socket.socket | None = None
        with suppress(PageError):  # told, and tried again, once there is something to serve
            self._listener = listen_at(config)
        self._obstacle: str | None = None  # as it was told
        self._is_told = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._has_failed = False

    @property
    def port(self) -> int:
        """Where it listens, or will."""
        if self._listener is None:
            return self._config.port
        return int(self._listener.getsockname()[1])

    @property
    def process_id(self) -> int | None:
        """The process that speaks HTTP; None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self, desk: Desk) -> None:
        """Serve what a desk answers, at once or as soon as that can be done."""
        stopping = self._stopping = threading.Event()
        self._is_told = False
        if self._listener is not None:
            self._can_serve()
        # The thread makes the process: the kernel ends a process with the thread that made it.
        self._thread = threading.Thread(
            target=self._serve, args=(desk, stopping), name="page", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; those who ask wait until it is started again."""
        self._stopping.set()
        if self._channel is not None:
            with suppress(OSError):  # it may be closed already
                self._channel.shutdown(socket.SHUT_RDWR)
        # One that has no address yet serves nobody, and may wait long for a name to be looked up.
        if self._thread is not None and self._listener is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop, and listen no more."""
        self.stop()
        if self._listener is not None:
            self._listener.close()

    def _can_serve(self) -> socket.socket | None:
        """Return what listens, where the page can be served; tell what has changed of that."""
        try:
            if self._listener is None:
                self._listener = listen_at(self._config)
            if self._certificate is not None:
                check_certificate(self._certificate)
        except PageError as error:
            if self._obstacle != str(error):
                _log.error("page is not served, and is tried again: %s", error)
            self._obstacle, self._is_told = str(error), False
            return None
        if not self._is_told:
            _log.info("page is served address=%s", link_to(self._config, self.port))
        self._obstacle, self._is_told = None, True
        return self._listener

    def _serve(self, desk: Desk, stopping: threading.Event) -> None:
        pause_s = 0.0
        while not stopping.wait(pause_s):
            listener = self._can_serve()
            if stopping.is_set():
                return
            if listener is None:
                pause_s = _AGAIN_S
                continue
            began_s, status = time.monotonic(), None
            try:
                status = self._serve_once(desk, listener.fileno())
                why = f"status {status}"
            except OSError as error:  # no memory for a process, no descriptor for it: that passes
                why = f"it cannot be started: {error}"
            if stopping.is_set():
                return
            if status == HAS_NEW_CERTIFICATE:
                _log.info("page's certificate was replaced and the new one is shown")
                pause_s = 0.0
                continue
            level = logging.DEBUG if pause_s else logging.WARNING
            _log.log(level, "page's process ended and is started again reason=%s", why)
            # One that ends by chance is replaced at once, one that cannot work after a while.
            lasted = time.monotonic() - began_s > _AGAIN_S
            pause_s = _AGAIN_S if self._has_failed and not lasted else 0.0
            self._has_failed = not lasted

    def _serve_once(self, desk: Desk, listener: int) -> int:
        """Answer one process until it ends; return its status."""
        ours, theirs = socket.socketpair()
        self._channel = ours
        with ours:
            with theirs:
                order = self._order(listener, theirs.fileno())
                process = self._start_process(listener, theirs.fileno())
            self._process = process
            try:
                _say(process, order)
                self._answer(desk, ours)
            except (EOFError, OSError) as error:
                _log.debug("page's process has gone error=%r", error)
            # The top of this thread: what is wrong with one answer must not end the page for good.
            except Exception:
                _log.exception("page's answer failed")
            finally:
                self._process = None
                _end(process)
        return process.returncode

    def _start_process(self, listener: int, channel: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.web.process"],
            stdin=subprocess.PIPE,
            pass_fds=(listener, channel),
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the daemon
        )

    def _order(self, listener: int, channel: int) -> bytes:
        order = Order(
            access=access_of(self._config, self._token, self.port),
            listener=listener,
            channel=channel,
            certificate=self._certificate,
            parent=os.getpid(),
        )
        return msgspec.json.encode(order) + b"\n"

    def _answer(self, desk: Desk, ours: socket.socket) -> None:
        """Answer calls until the other side, or `stop`, closes the channel."""
        with Connection(os.dup(ours.fileno())) as connection:
            while not self._stopping.is_set():
                call = msgspec.msgpack.decode(connection.recv_bytes(), type=Call)
                began_s = time.monotonic()
                connection.send_bytes(msgspec.msgpack.encode(desk.answer(call)))
                self._stopping.wait(min(time.monotonic() - began_s, _MOST_REST_S))


def _say(process: "subprocess.Popen[bytes]", order: bytes) -> None:
    if process.stdin is None:
        raise AssertionError("a pipe was asked for")
    with process.stdin as channel:
        channel.write(order)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
