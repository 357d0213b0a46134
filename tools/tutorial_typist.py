"""Runs inside a booted Debian, as root: types the blocks of a page as a user with sudo does.

`tools/tutorial.py` hands over what is typed, listens, and opens and shuts the door of the camera.
It uses nothing but Python's own library, and what of the project needs no more.
"""

import json
import re
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.edge_runtime.terminal import Terminal

USER = "pi"
SOURCE = Path("/home") / USER / "transom"
"""What the page calls the folder of Transom's source."""
CONFIG = Path("/etc/transom/transom.toml")
TOML = Path("/run/tutorial-toml")
"""What the page puts into the configuration, for the editor."""
MOST_S = 900.0
ASKS_CAMERA = "camera: a number, or a source"
ASKS_ZONES = "zones: Enter, add, move, name, class, drop, again or ?: "
NOT_TYPED = {
    "ssh": "there is no second computer here; what it tunnels is fetched from the page directly",
}
MAY_END_WITH_1 = {"sudo transom doctor": ("clock",)}
"""What a container has not: nothing in it sets the clock."""


class TutorialError(Exception):
    """What is shown is not what the page says."""


def main() -> None:
    """Type everything, say so, and power off."""
    if sys.argv[1] == "--edit":
        edit(Path(sys.argv[2]))
        return
    typed = json.loads(Path(sys.argv[1]).read_text())
    try:
        make_user()
        type_all(typed["blocks"], typed["camera"])
        say("all well")
    except (TutorialError, AssertionError, subprocess.SubprocessError, OSError):
        traceback.print_exc()
        subprocess.run(["journalctl", "--unit", "transom", "--no-pager", "-o", "cat", "-n", "40"])
        say("FAILED")
    subprocess.run(["systemctl", "poweroff", "--no-block"], check=True)


def say(words: str) -> None:
    """Tell the console."""
    print(f"tutorial: {words}", flush=True)


def as_user() -> dict[str, str]:
    """Return what the user's programs find in their environment."""
    editor = "/usr/bin/python3 -m tools.tutorial_typist --edit"
    return {"HOME": f"/home/{USER}", "LANG": "C.UTF-8", "SUDO_EDITOR": editor, "SYSTEMD_PAGER": ""}


def make_user() -> None:
    """Have the user that Raspberry Pi OS has: with sudo, which asks for no password."""
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], check=True)
    Path("/etc/sudoers.d/pi").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    SOURCE.symlink_to("/src")
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n")  # as installers do


def type_all(blocks: list[dict[str, str]], camera: str) -> None:
    """Type the lines of all blocks, each into a terminal of its own, and say how long each took.

    Raises:
        TutorialError: One does not end as it must.
    """
    TOML.write_text(json.dumps([block["code"] for block in blocks if block["language"] == "toml"]))
    for block in blocks:
        for line in block["code"].splitlines() if block["language"] == "sh" else ():
            why = NOT_TYPED.get(line.split()[0])
            if why:
                say(f"found  `{line}` was not typed: {why}")
            else:
                type_line(line, block["at"], camera)


def type_line(line: str, at: str, camera: str) -> None:
    """Type a line, answer what it asks, and look how it ends.

    Raises:
        TutorialError: It does not end as it must.
    """
    say(f"types  {line}")
    began_s = time.monotonic()
    user = ("runuser", "-u", USER, "--", "bash", "-c")
    with Terminal(line, program=user, size=(100, 50), cwd=SOURCE, environment=as_user(),
                  within_s=MOST_S) as terminal:  # fmt: skip
        for start, answer in ANSWERS.items():
            if line.startswith(start):
                answer(terminal, camera)
        code = terminal.ended()
        took_s = time.monotonic() - began_s
        shown = terminal.text
    print(shown, flush=True)
    look_at_end(line, code, shown)
    say(f"took {took_s:6.1f} s  {at}  {line}")


def look_at_end(line: str, code: int, shown: str) -> None:
    """Look whether a line ended as it must.

    Raises:
        TutorialError: It did not.
    """
    start = next((start for start in MAY_END_WITH_1 if line.startswith(start)), None)
    if start is not None and code == 1:
        failed = re.findall(r"^FAIL +(.+?):", shown, re.M)
        if set(failed) <= set(MAY_END_WITH_1[start]):
            say(f"found  `{line}` ended with 1 for the {', '.join(failed)} only")
            return
    if code not in ((0, 130) if line.startswith("transom watch") else (0,)):
        raise TutorialError(f"{line} ended with {code}")
    if "systemctl status" in line and "active (running)" not in shown:
        raise TutorialError("the status does not say active (running)")


# ---------------------------------------------------------------- what is answered


def answer_questions(terminal: Terminal, camera: str) -> None:
    """Answer as the page says: the camera, the door's name, the broker here, the page, yes.

    Raises:
        TutorialError: No zone of a door is proposed.
    """
    choice = "add cameras to it, replace it, or leave it"
    if terminal.wait_for(choice, ASKS_CAMERA).endswith(choice):
        terminal.type("replace")
        terminal.wait_for(ASKS_CAMERA)
    terminal.type(camera)
    terminal.wait_for("user at the camera")
    terminal.type("")
    terminal.wait_for("a name for it")
    terminal.type("hall")
    proposed = terminal.wait_for(ASKS_ZONES)
    doors = re.findall(r"^ +(\d+)  \S+ +door ", proposed, re.M)
    if not doors:
        raise TutorialError("setup proposes no door")
    terminal.type(f"name {doors[0]} front_door")
    terminal.wait_for(ASKS_ZONES)
    terminal.type("")
    terminal.wait_for("another camera")
    terminal.type("n")
    for question, answer in (("this device's name", "hall-pi"), ("broker's name", "localhost"),
                             ("its port", ""), ("user at the broker", ""), ("serve the page", "y"),
                             ("write /etc/transom/transom.toml", "y")):  # fmt: skip
        terminal.wait_for(question)
        terminal.type(answer)


def open_the_page(terminal: Terminal, _: str) -> None:
    """Fetch what the link leads to.

    Raises:
        TutorialError: It is not the page.
    """
    terminal.wait_for("http://")
    terminal.wait_for("\n")
    (link,) = re.findall(r"http://\S+", terminal.text)
    with urllib.request.urlopen(link.partition("#")[0], timeout=30) as answer:
        if answer.status != 200 or b"<title>" not in answer.read():
            raise TutorialError(f"{link} does not lead to the page")
    say("found  the link of `transom page` leads to the page")


def watch_the_door(terminal: Terminal, _: str) -> None:
    """Open the door, wait for both alerts, shut it.

    Raises:
        TutorialError: An alert does not come.
    """
    terminal.wait_for("front_door")
    terminal.wait_for("closed")
    began_s, said = time.monotonic(), []
    for act, alert in (("opens", "opened ("), ("", "left open for"), ("is shut", "closed (")):
        if act:
            say(f"the door {act}")
            began_s = time.monotonic()
        terminal.wait_for(f"front_door {alert}")
        said.append(f"`{alert.strip(' (')}` after {time.monotonic() - began_s:.1f} s")
    say(f"found  `transom watch` said {', '.join(said)}, since the door began to move")
    terminal.press_ctrl_c()


ANSWERS: dict[str, Callable[[Terminal, str], None]] = {
    "sudo sh install.sh": answer_questions,
    "sudo transom setup": answer_questions,
    "sudo transom page": open_the_page,
    "transom watch": watch_the_door,
}


def edit(path: Path) -> None:
    """Put the page's lines where the page says: below the door's name, and at the end."""
    of_zone, at_end = json.loads(TOML.read_text())
    text = path.read_text()
    name = 'name = "front_door"\n'
    if text.count(name) != 1:
        sys.exit(f"{path}: {name.strip()} stands there {text.count(name)} times, must once")
    path.write_text(text.replace(name, name + of_zone) + "\n" + at_end)


if __name__ == "__main__":
    main()
