import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.setup.unit import with_credentials
from tests.faults.proof import Proof
from transom.config import load_config
from transom.errors import EXIT_CONFIGURATION

_FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = _FOLDER / "transom.service"


@pytest.fixture
def systemd_analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        text = "systemd-analyze is not installed: apt-get install systemd"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return program


def settings(section: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    part = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            part = line.strip("[]")
        elif part == section and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_understands_every_line_of_the_unit_and_of_its_drop_in(
    systemd_analyze: str, tmp_path: Path
) -> None:
    installed = tmp_path / UNIT.name
    installed.write_text(
        UNIT.read_text().replace("/opt/transom/current/bin/transom", sys.executable)
    )
    drop_in = tmp_path / f"{UNIT.name}.d" / "credentials.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(with_credentials(drop_in, ["hall-password", "yard_2-password"]))
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", installed], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("addition", ["", "libcamera.conf"])
def test_the_unit_exposes_at_most_1_5_of_10(
    systemd_analyze: str, tmp_path: Path, addition: str, proof: Proof
) -> None:
    what = f" with {addition}" if addition else ""
    claim = proof(14, f"`systemd-analyze security --offline` of the unit{what}", unit="units")
    unit = tmp_path / UNIT.name
    more = (_FOLDER / addition).read_text() if addition else ""
    unit.write_text(UNIT.read_text() + more)
    done = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--threshold=15", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    exposure = re.search(r"exposure level .*: ([0-9.]+)", done.stdout)
    assert exposure is not None
    claim.found("exposure {exposure} of 10", exposure=exposure[1])


def test_no_crash_leaves_pictures_and_passwords_on_the_disk() -> None:
    assert settings("Service")["LimitCORE"] == ["0"]


def test_the_unit_stays_down_only_where_the_configuration_is_wrong() -> None:
    service = settings("Service")
    assert service["Restart"] == ["always"]
    assert service["RestartPreventExitStatus"] == [str(EXIT_CONFIGURATION)]
    assert settings("Unit")["StartLimitIntervalSec"] == ["0"]


def test_the_unit_waits_for_readiness_and_watches_progress() -> None:
    service = settings("Service")
    assert service["Type"] == ["notify"]
    assert service["WatchdogSec"] == ["60"]


def test_the_unit_does_not_wait_for_the_internet_or_the_time() -> None:
    order = " ".join(" ".join(values) for values in settings("Unit").values())
    assert "time-sync" not in order
    assert "network-online" not in order


def test_the_unit_leaves_proc_cpuinfo_to_onnxruntime() -> None:
    assert "ProcSubset" not in settings("Service")


def test_the_example_configuration_is_valid_and_its_secret_is_loaded_by_the_unit() -> None:
    config = load_config(_FOLDER / "transom.toml")
    loaded = [value.partition(":")[0] for value in settings("Service")["LoadCredential"]]
    assert config.mqtt.password_file in loaded
    assert config.mqtt.uses_tls
    assert config.state_directory == "/var/lib/" + settings("Service")["StateDirectory"][0]


def test_only_the_ribbon_camera_gets_the_devices_of_libcamera() -> None:
    assert settings("Service")["DeviceAllow"] == ["char-video4linux rw"]
    addition = (_FOLDER / "libcamera.conf").read_text()
    assert "DeviceAllow=char-media rw" in addition
    assert "DeviceAllow=char-dma_heap rw" in addition
