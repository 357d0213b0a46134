"""Runs inside a booted Debian, as root: install, upgrade, go back, take away; what is left?

`tools/install_test.py` lays what it needs and listens. /src holds the project, /wheels what a
device needs and four versions of Transom, /packages two of them as Debian packages:

    current    this project
    next       the same, called a later version
    broken     a later one whose daemon ends before it is ready
    changed    a later one that writes its state in a format that nobody else knows

It uses nothing but Python's own library: what it looks at comes and goes.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

STATE = Path("/var/lib/private/transom")
ETC = Path("/etc/transom")
WHEELS = Path("/wheels")
LOOKED_AT = ("/etc", "/opt", "/usr", "/var/lib")
OF_OTHERS = ("/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/systemd/")
SYSTEMDS = {"/etc/.pwd.lock", "/var/lib/private"}
"""What dpkg and systemd keep of their own and do not take away again."""
QUERIES = {"outbox": "SELECT event_id FROM events", "samples": "SELECT id FROM samples"}
VERSIONS: dict[str, str] = json.loads(Path("/packages/versions.json").read_text())
_began = time.monotonic()


class InstallError(Exception):
    """Something is not as it must be."""


def main() -> None:
    """Try the script, then the package; say so, and power off."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Debian's own modules: that would be left
    try:
        before = listing()
        for trial in (try_script, try_package):
            trial()
            left = sorted(listing() ^ before)
            check(f"{trial.__name__}: nothing is left after a purge", left == [], left)
        say("all well")
    except (InstallError, subprocess.SubprocessError):
        traceback.print_exc()
        subprocess.run(["journalctl", "--unit", "transom", "--no-pager", "-o", "cat", "-n", "40"])
        say("FAILED")
    subprocess.run(["systemctl", "poweroff", "--no-block"], check=True)


def say(words: str) -> None:
    """Tell the console, with the seconds since the start."""
    print(f"install-test: {time.monotonic() - _began:6.1f} s  {words}", flush=True)


def check(words: str, holds: bool, seen: object = "") -> None:
    """Say that something holds.

    Raises:
        InstallError: It does not.
    """
    if not holds:
        raise InstallError(f"{words}: {seen}")
    say(f"ok  {words}")


# ---------------------------------------------------------------- the script


def try_script() -> None:
    """Install, upgrade, fail, go back and uninstall with install.sh."""
    say(install("--wheel", wheel("current")))
    check("a first installation leaves an example and starts nothing",
          not is_active() and "hall-pi" in (ETC / "transom.toml").read_text())  # fmt: skip
    configure()
    say(install("--wheel", wheel("current")))
    check("with a configuration the daemon is READY", is_active() and serves("current"))
    first_events()

    process = main_process()
    said = install("--wheel", wheel("current"))
    check("a second run changes nothing", "serves already" in said and main_process() == process)

    kept(lambda: install("--wheel", wheel("next")))
    check("an upgrade is READY", is_active() and serves("next"))

    said = kept(lambda: install("--wheel", wheel("broken"), expected=1))
    check("an upgrade that does not get ready leaves the version before serving",
          is_active() and serves("next") and "serves again" in said, said)  # fmt: skip

    kept(lambda: install("--wheel", wheel("current")))
    check("a downgrade is READY", is_active() and serves("current"))
    kept(lambda: install("--back"))
    check("--back is READY", is_active() and serves("next"))

    kept(lambda: install("--wheel", wheel("changed")))
    process = main_process()
    said = install("--wheel", wheel("current"), expected=1)
    check("a version that cannot read the state does not get the device",
          serves("changed") and main_process() == process and "a later Transom has written" in said,
          said)  # fmt: skip

    kept(lambda: install("--uninstall"))
    check("uninstalling stops the service", not is_active() and not Path("/opt/transom").exists())
    install("--uninstall", "--purge")


def install(*words: str, expected: int = 0) -> str:
    """Run install.sh without a network; return what it says.

    Raises:
        InstallError: It ends with another code than expected.
    """
    more = () if set(words) & {"--back", "--uninstall"} else ("--from", str(WHEELS))
    return run("sh", "/src/install.sh", *words, *more, expected=expected)


def wheel(version: str) -> str:
    """Return the wheel of a version."""
    return str(WHEELS / f"transom-{VERSIONS[version]}-py3-none-any.whl")


# ---------------------------------------------------------------- the package


def try_package() -> None:
    """Install, upgrade, downgrade, remove and purge with dpkg."""
    dpkg("--install", package("current"))
    check("a first installation is neither enabled nor started",
          not is_active() and not is_enabled())  # fmt: skip
    configure()
    run("systemctl", "enable", "--now", "transom")
    check("with a configuration the daemon is READY", is_active() and serves("current"))
    first_events()

    for version in ("next", "current"):
        process = main_process()
        kept(partial(dpkg, "--install", package(version)))
        check(f"dpkg brings the running daemon to {VERSIONS[version]}, READY, and asks nothing",
              is_active() and serves(version) and main_process() != process)  # fmt: skip

    (layout,) = Path("/usr/lib/transom").glob("lib/*/site-packages/edge_runtime/state_format.py")
    layout.write_text(layout.read_text().replace("FORMAT = 1\n", "FORMAT = 2\n"))
    run("systemctl", "restart", "transom")
    said = dpkg("--install", package("next"), expected=1)
    check("a version that cannot read the state is not unpacked, the one before goes on",
          serves("current") and is_active() and "in format 2; this one" in said, said)  # fmt: skip

    kept(lambda: dpkg("--remove", "transom"))
    check("removing stops the service", not is_active() and not Path("/usr/bin/transom").exists())
    dpkg("--purge", "transom")


def dpkg(*words: str, expected: int = 0) -> str:
    """Run dpkg; a question about a conffile would end it.

    Raises:
        InstallError: It ends with another code than expected.
    """
    return run("dpkg", *words, expected=expected)


def package(version: str) -> str:
    """Return the Debian package of a version."""
    (found,) = Path("/packages").glob(f"transom_{VERSIONS[version]}_*.deb")
    return str(found)


# ---------------------------------------------------------------- what a device has


def configure() -> None:
    """Give the device what its owner would: a configuration, a key, a bundle, a password."""
    for path in Path("/packages/etc").iterdir():
        shutil.copy(path, ETC)
    shutil.copy("/packages/cut.pub", ETC / "trusted_keys")
    (ETC / "mqtt-password").write_text("secret\n")
    models = Path("/var/lib/transom/models")
    models.mkdir(parents=True)
    shutil.copy("/packages/first.bundle", models)


def first_events() -> None:
    """Wait until the daemon has written events of its own.

    Raises:
        InstallError: It has not.
    """
    for _ in range(240):
        if len(rows("outbox")) >= 2 and rows("samples"):
            break
        time.sleep(0.5)
    found = {path.name for path in STATE.iterdir()}
    say(f"the state directory: {', '.join(sorted(found))}")
    check("events wait for the broker, which is away", len(rows("outbox")) >= 2)
    check("pictures, the bundle and the format are there",
          rows("samples") != [] and {"models", "format"} <= found, found)  # fmt: skip


def kept(act: Callable[[], str]) -> str:
    """Do something; look that configuration and state came through.

    Raises:
        InstallError: An event, a bundle, a picture, a credential or the configuration is gone.
    """
    before, files = {name: rows(name) for name in QUERIES}, digests()
    said = act()
    for name, kept_rows in before.items():
        missing = set(kept_rows) - set(rows(name))
        check(f"all {len(kept_rows)} rows of {name}.sqlite3 were kept",
              kept_rows != [] and not missing, missing)  # fmt: skip
    after = digests()
    changed = [name for name, digest in files.items() if after.get(name) != digest]
    check(f"all {len(files)} files of configuration and bundles were kept", not changed, changed)
    return said


def rows(name: str) -> list[str]:
    """Return the events or pictures of a store, from a copy: the daemon keeps the file locked."""
    for _ in range(50):
        with tempfile.TemporaryDirectory() as folder:
            for path in STATE.glob(f"{name}.sqlite3*"):
                shutil.copy(path, folder)
            try:
                with closing(sqlite3.connect(Path(folder) / f"{name}.sqlite3")) as database:
                    return [str(row[0]) for row in database.execute(QUERIES[name])]
            except sqlite3.Error:  # the daemon wrote while it was copied, or has not begun
                time.sleep(0.1)
    return []


def digests() -> dict[str, str]:
    """Return the digests of the files that a change of the version must not touch."""
    paths = [*ETC.rglob("*"), *(STATE / "models").glob("*.bundle")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths if path.is_file()}  # fmt: skip


def listing() -> set[str]:
    """Return all paths below which something may have been installed, systemd's own left out."""
    found = {str(path) for top in LOOKED_AT for path in Path(top).rglob("*")}
    return {path for path in found - SYSTEMDS if not path.startswith(OF_OTHERS)}


def is_active() -> bool:
    """Return whether the daemon has said READY and runs."""
    return run("systemctl", "is-active", "transom", expected=None).strip() == "active"


def is_enabled() -> bool:
    """Return whether the daemon starts with the machine."""
    return run("systemctl", "is-enabled", "transom", expected=None).strip() == "enabled"


def main_process() -> str:
    """Return the daemon's process."""
    return run("systemctl", "show", "-P", "MainPID", "transom").strip()


def serves(version: str) -> bool:
    """Return whether the command on the path is of a version."""
    return run("transom", "--version").split()[-1] == VERSIONS[version]


def run(*command: str, expected: int | None = 0) -> str:
    """Run a command; return what it says on both of its ways.

    Raises:
        InstallError: It ends with another code than expected.
    """
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=1200)  # fmt: skip
    if expected is not None and done.returncode != expected:
        raise InstallError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
    sys.exit()
