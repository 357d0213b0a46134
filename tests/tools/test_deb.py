"""What the Debian package is built from. The package itself is tried by `make install-test`."""

import re
import subprocess
from pathlib import Path

import pytest

from edge_runtime.state_format import FORMAT

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"


@pytest.mark.parametrize(
    ("written", "action", "code"),
    [
        (None, "install", 0),
        (None, "upgrade", 0),
        (str(FORMAT), "upgrade", 0),
        (str(FORMAT + 1), "upgrade", 1),
        (str(FORMAT + 1), "install", 1),
        ("damaged", "upgrade", 0),
    ],
)
def test_a_state_of_a_later_format_is_not_given_to_this_version(
    tmp_path: Path, written: str | None, action: str, code: int
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if written is not None:
        (state / "format").write_text(f"{written}\n")
    script = (DEBIAN / "transom.preinst").read_text().replace("#FORMAT#", str(FORMAT))
    script = script.replace("/var/lib/private/transom", str(state))
    done = subprocess.run(["sh", "-c", script, "preinst", action], capture_output=True, text=True)
    assert done.returncode == code
    assert ("Keep the later version" in done.stderr) == (code == 1)


def test_the_package_starts_what_it_installs() -> None:
    rules = (DEBIAN / "rules").read_text()
    found = re.search(r"sed 's\|(\S+)\|(\S+)\|' systemd/transom.service", rules)
    assert found is not None
    unit = (ROOT / "systemd" / "transom.service").read_text()
    assert unit.count(found[1]) == 1
    assert f"debian/transom{found[2]}\n" in rules


def test_the_format_is_found_where_the_rules_look_for_it() -> None:
    looked = re.search(r"FORMAT := \$\(shell (.+)\)", (DEBIAN / "rules").read_text())
    assert looked is not None
    said = subprocess.run(["sh", "-c", looked[1]], cwd=ROOT, capture_output=True, text=True).stdout
    assert said == f"{FORMAT}\n"


def test_the_image_has_every_package_that_the_wheel_has() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"packages\.find\.include = \[(.+)\]", text)
    assert found is not None
    container = (ROOT / "Containerfile").read_text()
    for package in re.findall(r'"(\w+)\*"', found[1]):
        assert f"\nCOPY {package} {package}\n" in container
