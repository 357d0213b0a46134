"""The page of a daemon whose cameras play lists, served on loopback, and somebody who asks."""

import asyncio
import http.client
import itertools
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from edge_runtime.replay import ClipClock
from edge_runtime.samples import SampleStore
from edge_runtime.web.device import DeviceDesk
from edge_runtime.web.process import make_server
from edge_runtime.web.server import PageServer
from tests.edge_runtime.test_daemon import DOOR, Play
from transom.bundle import Bundle
from transom.config import PageConfig, load_config
from transom.crop import Image

_HEAD = """
# the hall's camera
device = "pi"
[mqtt]
host = "localhost"
[samples]
random_per_day = 0.0
every_s = 2.0
[[cameras]]
name = "hall"
source = "file:hall.mp4"
fps = 5
"""


def configuration_of(zones: Mapping[str, Any]) -> str:
    """Return a configuration of one camera with zones, by name and corners."""
    return _HEAD + "".join(
        f"""
[[cameras.zones]]
name = "{name}"                 # the {name}
polygon = {json.dumps(corners)}
correct = true
"""
        for name, corners in zones.items()
    )


CONFIGURATION = configuration_of({"door": DOOR})


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Somebody who asks a server on loopback."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self.token = token

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                method, path, None if body is None else data, sent | dict(headers or {})
            )
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answered(response.status, named, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: object) -> Answered:
        return self.ask("POST", path, body)


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """Serve an application from a thread, on loopback; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class ServedDaemon:
    """A daemon that a test turns, and its page."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        camera_type: Any,
        frames: Iterable[Image | None],
        configuration: str = CONFIGURATION,
        clock: ClipClock | None = None,
    ) -> None:
        self.config_file = folder / "transom.toml"
        self.config_file.write_text(configuration)
        config = load_config(self.config_file)
        self.store = (
            None
            if config.samples is None
            else SampleStore(folder / "samples.sqlite3", config.samples)
        )
        self.play = Play(
            bundle, config, camera_type, frames, clock=clock, samples=self.store, is_shown=True
        )
        self.reloads = 0
        self.server = PageServer(PageConfig(port=0), folder)
        self._config = config
        self.server.start(self.desk_of(self.config_file))
        self.token = (folder / "page-token").read_text().strip()
        self.client = Client(self.server.port, self.token)

    def desk_of(self, config_file: Path) -> DeviceDesk:
        """Return who answers, for a configuration file."""
        return DeviceDesk(
            self._config,
            config_file,
            self.play.daemon,
            self.store,
            self.play.clock,
            self._reload,
        )

    def _reload(self) -> None:
        self.reloads += 1

    def close(self) -> None:
        self.server.close()
        if self.store is not None:
            self.store.close()


def looped(*frames: Iterable[Image]) -> Iterable[Image]:
    """Play frames for ever."""
    return itertools.cycle(itertools.chain(*frames))
