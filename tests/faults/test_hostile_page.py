"""Strangers at the page: every route that the application has, by every method, with every trick.

What is fuzzed is made of the application's own routes and of what is near to what each takes;
`test_page_schema` has what its description says.
"""

import asyncio
import itertools
import json
import random
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from starlette.routing import Route

from edge_runtime.web.access import Access
from edge_runtime.web.api import OPERATIONS, OWN_OPERATIONS
from edge_runtime.web.app import make_app
from edge_runtime.web.call import Call, Reply
from edge_runtime.web.dataset import DatasetDesk
from edge_runtime.web.openapi import refusals
from edge_runtime.web.patience import ImpatientProtocol
from tests.conftest import MakeDataset
from tests.edge_runtime.broker import wait_until
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.page import Client, ServedDaemon, looped, serving
from tests.edge_runtime.test_daemon import CLOSED, OPEN
from tests.edge_runtime.updating import TinyBundle
from tests.faults.proof import Proof
from transom.bundle import read_bundle

PORT = 8380
TOKEN = "t" * 40
OWN = f"http://127.0.0.1:{PORT}"
METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "",
)
DESCRIBED = {one.name: {200, 204, 404, *refusals(one)} for one in OPERATIONS}
MUTATING = [one for one in OPERATIONS if one.method != "GET"]


class Asked:
    """An application whose answers would be seen; what is asked of it is noted."""

    def __init__(self) -> None:
        self.access = Access(token=TOKEN, names=("pi.local",), scheme="http", port=PORT)
        self.calls: list[Call] = []
        self.app: Any = make_app(self.access, self._answer)
        self.routes: list[Route] = self.app._app.routes

    def _answer(self, call: Call) -> Reply:
        self.calls.append(call)
        return Reply(body=b'{"secret": true}')

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", query: str = ""
    ) -> tuple[int, bytes]:
        """Ask as uvicorn does; return status and body."""
        return asyncio.run(self._ask(method, path, headers, body, query))

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str
    ) -> tuple[int, bytes]:
        said: list[dict[str, Any]] = []
        sent = {"host": f"127.0.0.1:{PORT}", "content-type": "application/json"} | dict(headers)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode("latin-1", "replace"),
            "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", PORT),
            "headers": [
                (name.encode(), value.encode("latin-1"))
                for name, value in sent.items()
                if value is not None
            ],
        }  # fmt: skip
        await self.app(scope, receive, send)
        start = next(m for m in said if m["type"] == "http.response.start")
        return start["status"], b"".join(m.get("body", b"") for m in said)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr("edge_runtime.web.app._DENIAL_S", 0.0)
    return Asked()


def pathed(path: str) -> str:
    """Return an operation's path, about the door."""
    return re.sub(r"\{\w+\}", "door", path)


def paths_of(route: Route) -> list[str]:
    """Return a route's path, and ways to write it that a server might take for it."""
    path = pathed(route.path)
    return [
        path, path + "/", "/" + path, path.replace("/api", "/api/."), "/x/.." + path,
        path.replace("/", "//"), path.upper(), path + "\0", path + ";x", path + "%00",
        path.replace("/api/", "/api%2f"), path.replace("/api", "/\\api"), path + "\n",
    ]  # fmt: skip


def strangers(access: Access) -> list[dict[str, str]]:
    """Return what somebody sends who has no token."""
    session = Access(token="u" * 40, names=(), scheme="http", port=PORT).new_session(2e9)
    ended = access.new_session(0.0)
    cookie = access.cookie
    return [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer " + TOKEN[:-1]},
        {"authorization": "Bearer " + TOKEN + "x"},
        {"authorization": "Basic " + TOKEN},
        {"authorization": TOKEN},
        {"authorization": "Bearer té\xff"},
        {"x-token": TOKEN, "x-forwarded-for": "127.0.0.1", "x-original-url": "/"},
        {"x-http-method-override": "GET", "x-rewrite-url": "/"},
        {"cookie": f"{cookie}={session}"},
        {"cookie": f"{cookie}={ended}"},
        {"cookie": f"{cookie}={TOKEN}"},
        {"cookie": f"{cookie}=9999999999.x.{'0' * 64}"},
        {"cookie": f"{cookie}="},
        {"cookie": f"other={access.new_session(2e9)}"},
        {"cookie": "\x00=;;=" * 50},
    ]


def test_no_route_of_the_application_answers_a_stranger(asked: Asked, proof: Proof) -> None:
    routes = [route for route in asked.routes if route.path.startswith("/api")]
    assert {route.path for route in routes} == {one.path for one in (*OPERATIONS, *OWN_OPERATIONS)}
    requests = [
        (method, path, headers)
        for route in routes
        for path in paths_of(route)
        for method in METHODS
        for headers in strangers(asked.access)
    ]
    claim = proof(
        22, "every route of the application by every method, written in 13 ways, without the token",
        fast=4_000, full=len(requests), unit="requests",
    )  # fmt: skip
    random.Random(22).shuffle(requests)
    leaked, statuses = [], set()
    for method, path, headers in requests[: claim.runs]:
        status, body = asked.ask(method, path, headers, b'"' + TOKEN[:-1].encode() + b'"',
                                 f"token={TOKEN[:-1]}")  # fmt: skip
        statuses.add(status)
        is_denied = status in (401, 404, 405)
        leaked += [] if is_denied and b"secret" not in body else [(method, path, headers)]
    assert asked.calls == []
    assert leaked == []
    claim.found("{leaked} answered", leaked=len(leaked))


def test_no_other_page_acts_and_no_other_name_is_served(asked: Asked, proof: Proof) -> None:
    session = asked.access.new_session(2e9)
    right = {
        "cookie": f"{asked.access.cookie}={session}",
        "origin": OWN,
        "x-csrf-token": asked.access.csrf(session),
    }
    wrong: list[dict[str, Any]] = [
        {"origin": None},
        *({"origin": said} for said in ("null", "", "http://evil.example", OWN + ".evil.example",
          OWN.replace("http", "https"), OWN + "1", "http://127.0.0.1", OWN.upper())),
        *({"x-csrf-token": said} for said in (None, "", "0" * 64, TOKEN, session)),
        *({"sec-fetch-site": said} for said in ("cross-site", "same-site", "")),
        *({"host": said} for said in ("evil.example", "evil.example:8380", "",
          "127.0.0.1.evil.example", "localhost@evil.example", "evil.example#localhost",
          "127.0.0.1\\@evil.example")),
        *({"content-type": said} for said in (None, "text/plain", "multipart/form-data",
          "application/x-www-form-urlencoded", "text/plain; application/json")),
    ]  # fmt: skip
    claim = proof(
        22, "requests in a browser's name: other origins, hosts, forms, missing tokens",
        fast=len(wrong) * len(MUTATING), full=len(wrong) * len(MUTATING), unit="requests",
    )  # fmt: skip
    done = []
    for one in MUTATING:
        for change in wrong:
            status, _ = asked.ask(one.method, pathed(one.path), right | change, b"{}")
            done += [(one.path, change)] if status < 400 else []
    assert (done, asked.calls) == ([], [])
    for one in MUTATING:
        assert asked.ask(one.method, pathed(one.path), right, b"{}")[0] == 200
    assert len(asked.calls) == len(MUTATING)
    claim.found("{done} carried out", done=len(done))


_VALUES: tuple[object, ...] = (
    None, True, 0, -1, 2**63, 2**64, 1e308, 0.5, "", "x", "open", "door", "1", "\0", "\ud800",
    "é\u202e", "<script>alert(1)</script>", "../../etc/passwd", "9" * 18, "9" * 300, "²", [], {},
    [[0, 0], [1, 0], [1, 1], [0, 1]], [[0.1, 0.1]] * 4, [[1e400, 0]] * 4, ["1"], [None] * 3,
    {"1": "open"}, {"1": None}, {"x" * 100: "y"}, "a" * 5000,
)  # fmt: skip
_KEYS = ("labels", "task", "ids", "class", "zones", "name", "polygon", "device_class", "", "x")
_PLACES = (
    "hall", "door", "1", "0", "-1", "..", "%2e%2e", "\0", "9" * 30, "²", "é", "a" * 300, "a b", "?",
    "'; DROP TABLE samples; --", "1 OR 1=1",
)  # fmt: skip


class Fuzzer:
    """Makes calls of every operation there is, with bodies that are near to what each takes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> Call:
        pick = self._random.choice
        one = pick(OPERATIONS)
        return Call(
            what=one.name,
            of=pick(_PLACES) if "{" in one.path else "",
            query=tuple(
                (pick(("place", "task", "labelled", "x")), str(pick(_VALUES))) for _ in range(2)
            ),
            body=self._body(),
        )

    def _body(self) -> bytes:
        kind = self._random.randrange(8)
        if kind == 0:
            return self._random.randbytes(self._random.randrange(60))
        if kind == 1:
            nested = self._random.choice((b"[", b'{"x":', b'{"class":"open","x":['))
            return nested * self._random.choice((3, 100_000))
        tree = {
            key: self._value(2) for key in self._random.sample(_KEYS, self._random.randint(1, 2))
        }
        return json.dumps(tree).encode("utf-8", "surrogatepass")

    def _value(self, depth: int) -> object:
        if depth == 0 or self._random.random() < 0.5:
            return self._random.choice(_VALUES)
        if self._random.random() < 0.5:
            return [self._value(depth - 1) for _ in range(self._random.randrange(3))]
        return {key: self._value(depth - 1) for key in self._random.sample(_KEYS, 3)}


@pytest.fixture
def served(
    tmp_path: Path, tiny_bundle: TinyBundle, scene: Callable[..., Any]
) -> Iterator[ServedDaemon]:
    frames = [scene(level, seed=s, height=120) for level in (CLOSED, OPEN) for s in range(20)]
    bundle = read_bundle(tiny_bundle.path, None)
    one = ServedDaemon(tmp_path, bundle, PlayListCamera, looped(frames))
    one.play.turn(10)
    yield one
    one.close()


def test_no_call_that_may_be_made_ends_in_another_answer_than_a_refusal(
    served: ServedDaemon,
    make_dataset: MakeDataset,
    tiny_bundle: TinyBundle,
    proof: Proof,
) -> None:
    claim = proof(
        22, "fuzzed calls of every operation, with the token, of a device and of a data set",
        fast=1_500, full=60_000, unit="calls",
    )  # fmt: skip
    dataset = DatasetDesk(make_dataset(groups=3), read_bundle(tiny_bundle.path, None))
    while dataset.look():
        pass
    device = served.desk_of(served.config_file)
    before = sorted(path for path in served.config_file.parent.iterdir())
    fuzzer, statuses = Fuzzer(22), set()
    for _ in range(claim.runs):
        call = fuzzer.next()
        for desk in (device, dataset):
            reply = desk.answer(call)
            statuses.add(reply.status)
            assert reply.status in DESCRIBED[call.what], (call, reply)
            assert reply.status < 400 or json.loads(reply.body)["error"], (call, reply)
    assert {200, 404, 422} <= statuses
    assert sorted(path for path in served.config_file.parent.iterdir()) == before
    claim.found("every one answered or refused with a reason")


def test_a_server_that_is_spoken_to_badly_goes_on_serving(
    served: ServedDaemon,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    proof: Proof,
) -> None:
    rubbish = [
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /api/labels HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/labels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/status HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/api/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"GET /%00/../..%2f..%2fpage-token HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    claim = proof(22, "bytes that are no HTTP, smuggled and split requests, to its port",
                  fast=len(rubbish), full=len(rubbish), unit="connections")  # fmt: skip
    process = served.server.process_id
    for said in rubbish:
        with socket.create_connection(("127.0.0.1", served.server.port), timeout=5.0) as client:
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            found = b""
            try:
                while part := client.recv(65_536):
                    found += part
            except ConnectionResetError:
                pass
        assert served.token.encode() not in found
        assert b'"cameras":' not in found
        assert not found.startswith(b"HTTP/1.1 5")
    assert served.client.get("/api/status").status == 200
    assert served.server.process_id == process
    assert "answer failed" not in caplog.text
    assert capfd.readouterr().err == ""  # nor does a stranger fill the log
    claim.found("refused, and the same process goes on serving")


def test_strangers_who_say_nothing_do_not_keep_out_who_has_the_token(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    claim = proof(22, "connections that say nothing, or half of a request, and stay", fast=80,
                  full=400, unit="connections")  # fmt: skip
    monkeypatch.setattr(ImpatientProtocol, "patience_s", 0.3)
    with serving(asked.app) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(claim.runs)]
        for client in silent[::2]:
            with suppress(OSError):  # it was closed
                client.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX: ")
        answered = Client(port, TOKEN)
        assert answered.get("/api/status").status == 200
        silent[-1].settimeout(20.0)
        assert silent[-1].recv(1) == b""
        for client in silent:
            client.close()
    claim.found("closed, and who has the token is answered; with 0.3 s of patience instead of 15 s")


class Crowd:
    """Strangers on some hosts, each with a connection to a port, and anew when it is closed."""

    def __init__(self, port: int, count: int) -> None:
        self._hosts = itertools.cycle(f"127.0.0.{number}" for number in range(2, 6))
        self._address = ("127.0.0.1", port)
        self._waiting = selectors.DefaultSelector()
        self._has_gone = threading.Event()
        for _ in range(count):
            self._come()
        self.returned = 0
        self._thread = threading.Thread(target=self._press)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_gone.set()
        self._thread.join()
        for key in list(self._waiting.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._waiting.close()

    def _come(self) -> None:
        client = socket.socket()
        client.bind((next(self._hosts), 0))
        client.setblocking(False)
        client.connect_ex(self._address)
        self._waiting.register(client, selectors.EVENT_READ)

    def _press(self) -> None:
        while not self._has_gone.is_set():
            for key, _ in self._waiting.select(0.1):
                self._waiting.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                self._come()
                self.returned += 1


def test_strangers_who_come_back_at_once_do_not_keep_out_who_has_the_token(
    asked: Asked, proof: Proof
) -> None:
    claim = proof(22, "asked by who has the token, while 64 strangers on 4 hosts hold on to all "
                  "connections and come back as soon as one is closed", fast=20, full=1_000,
                  unit="requests")  # fmt: skip
    with serving(asked.app) as port, Crowd(port, 64) as crowd:
        answered = Client(port, TOKEN)
        for _ in range(claim.runs):
            assert answered.get("/api/status").status == 200
        wait_until(lambda: crowd.returned > 64)
    claim.found("all answered")
