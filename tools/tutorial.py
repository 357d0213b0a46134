"""Type the tutorial into a fresh Debian, line by line, and take its times; `make tutorial`.

Usage: python -m tools.tutorial [--work build/tutorial]

The `sh` blocks are those of docs/tutorial.md, read from it; what is put into the configuration are
its `toml` blocks. debootstrap makes a Debian 12 once (WORK/root); each run boots a fresh copy of it
under its own systemd (systemd-nspawn), with this computer's network: packages come from Debian's
archive and from the package index. In it `tools/tutorial_typist.py` types, as a user who has sudo,
in a terminal. The camera is one here whose drawn door is opened and shut when the typist says so.

Needs root, and that nothing else here listens at 1883 and 8380. Ends with the times as the table
of docs/experiments.md; all that was shown is in WORK/log; exits 1 where a step fails.
"""

import argparse
import json
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

from tests.docs.blocks import blocks
from tools import wheel
from tools.drawn_camera import DrawnCamera
from tools.install_test import boot, debian

PAGE = "docs/tutorial.md"
PACKAGES = "systemd,systemd-sysv,dbus,python3,sudo,ca-certificates"
"""What the least Debian has not and the page takes for granted, as Raspberry Pi OS has it."""
CERTIFICATES = Path("/etc/ssl/certs")
PORTS = (1883, 8380)
UNIT = """[Unit]
Description=Types the tutorial
Wants=dbus.service
After=basic.target dbus.service
[Service]
Type=oneshot
WorkingDirectory=/src
ExecStart=/usr/bin/python3 -u -B -m tools.tutorial_typist /typed/typed.json
StandardOutput=journal+console
StandardError=journal+console
"""


def main() -> None:
    """Boot, let it be typed, say the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=wheel.ROOT / "build" / "tutorial")
    work = parser.parse_args().work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    refuse_taken_ports()
    root = debian(work, PACKAGES)
    log = work / "log"
    with (
        wheel.sources("HEAD") as sources,
        tempfile.TemporaryDirectory() as folder,
        DrawnCamera(Path(folder)) as camera,
    ):
        typed = {"blocks": page_blocks(), "camera": camera.url}
        (Path(folder) / "typed.json").write_text(json.dumps(typed))
        binds = {"/src": sources, "/typed": Path(folder), "/etc/ssl/certs": CERTIFICATES}

        def hear(line: str) -> None:
            if "tutorial: the door opens" in line:
                camera.open_door()
            if "tutorial: the door is shut" in line:
                camera.shut_door()

        options = ("--resolv-conf=copy-host", "--hostname=hall-pi")
        boot(root, binds, log, UNIT, *options, hear=hear)
    said = log.read_text("utf-8", errors="replace")
    print(table(said))
    if "tutorial: all well" not in said:
        sys.exit(f"{log}: see what is not as it must be")


def refuse_taken_ports() -> None:
    """Refuse to begin where the broker or the page could not listen.

    The machine that is booted shares this computer's addresses.
    """
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                sys.exit(f"something listens at port {port} already; end it first")


def page_blocks() -> list[dict[str, str]]:
    """Return the blocks that are typed, in the page's order."""
    return [
        {"at": str(block), "language": block.language, "code": block.code}
        for block in blocks()
        if block.page == PAGE and block.language in ("sh", "toml")
    ]


def table(said: str) -> str:
    """Return the times that a log tells as a table of Markdown."""
    found = re.findall(r"tutorial: took +([\d.]+) s  (\S+)  (.+?)\s*$", said, re.M)
    rows = [f"| `{line}` ({at.removeprefix('docs/')}) | {seconds} |" for seconds, at, line in found]
    more = [f"- {line}" for line in re.findall(r"tutorial: found  (.+?)\s*$", said, re.M)]
    total = sum(float(seconds) for seconds, _, _ in found)
    load = os.getloadavg()[2]
    return "\n".join(
        ["| typed | seconds |", "|---|---:|", *rows, "", *more, "",
         f"{total:.0f} s of commands; load of this computer over 15 minutes: {load:.1f}"]
    )  # fmt: skip


if __name__ == "__main__":
    main()
