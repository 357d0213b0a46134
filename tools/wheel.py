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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build(out: Path, commit: str = "HEAD") -> Path:
    """Build a commit's wheel with this interpreter's setuptools; return the file.

    Args:
        out: The folder that it is put into.
        commit: As git names it.
    """
    with sources(commit) as folder:
        return build_from(folder, out, time_of(commit))


def build_from(folder: Path, out: Path, epoch: int) -> Path:
    """Build the wheel of a folder that holds the sources; return the file.

    Args:
        folder: The sources; a build leaves files behind in it.
        out: The folder that the wheel is put into.
        epoch: The time that all its files get, in seconds since 1970.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
               "--no-build-isolation", "--wheel-dir", str(out.absolute()), "."]  # fmt: skip
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    before = set(out.glob("transom-*.whl"))
    subprocess.run(command, cwd=folder, check=True, env=environment, umask=0o022)
    (wheel,) = set(out.glob("transom-*.whl")) - before
    return wheel


def build_archive(out: Path, commit: str = "HEAD") -> Path:
    """Build a commit's source archive; return the file. Its wheel has the commit's bytes."""
    program = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    with sources(commit) as folder:
        command = [sys.executable, "-c", program, str(out.absolute())]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, umask=0o022)
    (archive,) = out.glob("transom-*.tar.gz")
    return archive


@contextmanager
def sources(commit: str) -> Iterator[Path]:
    """Lay a commit's files into a folder for as long as this lasts."""
    archive = git("-c", "tar.umask=0022", "archive", "--format=tar", commit)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "transom"
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")  # with the archive's modes, whatever the umask
        yield folder


def time_of(commit: str) -> int:
    """Return when a commit was made, in seconds since 1970."""
    return int(git("log", "-1", "--format=%ct", commit))


def git(*arguments: str) -> bytes:
    """Return what git says."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def main() -> None:
    """Build, and say the digests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--archive", action="store_true", help="the source archive too")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    for old in (*given.out.glob("transom-*.whl"), *given.out.glob("transom-*.tar.gz")):
        old.unlink()
    built = [build(given.out, given.commit)]
    if given.archive:
        built.append(build_archive(given.out, given.commit))
    for file in built:
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}")


if __name__ == "__main__":
    main()
