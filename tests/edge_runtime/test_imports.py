"""What importing the daemon costs on a device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What `sys.modules` must not hold; a name stands for everything below it too.
WORKSTATION = ("torch", "onnx", "onnxscript", "train", "export", "demo")


@pytest.mark.parametrize(
    "module", ["edge_runtime.daemon", "edge_runtime.serve", "edge_runtime.commands"]
)
def test_the_daemon_loads_nothing_of_the_workstation(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert module in loaded
    assert not sorted(name for name in loaded if name.partition(".")[0] in WORKSTATION)


def test_running_the_daemon_does_not_load_the_tools_beside_it() -> None:
    code = "import sys, edge_runtime.serve; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"edge_runtime.watch", "edge_runtime.doctor"} & set(loaded)
    # Nor the page, which is off: neither its own code nor its libraries.
    page = ("edge_runtime.web", "starlette", "uvicorn", "tomlkit")
    assert not sorted(name for name in loaded if name.startswith(page))


def test_the_cameras_are_started_before_what_takes_long_is_imported() -> None:
    code = "import sys, edge_runtime.run_command; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "edge_runtime.capture" in loaded
    assert not {"onnxruntime", "paho", "cryptography", "sqlite3", "edge_runtime.daemon"} & set(
        loaded
    )


def test_a_session_leaves_nothing_in_its_users_home_and_sends_nothing_of_its_use(
    tmp_path: Path,
) -> None:
    code = (
        "from edge_runtime.classifier import Classifier\n"
        "from transom.bundle import read_bundle\n"
        "from transom.starter import STARTER, bundle_path\n"
        "Classifier(read_bundle(bundle_path(STARTER), None))"
    )
    # Without what tells onnxruntime that it is tested: then it keeps quiet by itself.
    environment = {"HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
