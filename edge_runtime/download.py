"""Fetching a bundle in pieces: what has come is on the disk, only the rest is asked for."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from edge_runtime.link import Received
from transom.chunks import CHUNK_BYTES, chunk_size, read_chunk
from transom.errors import MessageError, UpdateError
from transom.updates import Install, depot_topic

WINDOW = 4
"""Chunks that are asked for at once: what a download holds in memory."""

SILENCE_S = 600.0
"""Without any chunk for so long the download is given up; another wish takes it up again."""

_ASK_AGAIN_S = 30.0
_DAMAGED_CHUNKS = 3


class Exchange(Protocol):
    """The way to the broker; see `mqtt.Publisher`."""

    def listen(self, topic_filter: str, take: Callable[[Received], None]) -> None:
        """Subscribe now and at each reconnect."""

    def ignore(self, topic_filter: str) -> None:
        """Undo `listen`."""


def part_path(store: Path, wish: Install) -> Path:
    """Return where a bundle grows that is fetched."""
    return store / f"{wish.digest}.part"


class PartFile:
    """A file that grows at its end until it is whole. What a broken download left is gone on with.

    Args:
        path: Where it grows.
        size_bytes: Of the whole.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes
        path.touch(mode=0o600)
        self._file = path.open("r+b")
        there = min(self._file.seek(0, os.SEEK_END), size_bytes)
        whole = there if there == size_bytes else there - there % CHUNK_BYTES
        self._file.truncate(whole)
        self.have_bytes = self._file.seek(whole)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.have_bytes == self._size_bytes

    @property
    def next_chunk(self) -> int:
        """The first chunk that is missing."""
        return self.have_bytes // CHUNK_BYTES

    def size_of(self, chunk: int) -> int:
        """Return the bytes of a chunk."""
        return chunk_size(chunk, self._size_bytes)

    def append(self, data: bytes) -> None:
        """Add what comes next.

        Raises:
            UpdateError: It is more than what is missing.
        """
        if len(data) > self._size_bytes - self.have_bytes:
            raise UpdateError(f"bundle is larger than the {self._size_bytes:,} bytes announced")
        self._file.write(data)
        self.have_bytes += len(data)

    def restart(self) -> None:
        """Forget what is there: the whole is not what was announced."""
        self._file.seek(0)
        self._file.truncate(0)
        self.have_bytes = 0

    def digest(self) -> str:
        """Return the SHA-256 of what is there, hexadecimal."""
        self._file.flush()
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def sync(self) -> None:
        """Make what is there durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close; what is there stays."""
        self._file.close()


NextMessage = Callable[[float], Received | None]
"""Waits at most so many seconds for a message; may raise to end the download."""


def fetch_chunks(
    wish: Install,
    part: PartFile,
    exchange: Exchange,
    prefix: str,
    put_aside: Callable[[Received], None],
    next_message: NextMessage,
    progress: Callable[[], None],
) -> None:
    """Complete a part file from the chunks at the broker, in order, a few asked for at once.

    Args:
        wish: What is fetched.
        part: Grows.
        exchange: The broker.
        prefix: First levels of every topic.
        put_aside: Called by the exchange with each message that comes.
        next_message: Returns what was put aside; None = nothing within the time.
        progress: Called after each chunk.

    Raises:
        UpdateError: The broker does not have the chunks, or has damaged ones.
    """
    topics = {depot_topic(prefix, wish.digest, n): n for n in range(part.next_chunk, wish.chunks)}
    asked: set[str] = set()
    early: dict[int, bytes] = {}
    silent_s, damaged = 0.0, 0
    try:
        while not part.is_whole:
            first = part.next_chunk
            for topic in _missing(topics, first, early, asked):
                exchange.listen(topic, put_aside)
                asked.add(topic)
            received = next_message(_ASK_AGAIN_S)
            if received is None or received.topic not in asked:
                silent_s += _ASK_AGAIN_S if received is None else 0.0
                _give_up_after(silent_s, depot_topic(prefix, wish.digest, first))
                asked -= set() if received else asked
                continue
            chunk = topics[received.topic]
            try:
                early[chunk] = read_chunk(received.payload, part.size_of(chunk), received.topic)
            except MessageError as error:
                damaged += 1
                if damaged == _DAMAGED_CHUNKS:
                    raise UpdateError(str(error)) from error
                asked.discard(received.topic)
                continue
            silent_s = 0.0
            exchange.ignore(received.topic)
            asked.discard(received.topic)
            while (data := early.pop(part.next_chunk, None)) is not None and not part.is_whole:
                part.append(data)
            progress()
    finally:
        for topic in asked:
            exchange.ignore(topic)


def _missing(
    topics: dict[str, int], first: int, early: dict[int, bytes], asked: set[str]
) -> Iterator[str]:
    for topic, chunk in topics.items():
        if first <= chunk < first + WINDOW and chunk not in early and topic not in asked:
            yield topic


def _give_up_after(silent_s: float, topic: str) -> None:
    if silent_s >= SILENCE_S:
        raise UpdateError(f"{topic}: broker has no such chunk; deploy the bundle again")


def clear_parts(store: Path, keep: Path | None = None, *, unused_s: float = 0.0) -> None:
    """Remove what broken downloads left.

    Args:
        store: The folder.
        keep: Leave this one.
        unused_s: Leave those that were written to within so many seconds.
    """
    before_s = time.time() - unused_s
    for path in store.glob("*.part"):
        with suppress(FileNotFoundError):
            if path != keep and path.stat().st_mtime <= before_s:
                path.unlink()
