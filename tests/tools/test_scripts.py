"""The scripts of the repository: a shell understands them, and linters have nothing to say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def scripts() -> list[str]:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    return [name for name in tracked if name and first_line(ROOT / name).startswith(b"#!/bin/sh")]


def first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(80)


@pytest.mark.parametrize("script", scripts())
def test_a_shell_understands_the_script(script: str) -> None:
    done = subprocess.run(["sh", "-n", ROOT / script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_has_nothing_to_say() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        text = "shellcheck is not installed: apt-get install shellcheck"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    found = scripts()
    assert "install.sh" in found
    done = subprocess.run([program, *found], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, ROOT / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
