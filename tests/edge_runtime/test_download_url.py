"""A bundle by https: a real server that breaks off, knows ranges or not, and sends elsewhere."""

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.download import PartFile
from edge_runtime.download_url import fetch_url, why_not_from
from tests.edge_runtime.broker import Broker, Certificates, make_certificates, wait_until
from tests.edge_runtime.updating import Device, Offer, TinyBundle, rewrite, wait_for_step, wish_for
from transom.chunks import CHUNK_BYTES
from transom.config import UpdatesConfig
from transom.errors import UpdateError
from transom.updates import Install

DEPOT = "https://depot.lan/a/"
DATA = bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"the end"


class Server(ThreadingHTTPServer):
    """Gives one file by https.

    Attributes:
        breaks: Answers that end after so many bytes; then whole ones.
        knows_ranges: Whether it obeys them.
        moved_to: Where it sends everybody instead.
        asked: The ranges that it was asked for.
    """

    daemon_threads = True

    def __init__(self, certificates: Certificates, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data = data
        self.breaks: list[int] = []
        self.knows_ranges = True
        self.moved_to: str | None = None
        self.asked: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        # The handshake is the handler's: one that fails must not leave its socket to nobody.
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_address[1]}/new.bundle"

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.moved_to is not None:
            self.send_response(302)
            self.send_header("Location", server.moved_to)
            self.end_headers()
            return
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(match[1]) if match and server.knows_ranges else 0
        rest = server.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.breaks.pop(0)] if server.breaks else rest)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def serving(certificates: Certificates, data: bytes = DATA) -> Iterator[Server]:
    with Server(certificates, data) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Server]:
    with serving(certificates) as server:
        yield server


Fetch = Callable[..., bytes]


@pytest.fixture
def fetch(tmp_path: Path, server: Server, certificates: Certificates) -> Fetch:
    def fetch(
        size_bytes: int = len(DATA),
        ca_file: Path | None = certificates.authority,
        prefixes: tuple[str, ...] = ("https://localhost",),
    ) -> bytes:
        terms = UpdatesConfig(ca_file=ca_file and str(ca_file), url_prefixes=prefixes)
        wish = Install(
            request="r",
            name="n",
            sequence=1,
            digest="0" * 64,
            size_bytes=size_bytes,
            url=server.url,
        )
        part = PartFile(tmp_path / "new.part", size_bytes)
        try:
            fetch_url(wish, part, terms, lambda _s: None, lambda: None)
        finally:
            part.close()
        return part.path.read_bytes()

    return fetch


def test_goes_on_where_the_connection_broke(server: Server, fetch: Fetch) -> None:
    server.breaks = [2 * CHUNK_BYTES, 0, CHUNK_BYTES]
    assert fetch() == DATA
    assert server.asked == [
        None,
        *[f"bytes={2 * CHUNK_BYTES}-"] * 2,
        f"bytes={3 * CHUNK_BYTES}-",
    ]


def test_goes_on_with_what_an_earlier_process_left(
    tmp_path: Path, server: Server, fetch: Fetch
) -> None:
    (tmp_path / "new.part").write_bytes(DATA[: CHUNK_BYTES + 5])
    assert fetch() == DATA
    assert server.asked == [f"bytes={CHUNK_BYTES}-"]


def test_begins_anew_where_the_server_knows_no_ranges(
    tmp_path: Path, server: Server, fetch: Fetch
) -> None:
    server.knows_ranges = False
    (tmp_path / "new.part").write_bytes(b"x" * CHUNK_BYTES)
    assert fetch() == DATA


def test_gives_up_where_nothing_comes(server: Server, fetch: Fetch) -> None:
    server.breaks = [0] * 20
    with pytest.raises(UpdateError, match="file ends early; 0 bytes came"):
        fetch()
    assert len(server.asked) == 5


def test_takes_no_more_than_was_announced(fetch: Fetch) -> None:
    with pytest.raises(UpdateError, match="larger than the 1,000 bytes announced"):
        fetch(size_bytes=1000)


def test_trusts_no_certificate_of_a_stranger(server: Server, fetch: Fetch) -> None:
    with pytest.raises(UpdateError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(ca_file=None)
    assert server.asked == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_cannot_be_read_are_named(
    tmp_path: Path, fetch: Fetch, content: bytes | None
) -> None:
    path = tmp_path / "depot.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UpdateError, match=r"updates\.ca_file .*depot\.pem must hold certificates"):
        fetch(ca_file=path)


@pytest.mark.parametrize("elsewhere", ["http://localhost/new.bundle", "file:///etc/passwd"])
def test_is_sent_nowhere_but_to_https(elsewhere: str, server: Server, fetch: Fetch) -> None:
    server.moved_to = elsewhere
    with pytest.raises(UpdateError, match=r"does not begin with one of|not allowed"):
        fetch()


@pytest.mark.parametrize("path", ["depot/a.bundle", "private/a.bundle"])
def test_follows_a_server_no_farther_than_bundles_may_be_fetched_from(
    path: str, server: Server, fetch: Fetch, certificates: Certificates
) -> None:
    with serving(certificates) as other:
        root = other.url.removesuffix("new.bundle")
        server.moved_to = root + path
        allowed = (server.url, root + "depot/")
        if path.startswith("depot"):
            assert fetch(prefixes=allowed) == DATA
        else:
            with pytest.raises(UpdateError, match=rf"sends to {server.moved_to}, which does not"):
                fetch(prefixes=allowed)
            assert other.asked == []


@pytest.mark.parametrize(
    "rest",
    [
        "../private/a.bundle",
        "a/../../private/a.bundle",
        "%2e%2E/private/a.bundle",
        "..%2fprivate/a.bundle",
        "%252e%252e/private/a.bundle",
        "..\\private/a.bundle",
        "..;x/private/a.bundle",
        "..",
    ],
)
def test_a_url_that_leads_out_of_an_allowed_beginning_is_refused(rest: str) -> None:
    assert "has '..' in it" in (why_not_from(f"https://depot.lan/a/{rest}", [DEPOT]) or "")


@pytest.mark.parametrize("rest", ["home.bundle", "v1..2/home...bundle", "100%25/.x/%C3%A4.bundle"])
def test_a_url_with_dots_in_its_names_is_allowed(rest: str) -> None:
    assert why_not_from(f"https://depot.lan/a/{rest}", [DEPOT]) is None


def test_a_server_that_sends_out_of_an_allowed_beginning_is_not_followed(
    server: Server, fetch: Fetch
) -> None:
    root = server.url.removesuffix("new.bundle")
    server.moved_to = f"{root}depot/%2e%2e/private/a.bundle"
    with pytest.raises(UpdateError, match=r"which has '\.\.' in it"):
        fetch(prefixes=(server.url, f"{root}depot/"))
    assert server.asked == [None]


def test_a_device_takes_a_bundle_by_https_from_where_its_configuration_allows(
    tmp_path: Path, certificates: Certificates, tiny_bundle: TinyBundle
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=3 * CHUNK_BYTES)
    with (
        Broker(tmp_path / "broker") as broker,
        broker.subscriber("transom/hall-pi/#") as heard,
        serving(certificates, new.read_bytes()) as server,
    ):
        server.breaks = [CHUNK_BYTES]
        terms: dict[str, Any] = {
            "url_prefixes": (server.url.removesuffix("new.bundle"),),
            "ca_file": str(certificates.authority),
        }
        with Device(tmp_path, broker.config(), tiny_bundle.keys, **terms) as device:
            around = wish_for(new, url=server.url.replace("new.bundle", "../new.bundle"))
            Offer(broker).wish(around)
            assert "has '..' in it" in wait_for_step(heard, "refused", around.request)["reason"]
            wish = wish_for(new, url=server.url)
            Offer(broker).wish(wish)
            wait_until(lambda: device.updater.wants_restart, 30.0)
            wait_for_step(heard, "verified", wish.request)
    assert server.asked == [None, f"bytes={CHUNK_BYTES}-"]
