"""Build the Debian package of the device's half, and ask lintian what it has to say; `make deb`.

Usage: python -m tools.deb [--out dist] [--commit HEAD]

What is said once stays said once: the package's version is Transom's, its date the commit's, so
`debian/changelog` is written here and not kept. Lintian's word counts: an error or a warning that
no override explains ends with exit code 1.
"""

import argparse
import email.utils
import re
import subprocess
import sys
from pathlib import Path

from tools import wheel

_CHANGELOG = """transom ({version}) unstable; urgency=medium

  * What changed is in CHANGELOG.md.

 -- {maintainer}  {date}
"""


def build(folder: Path, out: Path, epoch: int) -> Path:
    """Build the package of a folder that holds the sources; return the file.

    Args:
        folder: The sources; a build leaves files behind in it, and results beside it.
        out: The folder that the package is put into.
        epoch: The date of the changelog, in seconds since 1970.
    """
    version = _found(r'^__version__ = "(.+)"$', folder / "transom" / "__init__.py")
    maintainer = _found(r"^Maintainer: (.+)$", folder / "debian" / "control")
    changelog = _CHANGELOG.format(
        version=version, maintainer=maintainer, date=email.utils.formatdate(epoch)
    )
    (folder / "debian" / "changelog").write_text(changelog, "utf-8")
    command = ["dpkg-buildpackage", "--build=binary", "--unsigned-changes", "--no-pre-clean"]
    subprocess.run(command, cwd=folder, check=True, umask=0o022)
    (package,) = folder.parent.glob("transom_*.deb")
    return package.replace(out / package.name)


def _found(pattern: str, path: Path) -> str:
    match = re.search(pattern, path.read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{path}: has no line {pattern}")
    return match[1]


def main() -> None:
    """Build, and let lintian look."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=wheel.ROOT / "dist")
    parser.add_argument("--commit", default="HEAD")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    for old in given.out.glob("transom_*.deb"):
        old.unlink()
    with wheel.sources(given.commit) as folder:
        package = build(folder, given.out, wheel.time_of(given.commit))
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")
    looked = subprocess.run(["lintian", "--fail-on", "error,warning", str(package)], check=False)
    sys.exit(looked.returncode)


if __name__ == "__main__":
    main()
