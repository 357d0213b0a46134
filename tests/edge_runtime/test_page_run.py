"""The page beside the real daemon: `transom run` as a service manager would start it."""

import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_runtime.outbox import FILE_NAME, Outbox
from edge_runtime.web.address import TOKEN_FILE
from tests.edge_runtime.cameras import wait_for
from tests.edge_runtime.page import Client, configuration_of
from tests.edge_runtime.test_daemon import DOOR
from transom.cli import main
from transom.config import OutboxConfig, load_config
from transom.crop import Image

_LISTENS = "0A"


@pytest.fixture
def configuration(tmp_path: Path, tiny_bundle: Any, scene: Callable[..., Image]) -> Path:
    """A configuration whose camera plays a clip for ever, without a page."""
    clip = tmp_path / "hall.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    for seed in range(30):
        writer.write(scene(40.0, seed=seed, height=120))
    writer.release()
    text = configuration_of({"door": DOOR}).replace("file:hall.mp4", f"file:{clip}")
    text = text.replace("fps = 5", "fps = 5\nloop = true")
    models = f'[models]\nbundle = "{tiny_bundle.path}"\ntrusted_keys = "{tiny_bundle.keys}"\n'
    state = f'state_directory = "{tmp_path / "state"}"\n'
    path = tmp_path / "transom.toml"
    path.write_text(state + text + models)
    return path


@contextmanager
def running(
    configuration: Path, device: str = "pi"
) -> Iterator["tuple[subprocess.Popen[bytes], Path]"]:
    """Run the daemon; yield its process and what it logs."""
    log = configuration.with_name("log")
    command = [sys.executable, "-m", "transom", "run", "--config", str(configuration)]
    with log.open("wb") as out, subprocess.Popen(command, stderr=out) as process:
        try:
            wait_for(lambda: f"started device={device}" in log.read_text(), 60.0)
            yield process, log
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def listening(process: int) -> list[str]:
    """Return the addresses at which a process listens, as the kernel writes them."""
    inodes = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
        inodes |= {found[1]} if found else set()
    rows = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{process}/net/{table}")
        rows += [line.split() for line in path.read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == _LISTENS and row[9] in inodes]


def test_without_a_table_page_nothing_listens(configuration: Path) -> None:
    with running(configuration) as (process, _):
        assert listening(process.pid) == []


def test_a_second_daemon_says_that_one_runs_here_before_it_asks_for_the_page(
    configuration: Path, tmp_path: Path
) -> None:
    configuration.write_text(configuration.read_text() + "[page]\nport = 0\n")
    outbox = Outbox(tmp_path / "state" / FILE_NAME, OutboxConfig())
    command = [sys.executable, "-m", "transom", "run", "--config", str(configuration)]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    outbox.close()
    assert second.returncode == 1
    assert "another process has it open; stop the other transom run first" in second.stderr
    assert "page" not in second.stderr
    assert not (tmp_path / "state" / TOKEN_FILE).exists()


def test_zones_drawn_on_the_page_are_watched_soon_and_the_link_goes_on_working(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration.write_text(configuration.read_text() + "[page]\nport = 0\n")
    with running(configuration) as (process, log):
        (address,) = set(re.findall(r"address=http://127\.0\.0\.1:(\d+)/", log.read_text()))
        token = (configuration.parent / "state" / "page-token").read_text().strip()
        assert token not in log.read_text()
        assert [one.startswith("0100007F:") for one in listening(process.pid)] == [True]
        client = Client(int(address), token)
        more = [
            {"name": "door", "polygon": DOOR},
            {"name": "hatch", "polygon": [[0.7, 0.1], [0.9, 0.1], [0.9, 0.4], [0.7, 0.4]]},
        ]
        saved = client.ask("PUT", "/api/cameras/hall/zones", {"zones": more})
        assert saved.json["saved"] is True

        def zones() -> list[str]:
            try:
                cameras = client.get("/api/status").json.get("cameras", [])
            except (http.client.HTTPException, OSError):  # it begins anew in this very moment
                return []
            return [zone["name"] for camera in cameras for zone in camera["zones"]]

        wait_for(lambda: zones() == ["door", "hatch"], 30.0)
        assert process.poll() is None
    assert load_config(configuration).cameras[0].zones[1].polygon[0] == (0.7, 0.1)
    text = configuration.read_text().replace("port = 0", "port = 8391")
    configuration.write_text(text)
    assert main(["page", "--config", str(configuration)]) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:8391/#{token}\n"


@pytest.mark.parametrize(
    ("begin", "by_hand", "why"),
    [
        (
            'host = "localhost"',
            'host = "localhost"\nusername = "pi"\npassword_file = "not-there-yet"',
            "configuration is not used, the one before is: .*not-there-yet",
        ),
        (
            'trusted_keys = "',
            'trusted_keys = "/nowhere',
            "configuration is not used, the one before is: /nowhere",
        ),
        ('state_directory = "', 'state_directory = "/proc', "next start on: state_directory$"),
    ],
)
def test_zones_drawn_beside_what_cannot_be_used_yet_do_not_end_the_daemon(
    configuration: Path, begin: str, by_hand: str, why: str
) -> None:
    configuration.write_text(configuration.read_text() + "[page]\nport = 0\n")
    with running(configuration) as (process, log):
        (address,) = set(re.findall(r"address=http://127\.0\.0\.1:(\d+)/", log.read_text()))
        token = (configuration.parent / "state" / "page-token").read_text().strip()
        configuration.write_text(configuration.read_text().replace(begin, by_hand))
        zones = [{"name": "door", "polygon": [[0.7, 0.1], [0.9, 0.1], [0.9, 0.4], [0.7, 0.4]]}]
        client = Client(int(address), token)
        assert client.ask("PUT", "/api/cameras/hall/zones", {"zones": zones}).json["saved"] is True
        wait_for(lambda: log.read_text().count("started device=pi") == 2, 30.0)
        assert client.get("/api/status").status == 200
        assert process.poll() is None
        assert re.search(why, log.read_text(), re.MULTILINE)


def test_a_link_is_not_made_for_a_page_that_is_off(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["page", "--config", str(configuration)]) == 1
    assert "add a table [page]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ('host = "0.0.0.0"', "allow_plain = true"),
        ('certificate_file = "a.pem"', "must be given together"),
        ("port = 70000", "port"),
        ('names = ["Hall.LAN"]', "names"),
    ],
)
def test_check_refuses_a_page_that_would_be_open_or_cannot_be(
    configuration: Path, capsys: pytest.CaptureFixture[str], table: str, what: str
) -> None:
    configuration.write_text(configuration.read_text() + f"[page]\n{table}\n")
    assert main(["check", str(configuration)]) == 78
    assert what in capsys.readouterr().err
