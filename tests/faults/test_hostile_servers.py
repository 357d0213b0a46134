"""Servers that a bundle is fetched from and that lie, drip or never end."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edge_runtime import download_url
from edge_runtime.download import PartFile
from edge_runtime.download_url import fetch_url
from tests.edge_runtime.broker import Certificates, make_certificates
from tests.faults.memory import growth
from tests.faults.proof import Proof
from transom.config import UpdatesConfig
from transom.errors import UpdateError
from transom.updates import Install

SIZE = 1_000_000
_BLOCK = b"x" * 65_536

Answer = Callable[[socket.socket], None]


def _endless(head: bytes, block: bytes = _BLOCK) -> Answer:
    def answer(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        while True:
            client.sendall(block)

    return answer


def _once(said: bytes) -> Answer:
    return lambda client: client.sendall(said)


def _length(said: bytes, body: bytes = b"") -> Answer:
    return _once(b"HTTP/1.1 200 OK\r\nContent-Length: " + said + b"\r\n\r\n" + body)


ANSWERS: dict[str, Answer] = {
    "endless without a length": _endless(b"\r\n"),
    "endless in chunks": _endless(
        b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + _BLOCK + b"\r\n"
    ),
    "endless with a length of a terabyte": _endless(b"Content-Length: 1000000000000\r\n\r\n"),
    "one byte more than announced": _length(b"%d" % (SIZE + 1), b"x" * (SIZE + 1)),
    "a length larger than what comes": _length(b"%d" % SIZE, b"x" * 1000),
    "a length below zero": _length(b"-1", b"x" * SIZE * 2),
    "a length of no number": _length(b"many", b"x" * SIZE * 2),
    "two lengths": _length(b"5\r\nContent-Length: 2000000", b"x" * SIZE * 2),
    "a chunk of a size beyond all": _once(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n" + _BLOCK
    ),
    "an endless status line": _endless(b"", b"x" * 65_536),
    "endless headers": _endless(b"", b"X-More: " + b"y" * 1000 + b"\r\n"),
    "a header of megabytes": _once(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5_000_000 + b"\r\n\r\n"),
    "compressed, though nobody asked": _once(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\0"
    ),
    "another part than was asked for": _once(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\n"
        b"Content-Length: 5\r\n\r\nxxxxx"
    ),
    "no HTTP": _once(b"\0" * 1000),
    "nothing": lambda _client: None,
    "a refusal that never ends": lambda client: (
        client.sendall(b"HTTP/1.1 404 No\r\n\r\n"),
        _endless(b"")(client),
    )[0],
    "itself, for ever": _once(b"HTTP/1.1 302 Found\r\nLocation: /new.bundle\r\n\r\n"),
    "elsewhere, with a line break": _once(
        b"HTTP/1.1 302 Found\r\nLocation: https://localhost:1/\r\n evil\r\n\r\n"
    ),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def answering(certificates: Certificates, answer: Answer) -> Iterator[str]:
    """Serve https on loopback; every client gets the same answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    listener = socket.create_server(("127.0.0.1", 0))
    clients: list[threading.Thread] = []

    def meet(plain: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
            client.settimeout(20.0)
            client.recv(65_536)
            answer(client)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(threading.Thread(target=meet, args=(client,), daemon=True))
                clients[-1].start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}/new.bundle"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for client in clients:
            client.join(20.0)


def fetch(url: str, folder: Path, certificates: Certificates, waited: list[float]) -> str | None:
    """Return why nothing was fetched; None where all of it was."""
    wish = Install(request="r", name="n", sequence=1, digest="0" * 64, size_bytes=SIZE, url=url)
    part = PartFile(folder / "new.part", SIZE)
    terms = UpdatesConfig(ca_file=str(certificates.authority))
    try:
        fetch_url(wish, part, terms, waited.append, lambda: None)
    except UpdateError as error:
        return str(error)
    finally:
        part.close()
    return None


def test_no_server_makes_a_device_fetch_more_or_wait_longer_than_it_wants(
    certificates: Certificates, tmp_path: Path, proof: Proof
) -> None:
    claim = proof(
        8, "https servers that never end, lie about lengths, chunks, parts and places",
        fast=len(ANSWERS), full=len(ANSWERS), unit="servers",
    )  # fmt: skip
    most_s, fetched = 0.0, []
    with growth() as grown:
        for number, (name, answer) in enumerate(ANSWERS.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            began_s = time.monotonic()
            with answering(certificates, answer) as url:
                why = fetch(url, folder, certificates, [])
            most_s = max(most_s, time.monotonic() - began_s)
            fetched += [name] if why is None else []
            assert [path.name for path in folder.iterdir()] == ["new.part"], name
            assert (folder / "new.part").stat().st_size <= SIZE, name
            assert len(why or "") < 1000, name
    claim.found(
        "never more than announced; at most {most_s} s each, {grown_mb} MB",
        most_s=most_s,
        grown_mb=grown.mb,
    )
    assert fetched == []
    assert most_s < 15.0
    assert grown.mb < 32.0


def test_a_server_that_drips_is_left_at_once_for_another_wish_and_at_last_for_none(
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proof: Proof,
) -> None:
    claim = proof(8, "an https server that sends a byte and again a byte", unit="servers")
    monkeypatch.setattr(download_url, "_CHUNK_S", 0.5)

    def drip(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        ended = threading.Event()
        while not ended.wait(0.02):
            client.sendall(b"x")

    asked: list[float] = []
    with answering(certificates, drip) as url:
        why = fetch(url, tmp_path, certificates, asked)
    assert why is not None
    assert "65,536 bytes took more than" in why
    assert len(asked) > 5  # the device looks for something else to do after every byte
    claim.found(
        "looks for another wish after every byte, gives up where 64 KiB take too long: 0.5 s here, "
        "300 s on a device"
    )
