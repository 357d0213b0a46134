"""Canary passwords in every place that takes one: none comes out anywhere."""

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from edge_runtime.web.access import Access
from tests.edge_runtime.broker import free_port, wait_until
from tests.edge_runtime.page import Client
from tests.edge_runtime.updating import TinyBundle
from tests.faults.house import TABLES, House, Secrets, descendants, draw_jpeg
from tests.faults.proof import Proof
from transom.signing import load_private_key

SECOND_CAMERA = """
[[cameras]]
name = "attic"
source = "rtsp://127.0.0.1:{port}/stream?token={query}"
username = "{user}"
password_file = "camera"
[[cameras.zones]]
name = "hatch"
polygon = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]
"""


def forms(secrets: Secrets) -> dict[bytes, str]:
    """Return every form of a secret that would give it away."""
    found: dict[bytes, str] = {}
    for name in ("camera", "broker", "query", "token"):
        secret = getattr(secrets, name)
        user = {"camera": secrets.camera_user, "broker": secrets.broker_user}.get(name, "")
        pair = base64.b64encode(f"{user}:{secret}".encode()).rstrip(b"=")
        shapes = (secret.encode(), quote(secret, safe="").encode(), secret.encode().hex().encode(),
                  base64.b64encode(secret.encode()).rstrip(b"="), pair)  # fmt: skip
        found |= dict.fromkeys(shapes, name)
    return found


class Witness:
    """Looks at what every process was started with, over and over."""

    def __init__(self, root: int) -> None:
        self.seen: set[tuple[str, bytes]] = set()
        self._root = root
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @contextmanager
    def watching(self) -> Iterator["Witness"]:
        self._thread.start()
        yield self
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            for process in descendants(self._root):
                for file in ("cmdline", "environ"):
                    try:
                        if "mosquitto" not in Path(f"/proc/{process}/comm").read_text():
                            self.seen.add((file, Path(f"/proc/{process}/{file}").read_bytes()))
                    except OSError:
                        continue


def run(house: House, *words: str, seconds: float = 40.0) -> bytes:
    """Run a command of `transom`, end it after some seconds, and return all that it said."""
    environment = house.environment | {"OPENCV_FFMPEG_DEBUG": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "transom", *words], env=environment, cwd=house.folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def core_limit(process: int) -> str:
    """Return how much of a process may be written to the disk when it crashes."""
    limits = Path(f"/proc/{process}/limits").read_text().splitlines()
    return next(line for line in limits if line.startswith("Max core file size")).split()[4]


def told_by_commands(house: House, broker: tuple[str, ...]) -> dict[str, bytes]:
    """Return what commands say, also of a camera and a broker that refuse them."""
    config = str(house.config)
    clip = house.folder / "clip"
    clip.mkdir()
    for number in range(3):
        (clip / f"{number}.jpg").write_bytes(draw_jpeg(number))
    clips = [word for name in ("hall", "attic") for word in ("--clip", f"{name}={clip}")]
    said = {
        "check": run(house, "check", config),
        "replay": run(house, "replay", "--config", config, "--json", *clips),
    }
    assert b'"frames":6' in said["replay"]
    house.camera.credentials = "another:password"
    (house.folder / "password").write_text("wrong")
    said["fleet refused"] = run(house, "fleet", *broker)
    said["doctor refused"] = run(house, "doctor", "--config", config)
    assert b"refuses" in said["fleet refused"]
    return said


@pytest.mark.timeout(300)
@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_no_secret_comes_out_anywhere(
    tmp_path: Path,
    tiny_bundle: TinyBundle,
    monkeypatch: pytest.MonkeyPatch,
    proof: Proof,
    isolation: str,
) -> None:
    claim = proof(
        16, "canaries as passwords of cameras and broker, in a URL's query, as the page's token: "
        f"run --verbose, doctor, check, replay, fleet; cameras by {isolation}",
        unit="houses",
    )  # fmt: skip
    monkeypatch.setenv("OPENCV_FFMPEG_DEBUG", "1")  # FFmpeg says all that it can
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "DEBUG")
    tables = f'{TABLES}[capture]\nisolation = "{isolation}"\n'
    house = House(tmp_path, tiny_bundle, tables=tables, page=True)
    secrets = house.secrets
    house.config.write_text(
        house.config.read_text()
        + SECOND_CAMERA.format(port=free_port(), query=secrets.query, user=secrets.camera_user)
    )
    said: dict[str, bytes] = {}
    (tmp_path / "password").write_text(secrets.broker)
    broker = ("--host", "localhost", "--port", str(house.broker.port), "--username",
              secrets.broker_user, "--password-file", str(tmp_path / "password"))  # fmt: skip
    with (
        Witness(os.getpid()).watching() as witness,
        house.lived_in(verbose=True) as (heard, daemon),
    ):
        cores = {process: core_limit(process) for process in descendants(daemon)}
        stranger = Client(house.page_port)
        said["page without token"] = b"".join(
            stranger.ask("GET", path).body for path in ("/", "/api/status", "/api/x")
        )
        client = Client(house.page_port, secrets.token)
        wait_until(lambda: client.get("/api/status").status == 200, 20.0)
        said["page"] = client.get("/api/status").body + client.get("/api/samples").body
        access = Access(token=secrets.token, names=(), scheme="http", port=house.page_port)
        assert secrets.token not in access.new_session(0.0)
        if isolation == "process":
            said |= told_by_commands(house, broker)
        house.broker.set_users({secrets.broker_user: "another"})
        house.broker.kill()
        house.broker.start()
        wait_until(lambda: b"broker refuses" in house.log.read_bytes(), 30.0)
        copies = [f"{copy.topic} {copy.payload}".encode() for copy in heard.copies()]
    said["log"] = house.log.read_bytes()
    places = {
        **said,
        **{f"{file} {n}": text for n, (file, text) in enumerate(sorted(witness.seen))},
        **{f"message {n}": text for n, text in enumerate(copies)},
        **{
            str(path): path.read_bytes()
            for folder in (house.state, house.store)
            for path in folder.rglob("*")
            if path.is_file() and path.name != "page-token"
        },
    }
    assert any(place.startswith("cmdline") for place in places)
    assert any(place.endswith("outbox.sqlite3") for place in places)
    assert copies
    found = [
        f"{name} in {place}"
        for place, text in places.items()
        for shape, name in forms(secrets).items()
        if shape in text
    ]
    assert found == []
    assert set(cores.values()) == {"0"}, "a crash would leave all of them on the disk"
    assert b"rtsp" in said["log"]
    claim.found(
        "0 hits in {places} places: logs, answers, messages, command lines, environments, files",
        places=len(places),
    )


def test_a_bundle_holds_nothing_of_the_key_that_signed_it(
    tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(16, "the private key's numbers in what it signed", unit="bundles")
    key = load_private_key(tiny_bundle.private_key)
    number = key.private_numbers().private_value
    pem = tiny_bundle.private_key.read_text().splitlines()[1:-1]
    data = tiny_bundle.path.read_bytes()
    shapes = [number.to_bytes(32, "big"), number.to_bytes(32, "little"), f"{number:064x}".encode(),
              str(number).encode(), *(line.encode() for line in pem)]  # fmt: skip
    assert not [shape for shape in shapes if shape in data]
    claim.found("0 hits")
