"""A real terminal that a command runs in: `with Terminal("watch", …) as terminal`."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_MOVES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
WITHIN_S = 60.0


def _take_terminal() -> None:
    """Be whom the terminal's Ctrl-C ends, also where the tests themselves must ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command, one of `transom` unless another program is named, in a terminal of its own.

    Attributes:
        shown: All that it has written, with every movement of the cursor.
    """

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (100, 30),
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "transom"),
        within_s: float = WITHIN_S,
    ) -> None:
        self.shown = ""
        self._within_s = within_s
        self._seen = 0
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._ours >= 0:
            os.close(self._ours)

    @property
    def text(self) -> str:
        """What it has written, without the movements of the cursor."""
        return _MOVES.sub("", self.shown).replace("\r", "")

    def wait_for(self, *texts: str) -> str:
        """Wait until it writes one of some texts, after what was waited for before.

        Returns:
            All from then until it.
        """
        until_s = time.monotonic() + self._within_s
        while not (found := self._first_of(texts)):
            assert time.monotonic() < until_s, f"{texts} did not come: {self.text!r}"
            if not self._read(0.2):
                assert self._first_of(texts), f"ended without {texts}: {self.text!r}"
        before, self._seen = self._seen, found
        return self.text[before : self._seen]

    def _first_of(self, texts: Sequence[str]) -> int:
        """Return where the first of some texts ends, behind what was waited for; 0 = none is."""
        now = self.text
        places = [(now.find(text, self._seen), text) for text in texts]
        return min((at + len(text) for at, text in places if at >= 0), default=0)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._ours, line.encode() + b"\n")

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C, and again where nothing comes of it, as people do.

        A signal that comes between Python's last look for one and its reading of a line is seen
        with the next key only.
        """
        before = len(self.shown)
        for _ in range(5):
            os.write(self._ours, b"\x03")
            until_s = time.monotonic() + 5.0
            while time.monotonic() < until_s:
                if not self._read(0.2) or self.shown[before:].replace("^C", "").strip():
                    return

    def ended(self) -> int:
        """Return its exit code, once it has ended."""
        until_s = time.monotonic() + self._within_s
        while self._read(0.2):
            assert time.monotonic() < until_s, f"does not end: {self.text!r}"
        return self._process.wait(WITHIN_S)

    def hang_up(self) -> None:
        """Go away, as a connection that breaks, and wait for its end."""
        os.close(self._ours)
        self._ours = -1
        self._process.wait(WITHIN_S)

    def _read(self, seconds: float) -> bool:
        """Take in what it has written; return whether there may be more."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
