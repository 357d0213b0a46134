"""A house made of software: names, a broker, cameras, a database and a device.

What runs in here is in namespaces of the kernel's (`enter`): the network is a loopback and nothing
else, so that broker.lan and cam.lan are this machine at their usual ports, and what is written to
/etc, /var/lib and /opt is its own and goes with it.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.docs.blocks import ROOT
from tests.edge_runtime.broker import make_certificates
from tests.edge_runtime.rtsp import RtspServer
from tests.train.postgres import programs
from tools.drawn_camera import DrawnCamera
from train.scenes import generate_clip
from train.scenes.clip import Move

HOST = "hall-pi"
"""What the device's owner has called it, as the tutorial has it."""
NAMES = ("broker.lan", "cam.lan", "db.lan", "db", HOST)
DATABASES = ("home", "searches")
CAMERA_ADDRESS = "192.168.20.7"
OWN = ("/etc", "/var/lib", "/opt")
"""Folders in which what is written stays in here."""
CLIP = (Move("door", 6.0, 1.5, "open"), Move("door", 18.0, 1.5, "closed"))
DEVICE = """device = "hall-pi"
[mqtt]
host = "broker.lan"
[models]
trusted_keys = "/etc/transom/trusted_keys"
recovery_keys = "/etc/transom/recovery_keys"
[updates]
allow_older = true
shadow_decisions = 1
shadow_s = 5
healthy_s = 3
[decision]
false_changes_per_day = 100
[samples]
pull = true
[page]
[[cameras]]
name = "hall"
source = "rtsp://cam.lan/stream2"
fps = 2
[[cameras.zones]]
name = "front_door"
polygon = {polygon}
"""
"""What the owner of a house may choose: bundles are kept after seconds instead of days."""


def enter(words: list[str]) -> None:
    """Begin again in namespaces of network, mounts, processes and the host's name; return in there.

    What was started in there ends with it, however it ends.

    Raises:
        SystemExit: This is not root.
    """
    if os.environ.pop("TRANSOM_HOUSE", None):
        socket.sethostname(HOST)
        return
    if os.geteuid() != 0:
        sys.exit("a house of its own needs root: sudo make blocks")
    apart = ["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = os.environ | {"TRANSOM_HOUSE": "entered"}
    os.execvpe("unshare", ["unshare", *apart, "--propagation", "private", *words], environment)


class House:
    """Everything that the pages take for granted, until the block ends.

    Args:
        folder: For its files.
        store: Where keys lie.

    Attributes:
        home: The user's home.
        environment: What programs find in it, beside this one's.
        zone: The door before the camera of cam.lan, as a configuration names it.
        camera: Another camera, whose door moves only when it is told to.
    """

    camera: DrawnCamera

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder = folder
        self._store = store
        self._stack = contextlib.ExitStack()
        self._device: subprocess.Popen[bytes] | None = None
        self.zone = ""
        self.home = folder / "home"
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._own_folders()
            self._own_network()
            self._programs()
            self._broker()
            self._cameras()
            self._database()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_device()
        self._stack.close()

    def fresh(self, folder: Path) -> None:
        """Have an empty folder, a home, and a device as it came, for a page.

        Args:
            folder: Where the page's commands are typed.
        """
        self.stop_device()
        for place in (folder, self.home):
            empty(place)
        for file in (self._store / "home").iterdir():
            if file.is_file():
                shutil.copy(file, self.home)
        etc = Path("/etc/transom")
        shutil.rmtree(etc, ignore_errors=True)
        for name, key in (("trusted_keys", "home.pub"), ("recovery_keys", "spare.pub")):
            (etc / name).mkdir(parents=True)
            shutil.copy(self._store / key, etc / name)
        (etc / "transom.toml").write_text(self._configuration())
        for database in (*DATABASES, "transom"):  # a page makes the last one itself
            self._postgres("dropdb", "--if-exists", "--force", database, quiet=True)
        for database in DATABASES:
            self._postgres("createdb", database)

    def is_as_it_came(self) -> bool:
        """Return whether the device's configuration is still that of a fresh page."""
        file = Path("/etc/transom/transom.toml")
        return file.exists() and file.read_text() == self._configuration()

    def _configuration(self) -> str:
        return DEVICE.format(polygon=self.zone)

    def start_device(self) -> None:
        """Have the device serve, and have seen the door move; nothing where it serves already.

        Raises:
            RuntimeError: It does not come up, or sees nothing.
        """
        if self._device is not None:
            return
        log = self._folder / "device.log"
        topic = "transom/hall-pi/front_door/event"
        hear = ["mosquitto_sub", "-h", "localhost", "-t", topic, "-C", "1", "-W", "180"]
        with subprocess.Popen(hear, stdout=subprocess.DEVNULL) as heard, log.open("ab") as file:
            self._device = subprocess.Popen(
                [sys.executable, "-m", "transom", "run"], stdout=file, stderr=file,
                env=os.environ | self.environment,
            )  # fmt: skip
            if heard.wait() != 0:
                raise RuntimeError(f"{log}: the device saw nothing happen")
        shutil.copy("/var/lib/transom/page-token", self._store / "page-token")

    def stop_device(self) -> None:
        """End the device, where it serves."""
        if self._device is not None:
            self._device.send_signal(signal.SIGTERM)
            self._device.wait(30.0)
            self._device = None

    # ---------------------------------------------------------------- what there is

    def _own_folders(self) -> None:
        for number, place in enumerate(OWN):
            upper, work = (self._folder / f"{kind}-{number}" for kind in ("upper", "work"))
            for one in (upper, work):
                shutil.rmtree(one, ignore_errors=True)
                one.mkdir(parents=True)
            options = f"lowerdir={place},upperdir={upper},workdir={work}"
            _do("mount", "-t", "overlay", "overlay", "-o", options, place)
        names = " ".join(("localhost", *NAMES))
        Path("/etc/hosts").write_text(f"127.0.0.1 {names}\n")
        Path("/opt/transom/current/bin").mkdir(parents=True, exist_ok=True)
        unit = Path("/etc/systemd/system/transom.service")
        shutil.copy(ROOT / "systemd" / "transom.service", unit)

    def _own_network(self) -> None:
        _do("ip", "link", "set", "lo", "up")
        _do("ip", "address", "add", f"{CAMERA_ADDRESS}/32", "dev", "lo")
        _do("ip", "route", "add", "239.0.0.0/8", "dev", "lo")

    def _programs(self) -> None:
        """Lay `transom` onto the path, and `sudo`, which has nothing to do: root types."""
        programs = self._folder / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        here = f'exec {sys.executable} -m transom "$@"\n'
        for name, text in (("transom", here), ("sudo", 'exec "$@"\n')):
            (programs / name).write_text(f"#!/bin/sh\n{text}")
            (programs / name).chmod(0o755)
        shutil.copy(programs / "transom", "/opt/transom/current/bin/transom")
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {
            "PATH": path,
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "BROWSER": "true",
            "PAGER": "cat",
            "SYSTEMD_PAGER": "cat",
            "PGHOST": "db.lan",
            "PGUSER": "postgres",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }

    def _broker(self) -> None:
        folder = self._folder / "broker"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = make_certificates(folder, "broker.lan")
        self.environment["SSL_CERT_FILE"] = str(made.authority)
        (folder / "mosquitto.conf").write_text(
            "user root\nallow_anonymous true\nset_tcp_nodelay true\nlistener 1883\nlistener 8883\n"
            f"certfile {made.server}\nkeyfile {made.server_key}\n"
        )
        self._keep("mosquitto", "-c", str(folder / "mosquitto.conf"), log=folder / "log")

    def _cameras(self) -> None:
        clip = self._folder / "clip.mp4"
        truth = generate_clip(clip, seed=3, seconds=24.0, fps=5, script=CLIP)
        points = ", ".join(f"[{x:.4f}, {y:.4f}]" for x, y in truth.zones["door"].points)
        self.zone = f"[{points}]"
        rtsp = RtspServer(clip, "127.0.0.1", 554, grain=6)
        self._stack.callback(rtsp.close)
        self.camera = self._stack.enter_context(DrawnCamera(self._folder, 8080))

    def _database(self) -> None:
        folder = self._folder / "postgres"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        for parent in (self._folder, *self._folder.parents):
            if parent.stat().st_mode & 0o001 == 0:
                raise RuntimeError(f"{parent}: must let others pass, for PostgreSQL")
        self._postgres("initdb", "--pgdata", str(folder / "data"), "--auth", "trust", "--no-sync",
                       "--encoding", "UTF8")  # fmt: skip
        options = f"-h 127.0.0.1 -k {folder} -F"
        self._postgres("pg_ctl", "start", "--wait", "-D", str(folder / "data"), "-o", options,
                       "-l", str(folder / "log"))  # fmt: skip
        stop = ("pg_ctl", "stop", "--mode", "immediate", "-D", str(folder / "data"))
        self._stack.callback(self._postgres, *stop)
        for role in ("transom", "tune"):
            self._postgres("createuser", "--superuser", role)

    def _postgres(self, program: str, *words: str, quiet: bool = False) -> None:
        command = [shutil.which(program) or str(programs() / program), *words]
        more = {"PGHOST": "127.0.0.1"} if program not in ("initdb", "pg_ctl") else {}
        subprocess.run(command, cwd="/", user="postgres", env=os.environ | more, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL if quiet else None)  # fmt: skip

    def _keep(self, *command: str, log: Path) -> None:
        """Let a program run until the house is gone."""
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)

        def end() -> None:
            process.terminate()
            process.wait(10.0)

        self._stack.callback(end)


def empty(folder: Path) -> None:
    """Have a folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _do(*command: str) -> None:
    subprocess.run(command, check=True)
