"""A whole device with everything switched on, its camera and its broker, all on loopback."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from tests.edge_runtime.broker import Broker, Subscriber, free_port, wait_until
from tests.edge_runtime.cameras import MjpegServer, whole
from tests.edge_runtime.conftest import draw_scene
from tests.edge_runtime.updating import TinyBundle
from transom.signing import new_key

DEVICE = "hall-pi"
ROOT = f"transom/{DEVICE}"
CONTACT = "zigbee2mqtt/door"
COMMANDS = (
    f"{ROOT}/door/correct",
    f"{ROOT}/samples/ask",
    f"{ROOT}/model/desired",
    f"{ROOT}/model/install",
    f"{ROOT}/model/keys",
    "homeassistant/status",
    CONTACT,
)
"""Every topic that a device listens to, where all is switched on."""

TABLES = """
[samples]
pull = true
random_per_day = 1440.0
every_s = 1.0
[updates]
install = "when_asked"
"""
ZONE = """
snapshot = true
correct = true
contact = {{ topic = "{contact}" }}
"""


@dataclass(frozen=True)
class Secrets:
    """What the house must not tell: words that stand nowhere else."""

    camera_user: str = "viewer"
    camera: str = "canary-camera-7b1e"
    broker_user: str = "transom"
    broker: str = "canary-broker-55c0"
    query: str = "canary-query-0f9d"
    token: str = "canary-token-d2a4-d2a4-d2a4-d2a4-d2a4"


class House:
    """The device's files, and what it speaks to.

    Args:
        folder: Where all of it goes.
        tiny: The bundle that serves.
        tables: Tables of the configuration beside the usual ones; none = a default installation.
        zone: Keys of the zone beside the usual ones.
        page: Whether the page is served.
    """

    def __init__(
        self,
        folder: Path,
        tiny: TinyBundle,
        *,
        tables: str = TABLES,
        zone: str = ZONE,
        page: bool = False,
        secrets: Secrets = Secrets(),
    ) -> None:
        self.folder = folder
        self.secrets = secrets
        self.state = folder / "state"
        self.store = folder / "models"
        for place in (self.state, self.store, folder / "credentials"):
            place.mkdir(parents=True)
        (self.store / "mine.bundle").write_bytes(tiny.path.read_bytes())
        new_key(folder / "recovery" / "spare.pem")
        for name, secret in (("camera", secrets.camera), ("broker", secrets.broker)):
            (folder / "credentials" / name).write_text(secret + "\n")
            (folder / "credentials" / name).chmod(0o600)
        if page:
            (self.state / "page-token").write_text(secrets.token)
        self.broker = Broker(folder / "broker", users={secrets.broker_user: secrets.broker})
        self.camera = MjpegServer()
        self.camera.credentials = f"{secrets.camera_user}:{secrets.camera}"
        self.camera.interval_s = 0.1
        # Each with noise of its own: what comes again to the last bit is a frozen camera's.
        self.camera.part = lambda index: whole(draw_jpeg(index))
        self.page_port = free_port()
        self.config = folder / "transom.toml"
        self.log = folder / "log"
        self.config.write_text(
            f"""
device = "{DEVICE}"
state_directory = "{self.state}"
[mqtt]
host = "localhost"
port = {self.broker.port}
username = "{secrets.broker_user}"
password_file = "broker"
[models]
store = "{self.store}"
trusted_keys = "{tiny.keys}"
recovery_keys = "{folder / "recovery"}"
{tables}
{f"[page]{chr(10)}port = {self.page_port}" if page else ""}
[[cameras]]
name = "hall"
source = "{self.camera.url}?token={secrets.query}"
username = "{secrets.camera_user}"
password_file = "camera"
fps = 5
[[cameras.zones]]
name = "door"
polygon = [[0.36, 0.17], [0.64, 0.17], [0.64, 0.93], [0.36, 0.93]]
{zone.format(contact=CONTACT)}
"""
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the service manager would give to the daemon."""
        kept = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        return kept | {"CREDENTIALS_DIRECTORY": str(self.folder / "credentials")}

    def command(self, *words: str) -> list[str]:
        """Return a command line of `transom` with the house's configuration."""
        return [sys.executable, "-m", "transom", *words, "--config", str(self.config)]

    @contextmanager
    def daemon(self, *before: str, verbose: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
        """Run the daemon, perhaps under another program."""
        more = ["--verbose"] if verbose else []
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*before, *self.command("run"), *more],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # also what it was started under
            try:
                process.wait(10.0)
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def lived_in(self, *before: str, verbose: bool = False) -> Iterator[tuple[Subscriber, int]]:
        """Run broker, camera and daemon; yield somebody who hears all, and the daemon's process.

        The block begins when the door's state is known.
        """
        secrets = self.secrets
        with (
            self.broker,
            self.broker.subscriber(user=secrets.broker_user, password=secrets.broker) as heard,
            self.daemon(*before, verbose=verbose) as process,
        ):
            try:
                wait_until(lambda: '"open"' in str(heard.payloads(f"{ROOT}/door/state")), 60.0)
                yield heard, process.pid
                assert process.poll() is None, self.log.read_text("utf-8", "replace")[-3000:]
            except AssertionError:
                print(self.log.read_text("utf-8", "replace")[-5000:])  # noqa: T201
                raise
            finally:
                self.camera.close()


def draw_jpeg(seed: int) -> bytes:
    """Return a picture of a room whose door is open."""
    done, data = cv2.imencode(".jpg", draw_scene(217.0, seed=seed, height=240))
    assert done
    return data.tobytes()


def resident_mb(process: int) -> float:
    """Return the memory of a process, MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024.0


def descendants(process: int) -> list[int]:
    """Return a process and all that it has started, of those that still run."""
    found = [process]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
