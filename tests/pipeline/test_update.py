"""The daemon itself takes a bundle over MQTT, beside the one that serves, and goes back again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.service_manager import ServiceManager
from tests.edge_runtime.updating import Offer, reports, rewrite, steps, wait_for_step, way_back_from
from tests.faults.place import configuration, write_clip

STATE = "transom/hall-pi/door/state"


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
        text = configuration(tmp_path, broker.port, tiny_bundle.keys, "door",
                             shadow_decisions=10, healthy_s=1, fps=10)  # fmt: skip
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
