"""The daemon itself takes a bundle over MQTT, beside the one that serves, and goes back again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.conftest import draw_scene
from tests.edge_runtime.service_manager import ServiceManager
from tests.edge_runtime.updating import Offer, reports, rewrite, steps, wait_for_step, way_back_from

STATE, STATUS = "transom/hall-pi/door/state", "transom/hall-pi/status"
CONFIG = """
device = "hall-pi"
state_directory = "{folder}/state"
[mqtt]
host = "localhost"
port = {port}
[models]
store = "{folder}/store"
trusted_keys = "{keys}"
[updates]
shadow_decisions = 10
healthy_s = 1
[[cameras]]
name = "hall"
source = "file:{folder}/clip.avi"
loop = true
fps = 10
[[cameras.zones]]
name = "door"
polygon = [[0.36, 0.17], [0.64, 0.17], [0.64, 0.93], [0.36, 0.93]]
"""


def write_clip(path: Path) -> None:
    """Write two seconds of a door that is opened and shut, so that something moves."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    for number in range(20):
        image = draw_scene(40.0 if number % 10 < 5 else 217.0, seed=number, height=240)
        writer.write(np.ascontiguousarray(image))
    writer.release()


@contextmanager
def running(folder: Path, manager: ServiceManager) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "transom", "run", "--config", str(folder / "transom.toml")]
    with (folder / "journal").open("ab") as journal:
        process = subprocess.Popen(
            command, env=os.environ | manager.environment, stdout=journal, stderr=journal
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_daemon_takes_a_bundle_and_goes_back_when_asked(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    write_clip(tmp_path / "clip.avi")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=200_000)
    with (
        Broker(tmp_path / "broker") as broker,
        ServiceManager(tmp_path / "notify") as manager,
        broker.subscriber("transom/hall-pi/#") as heard,
    ):
        text = CONFIG.format(folder=tmp_path, port=broker.port, keys=tiny_bundle.keys)
        (tmp_path / "transom.toml").write_text(text)
        offer = Offer(broker)

        def serves(sequence: int) -> bool:
            told = [json.loads(payload) for payload in heard.payloads(STATE)]
            return bool(told) and told[-1]["sequence"] == sequence

        with running(tmp_path, manager) as process:
            wait_until(lambda: serves(1), 30.0)
            wish = offer.deploy(new)
            wait_for_step(heard, "committed", wish.request)
            wait_until(lambda: serves(2), 30.0)
            back = way_back_from(new)
            offer.wish(back)
            wait_for_step(heard, "rolled_back", back.request)
            wait_until(lambda: serves(1), 30.0)
            assert process.poll() is None  # one process through all of it

    way = ["accepted", "verified", "tried", "shadow", "started", "committed"]
    assert steps(heard, wish.request) == way
    shadow = reports(heard, wish.request)[3]
    assert (shadow["decisions"], shadow["agreement"]) == (10, 1.0)
