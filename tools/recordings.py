"""Record what commands show in a terminal, as docs/recordings.md; `make recordings`.

Usage: python -m tools.recordings [--work build/blocks]

Each command is typed into a terminal of 100 columns and answered as a person does, in the house of
`tools/run_blocks`: a broker, a camera whose drawn door is opened and shut, three devices. What is
kept is what stands on the screen, tables written in place at the moments that are named.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.edge_runtime.terminal import Terminal
from tools.run_blocks.house import House, enter
from tools.run_blocks.store import Store
from tools.screen import Screen
from tools.tutorial_typist import ASKS_ZONES, answer_questions
from transom import __version__

PAGE = ROOT / "docs" / "recordings.md"
COLUMNS, LINES = 100, 40
CONFIG = Path("/etc/transom/transom.toml")
OF_THE_TUTORIAL = ('name = "front_door"\n', 'name = "front_door"\nleft_open_after_s = 60\n')
OF_THE_DEVICE = (
    ("Check a configuration", "What it says, in words.", f"transom check {CONFIG}"),
    (
        "Find out what is wrong with a device",
        "Here nothing but the clock: the house has no network that could set it.",
        f"transom doctor --config {CONFIG}",
        (0, 1),
    ),
)
OF_A_NETWORK = (
    (
        "Judge a network",
        "The starter, on a small data set that was drawn.",
        "transom evaluate starter data/hall",
    ),
    (
        "Measure a network",
        "For about a second, on two x86-64 cores that had other work too.",
        "transom bench starter --seconds 1",
    ),
)
SILENT: dict[str, int] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
TRIED = "While the new bundle is tried beside the old one:"
OTHER = """device = "{name}"
state_directory = "{state}"
[mqtt]
host = "broker.lan"
[models]
store = "{state}/models"
[updates]
allow_older = true
shadow_decisions = 16
shadow_s = 60
healthy_s = 3
[[cameras]]
name = "yard"
source = "rtsp://cam.lan/stream2"
fps = 2
[[cameras.zones]]
name = "{zone}"
polygon = {polygon}
"""


@dataclass(frozen=True)
class Recording:
    """What a command showed.

    Attributes:
        title: Of its section.
        what: In a sentence, what is seen.
        command: As it was typed.
        screens: What stood on the screen, each at a moment that is told before it.
    """

    title: str
    what: str
    command: str
    screens: tuple[tuple[str, str], ...]

    def markdown(self) -> str:
        """Return its section."""
        parts = [f"## {self.title}\n\n{self.what}\n"]
        for number, (moment, text) in enumerate(self.screens):
            typed = f"$ {self.command}\n" if number == 0 else ""
            parts.append(f"{moment}\n" if moment else "")
            parts.append(f"```text\n{typed}{text}\n```\n")
        return "\n".join(part for part in parts if part)


def main() -> None:
    """Record, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "blocks")
    work = parser.parse_args().work.absolute()
    enter([sys.executable, "-m", "tools.recordings", *sys.argv[1:]])
    store = Store(work / "store", ROOT)
    store.make()
    with House(work, store.folder) as house:
        house.fresh(work / "page")
        recordings = Recorder(house, store, work / "page").all()
    PAGE.write_text(page(recordings), "utf-8")
    print(PAGE)


def page(recordings: list[Recording]) -> str:
    """Return the page."""
    when = time.strftime("%Y-%m-%d")
    head = f"""# What commands show in a terminal

Written by `make recordings` on {when} with Transom {__version__}: each command was
typed into a terminal of {COLUMNS} columns, in a house made of software with a broker, three
devices and a camera whose drawn door was opened and shut. What was typed stands behind the colons.
A table that is written again in place is shown as it stood at the moment that is named.

"""
    return head + "\n".join(recording.markdown() for recording in recordings)


class Recorder:
    """Types the commands.

    Args:
        house: Where everything is.
        store: With a bundle, a key and a data set.
        folder: Where commands are typed.
    """

    def __init__(self, house: House, store: Store, folder: Path) -> None:
        self._house = house
        self._store = store
        self._folder = folder
        self._camera = house.camera

    def all(self) -> list[Recording]:
        """Return all recordings, in the page's order."""
        CONFIG.unlink()
        made = [self.setup()]
        CONFIG.write_text(CONFIG.read_text().replace(*OF_THE_TUTORIAL))
        made += [self.simple(*one) for one in OF_THE_DEVICE]
        with contextlib.ExitStack() as devices:
            devices.enter_context(self.device("hall-pi", CONFIG))
            made.append(self.watch())
            made.append(self.fleet(devices))
        made += [self.simple(*one) for one in OF_A_NETWORK]
        return made

    def setup(self) -> Recording:
        """Set a device up by questions."""
        command = "transom setup"
        with self.terminal(command) as terminal:
            answer_questions(terminal, self._camera.url)
            terminal.ended()
            shown = terminal.shown
        text = without_help(screen(shown))
        what = (
            "A camera by its address, the door named, the broker on this machine, the page served."
        )
        return Recording("Set a device up", what, command, (("", text),))

    def simple(
        self, title: str, what: str, command: str, codes: tuple[int, ...] = (0,)
    ) -> Recording:
        """Record a command that asks nothing and ends.

        Raises:
            RuntimeError: It ends otherwise than it must.
        """
        self._store.lay(command, self._folder, self._house.home)
        with self.terminal(command) as terminal:
            code = terminal.ended()
            if code not in codes:
                raise RuntimeError(f"{command} ended with {code}: {terminal.text}")
            return Recording(title, what, command, (("", screen(terminal.shown)),))

    def watch(self) -> Recording:
        """Watch a door open, be left open, and shut."""
        command = f"transom watch --config {CONFIG}"
        screens = []
        with self.terminal(command) as terminal:
            terminal.wait_for("front_door")
            terminal.wait_for("closed")
            screens.append(("", screen(terminal.shown)))
            moments = (
                ("Some seconds after the door began to open:", self._camera.open_door, "opened ("),
                ("A minute later:", lambda: None, "left open for"),
                ("And when it was shut:", self._camera.shut_door, "closed ("),
            )
            for moment, act, alert in moments:
                act()
                terminal.wait_for(f"front_door {alert}")
                terminal.settle()
                screens.append((moment, screen(terminal.shown)))
            terminal.press_ctrl_c()
            terminal.ended()
        what = "Every zone as it is now, and below it the newest alerts, written again in place."
        return Recording("Watch the doors", what, command, tuple(screens))

    def fleet(self, devices: contextlib.ExitStack) -> Recording:
        """Show three devices while one of them takes a bundle."""
        for name, zone in (("attic-pi", "skylight"), ("garage-pi", "garage_door")):
            state = self._folder / name
            config = self._folder / f"{name}.toml"
            polygon = self._house.zone
            config.write_text(OTHER.format(name=name, zone=zone, state=state, polygon=polygon))
            running = self.device(name, config)
            if name == "attic-pi":
                with running:
                    pass
            else:
                devices.enter_context(running)
        command = "transom fleet --host broker.lan --username me --password-file ~/.mqtt"
        deploy = ["transom", "deploy", "home.bundle", "garage-pi", "--host", "broker.lan"]
        self._store.lay("home.bundle", self._folder, self._house.home)
        with self.terminal(command) as terminal:
            terminal.wait_for("garage-pi")
            terminal.settle()
            screens = [("", screen(terminal.shown))]
            environment = self._environment()
            with subprocess.Popen(deploy, cwd=self._folder, env=environment, **SILENT) as running:
                terminal.wait_for(" % ")
                terminal.settle()
                screens.append((TRIED, screen(terminal.shown)))
                if running.wait() != 0:
                    raise RuntimeError("the bundle was not taken")
            terminal.settle()
            screens.append(("And when it is kept:", screen(terminal.shown)))
            terminal.press_ctrl_c()
            terminal.ended()
        what = "One of three devices is switched off; another is brought a bundle from elsewhere."
        return Recording("Look at a fleet", what, command, tuple(screens))

    @contextlib.contextmanager
    def device(self, name: str, config: Path) -> Iterator[None]:
        """Run a device until the block ends; it has told the state of a zone when it begins.

        Raises:
            RuntimeError: It does not.
        """
        topic = f"transom/{name}/+/state"
        hear = ["mosquitto_sub", "-h", "localhost", "-t", topic, "-C", "1", "-W", "60"]
        log = self._folder.parent / f"{name}.log"
        with log.open("ab") as file:
            command = [sys.executable, "-m", "transom", "run", "--config", str(config)]
            environment = self._environment()
            running = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            if subprocess.run(hear, stdout=subprocess.DEVNULL, check=False).returncode != 0:
                raise RuntimeError(f"{log}: the device told nothing")
            yield
        finally:
            running.terminate()
            running.wait(30.0)

    def terminal(self, command: str) -> "Recorded":
        """Type a command."""
        return Recorded(
            command, program=("bash", "-c"), size=(COLUMNS, LINES), cwd=self._folder,
            environment=self._environment(), within_s=240.0,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return os.environ | self._house.environment


class Recorded(Terminal):
    """A terminal whose screen can be looked at when nothing is written any more."""

    def settle(self, seconds: float = 1.0) -> None:
        """Take in what is written, until nothing was for so long."""
        size, until_s = -1, 0.0
        while time.monotonic() < until_s or size != len(self.shown):
            if size != len(self.shown):
                size, until_s = len(self.shown), time.monotonic() + seconds
            if not self._read(0.1):
                return


def screen(shown: str) -> str:
    """Return what stands on the screen after all that was shown."""
    on = Screen(COLUMNS)
    on.write(shown)
    return on.text()


def without_help(text: str) -> str:
    """Leave out the explanations between the picture and the first question about zones."""
    begin = text.index("  Enter   ")
    return text[:begin] + "…\n" + text[text.index(ASKS_ZONES.rstrip(), begin) :]


if __name__ == "__main__":
    main()
