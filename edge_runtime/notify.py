"""Telling systemd how the daemon is: ready, alive, stopping.

References:
    https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import logging
import os
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Notifier:
    """Sends the service manager's notifications; does nothing where there is no such manager."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """Say that the daemon has started: `systemctl start` returns."""
        self._send("READY=1")

    def watchdog(self) -> None:
        """Say that the daemon makes progress; call it because of progress, never by a timer."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon is on its way out."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(f"STATUS={' '.join(text.split())}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # A manager that has stopped reading must not stop the daemon: what does not fit
                # into its queue is dropped, and the next one says the same.
                channel.setblocking(False)
                channel.connect(address)
                channel.sendall(message.encode())
        except OSError as error:
            _log.debug("service manager not told what=%s error=%s", message.split("=")[0], error)
