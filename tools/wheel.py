"""Build the wheel so that the same commit gives the same bytes everywhere; `make wheel`.

What a build takes up from its surroundings is taken away: times of files (SOURCE_DATE_EPOCH is the
commit's), their modes (a git archive's, and the umask), and what lies in the folder uncommitted.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build(out: Path, commit: str = "HEAD") -> Path:
    """Build a commit's wheel with this interpreter's setuptools; return the file.

    Args:
        out: The folder that it is put into.
        commit: As git names it.
    """
    archive = git("-c", "tar.umask=0022", "archive", "--format=tar", commit)
    epoch = git("log", "-1", "--format=%ct", commit).decode().strip()
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")  # with the archive's modes, whatever the umask
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
                   "--no-build-isolation", "--wheel-dir", str(out.absolute()), "."]  # fmt: skip
        environment = os.environ | {"SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": "0"}
        subprocess.run(command, cwd=folder, check=True, env=environment, umask=0o022)
    (wheel,) = out.glob("transom-*.whl")
    return wheel


def git(*arguments: str) -> bytes:
    """Return what git says."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def main() -> None:
    """Build, and say the digest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--commit", default="HEAD")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    for old in given.out.glob("transom-*.whl"):
        old.unlink()
    wheel = build(given.out, given.commit)
    print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel}")


if __name__ == "__main__":
    main()
