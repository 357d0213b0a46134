"""What systemd is for the daemon: a socket that hears notifications."""

import socket
import threading
import time
from pathlib import Path
from typing import Self


class ServiceManager:
    """Listens all the time, as systemd does: `with ServiceManager(path) as manager`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._messages: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell("end")
        self._thread.join()
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path)}

    def heard(self) -> list[str]:
        """Return what came since the last call, all that was sent before this one included."""
        mark = f"mark {time.monotonic_ns()}"
        self._tell(mark)
        while mark not in self._messages:
            self._thread.join(0.001)
        messages, self._messages = self._messages, []
        return [message for message in messages if message != mark]

    def _listen(self) -> None:
        while (message := self._socket.recv(4096).decode()) != "end":
            self._messages.append(message)

    def _tell(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(text.encode(), str(self.path))
