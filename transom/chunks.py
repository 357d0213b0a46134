"""How a file travels over MQTT: in chunks, each with its own digest in front.

A chunk's digest protects against damage on the way. Whether what it is a part of is to be trusted
is another question.
"""

import hashlib
from collections.abc import Iterator

from transom.errors import MessageError

CHUNK_BYTES = 64 * 1024
_DIGEST_BYTES = hashlib.sha256().digest_size


def chunk_count(size_bytes: int) -> int:
    """Return into how many chunks so many bytes are cut.

    Examples:
        >>> chunk_count(CHUNK_BYTES), chunk_count(CHUNK_BYTES + 1)
        (1, 2)
    """
    return -(-size_bytes // CHUNK_BYTES)


def chunk_size(chunk: int, size_bytes: int) -> int:
    """Return the bytes of the file that a chunk carries."""
    return min(CHUNK_BYTES, size_bytes - chunk * CHUNK_BYTES)


def cut_file(data: bytes) -> Iterator[bytes]:
    """Yield the payloads that carry a file, in order."""
    for start in range(0, len(data), CHUNK_BYTES):
        part = data[start : start + CHUNK_BYTES]
        yield hashlib.sha256(part).digest() + part


def read_chunk(payload: bytes, expected_bytes: int, topic: str) -> bytes:
    """Return what a chunk's message carries.

    Raises:
        MessageError: It is not what its digest says, or has another size.
    """
    part = payload[_DIGEST_BYTES:]
    if len(part) != expected_bytes:
        raise MessageError(f"{topic}: must carry {expected_bytes:,} bytes, carries {len(part):,}")
    if hashlib.sha256(part).digest() != payload[:_DIGEST_BYTES]:
        raise MessageError(f"{topic}: is not what its digest says; it must be sent again")
    return part
