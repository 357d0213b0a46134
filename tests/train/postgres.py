"""A real PostgreSQL on loopback: `with Postgres() as postgres`."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest

USER = "transom"


def programs() -> Path:
    """Return the folder of the server's programs; skip where there is none, fail in CI."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    # Debian keeps them out of the search path.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        return debian[-1].parent
    text = "PostgreSQL is not installed: apt-get install postgresql"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


class Postgres:
    """A server with a database of its own, in a folder that goes when it stops.

    It asks for a password, listens on loopback only, and never runs as root: PostgreSQL refuses
    that, so where a test does, somebody without rights runs it.

    Attributes:
        url: With user and password, for SQLAlchemy.
    """

    def __init__(self) -> None:
        self._programs = programs()
        self._user = _somebody_else() if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="transom-postgres-"))
        self._password = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"postgresql+pg8000://{USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        (self._folder / "password").write_text(self._password)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in (self._folder, self._folder / "password"):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb",
            *("--pgdata", str(self._data), "--username", USER, "--auth", "scram-sha-256"),
            *("--pwfile", str(self._folder / "password"), "--no-sync", "--encoding", "UTF8"),
        )
        options = f"-h 127.0.0.1 -p {self._port} -k '' -F"
        self._run("pg_ctl", "start", "--wait", "-D", str(self._data), "-o", options,
                  "-l", str(self._folder / "log"))  # fmt: skip
        return self

    def __exit__(self, *exception: object) -> None:
        self._run("pg_ctl", "stop", "--mode", "immediate", "-D", str(self._data))
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self._folder,
            user=self._user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}"


def _somebody_else() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
