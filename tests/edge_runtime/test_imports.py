"""What importing the daemon costs on a device."""

import subprocess
import sys

import pytest

# What `sys.modules` must not hold; a name stands for everything below it too.
WORKSTATION = ("torch", "onnx", "onnxscript", "train", "export", "demo")


@pytest.mark.parametrize("module", ["edge_runtime.daemon", "edge_runtime.commands"])
def test_the_daemon_loads_nothing_of_the_workstation(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert module in loaded
    assert not sorted(name for name in loaded if name.partition(".")[0] in WORKSTATION)


def test_running_the_daemon_does_not_load_the_tools_beside_it() -> None:
    code = "import sys, edge_runtime.commands; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"edge_runtime.watch", "edge_runtime.doctor"} & set(loaded)
    # Nor the page, which is off: neither its own code nor its libraries.
    page = ("edge_runtime.web", "starlette", "uvicorn", "tomlkit")
    assert not sorted(name for name in loaded if name.startswith(page))
