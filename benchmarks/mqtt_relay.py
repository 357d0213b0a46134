"""A relay between a client and its broker that notes when each event was acknowledged."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Self

from transom.messages import ZoneEvent, decode

_PUBLISH, _PUBACK = 3, 4


class Relay:
    """Passes bytes on, both ways, and reads the packets that go by.

    Args:
        port: The broker's, on this machine.

    Attributes:
        acknowledged: Of each event its broker has acknowledged: the event, and the monotonic
            nanoseconds at which the PUBACK went by.
    """

    def __init__(self, port: int) -> None:
        self.acknowledged: list[tuple[ZoneEvent, int]] = []
        self._broker_port = port
        self._events: dict[int, ZoneEvent] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        """Where the client connects to."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._broker_port)) as broker:
                for end in (client, broker):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pass_on(client, broker)

    def _pass_on(self, client: socket.socket, broker: socket.socket) -> None:
        buffers = {client: bytearray(), broker: bytearray()}
        while True:
            for source in select.select([client, broker], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                (broker if source is client else client).sendall(data)
                buffers[source] += data
                for kind, body in _packets(buffers[source]):
                    self._note(kind, body)

    def _note(self, kind: int, body: bytes) -> None:
        if kind >> 4 == _PUBACK:
            event = self._events.pop(int.from_bytes(body[:2], "big"), None)
            if event is not None:
                self.acknowledged.append((event, time.monotonic_ns()))
        elif kind >> 4 == _PUBLISH and kind & 0b110:
            end = 2 + int.from_bytes(body[:2], "big")
            topic, identifier = body[2:end].decode(), int.from_bytes(body[end : end + 2], "big")
            if topic.endswith("/event"):
                properties = body[end + 2]  # none are sent, so their length is one byte
                payload = body[end + 3 + properties :]
                self._events[identifier] = decode(payload, ZoneEvent, topic)


def _packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole MQTT packets off a buffer: first byte and body."""
    while (size := _body_size(buffer)) is not None:
        start, length = size
        if len(buffer) < start + length:
            return
        yield buffer[0], bytes(buffer[start : start + length])
        del buffer[: start + length]


def _body_size(buffer: bytearray) -> tuple[int, int] | None:
    """Return where a packet's body starts and its length; None where that has not come yet."""
    length = 0
    for position, byte in enumerate(buffer[1:5]):
        length |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            return position + 2, length
    return None
