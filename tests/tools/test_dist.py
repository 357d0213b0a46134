"""What is handed out: the source archive is the whole project, and an index takes both files."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools import wheel

pytestmark = pytest.mark.timeout(300)  # three builds: seconds, if nothing else runs
ROOT = Path(__file__).resolve().parents[2]
NOT_HANDED_OUT = {".ci/run", ".gitignore", "MANIFEST.in"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build this commit's wheel and source archive."""
    out = tmp_path_factory.mktemp("dist")
    return wheel.build(out), wheel.build_archive(out)


@pytest.fixture(scope="module")
def unpacked(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built[1]) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def test_the_source_archive_holds_every_file_of_the_project(unpacked: Path) -> None:
    tracked = set(wheel.git("ls-tree", "-r", "--name-only", "-z", "HEAD").decode().split("\0"))
    missing = [name for name in sorted(tracked - {""}) if not (unpacked / name).is_file()]
    assert set(missing) <= NOT_HANDED_OUT, "name what is missing in MANIFEST.in"


def test_the_wheel_of_the_source_archive_is_the_wheel_of_the_commit(
    built: tuple[Path, Path], unpacked: Path, tmp_path: Path
) -> None:
    again = wheel.build_from(unpacked, tmp_path, wheel.time_of("HEAD"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (built[0], again)]
    assert digests[0] == digests[1]


def test_an_index_takes_both(built: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
