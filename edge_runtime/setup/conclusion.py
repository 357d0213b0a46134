"""The end of a setup: its files, written where that is agreed to, and what is left to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.commands import describe
from edge_runtime.config_option import how_to_start
from edge_runtime.finding import Check
from edge_runtime.redaction import shown_source
from edge_runtime.setup.draft import Draft, DraftCamera
from edge_runtime.setup.files import changed_secrets, write_all
from edge_runtime.setup.talk import Talk
from edge_runtime.setup.unit import (
    credential_line,
    drop_in_beside,
    is_writable,
    with_credentials,
)
from edge_runtime.setup.wishes import Wishes
from transom.errors import TransomError


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    draft: Draft
    config_file: Path
    is_written: bool
    checks: list[Check]
    pictures: dict[str, str]
    drop_in: Path | None

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts; no secret is in it."""
        return {
            "config": str(self.config_file),
            "written": self.is_written,
            "device": self.draft.device,
            "cameras": [self._camera(camera) for camera in self.draft.cameras],
            "broker": self.checks,
            "credentials": sorted(self.draft.secrets()),
            "drop_in": None if self.drop_in is None else str(self.drop_in),
        }

    def _camera(self, camera: DraftCamera) -> dict[str, Any]:
        size = None if camera.image is None else [camera.image.shape[1], camera.image.shape[0]]
        zones = [zone.as_table() | {"sureness": zone.sureness} for zone in camera.zones]
        return {
            "name": camera.name,
            "source": shown_source(camera.source),
            "size": size,
            "zones": zones,
            "picture": self.pictures.get(camera.name),
        }


class Conclusion:
    """Shows a configuration and writes it.

    Args:
        talk: Asks.
        wishes: What needs no question.
        draft: All that was found out.
    """

    def __init__(self, talk: Talk, wishes: Wishes, draft: Draft) -> None:
        self._talk = talk
        self._wishes = wishes
        self._draft = draft
        self._path = wishes.config_file
        self._drop_in: Path | None = None

    def run(self, checks: list[Check], pictures: Mapping[str, str], *, tried: bool) -> Outcome:
        """Write the configuration, where it is agreed to.

        Args:
            checks: What was found of the broker.
            pictures: Where the picture of each camera is kept, by its name.
            tried: Whether the broker does its part, or need not.

        Raises:
            TransomError: It would be no configuration, or a password is there that is another.
            OSError: A file cannot be written; the configuration is then as it was.
        """
        draft = self._draft
        is_written = tried and self._may_write()
        if is_written:
            self._write()
            self._tell_next()
        elif not tried:
            self._talk.say("nothing was written: mend what failed, or give --unchecked")
        else:
            self._talk.say("nothing was written")
        drop_in = self._drop_in if is_written else None
        return Outcome(draft, self._path, is_written, checks, dict(pictures), drop_in)

    def _write(self) -> None:
        draft, drop_in = self._draft, self._drop_in
        more = {drop_in: with_credentials(drop_in, draft.camera_secrets())} if drop_in else {}
        write_all(self._path, draft.text(), draft.secrets(), more)

    def _may_write(self) -> bool:
        config, secrets = self._draft.config(), self._draft.secrets()
        if self._talk.is_asking:
            self._talk.say("\n".join(describe(config)))
        changed = changed_secrets(self._path.absolute().parent, secrets)
        if changed and not self._wishes.overwrite:
            named = ", ".join(map(str, changed))
            if not self._talk.is_asking:
                raise TransomError(f"{named}: holds another password; --overwrite it")
            if not self._talk.agree(f"{named} holds another password; replace it", proposal=False):
                return False
        self._drop_in = self._wanted_drop_in()
        return self._talk.agree(f"write {self._path}", proposal=True)

    def _wanted_drop_in(self) -> Path | None:
        """Return the unit's drop-in, where it is to load passwords of cameras."""
        drop_in = drop_in_beside(self._path)
        if drop_in is None or not self._draft.camera_secrets() or self._wishes.unit is False:
            return None
        if self._wishes.unit is None:
            if not self._talk.is_asking or not is_writable(drop_in):
                return None
            question = f"let the unit load the cameras' passwords ({drop_in})"
            if not self._talk.agree(question, proposal=True, option="--unit"):
                return None
        return drop_in

    def _tell_next(self) -> None:
        say, draft, folder = self._talk.say, self._draft, self._path.absolute().parent
        say(f"written: {self._path}")
        for name in sorted(draft.secrets()):
            say(f"written: {folder / name}, for its owner alone")
        start = how_to_start(self._path)
        if self._drop_in is not None:
            say(f"written: {self._drop_in}, by which the unit loads the cameras' passwords")
            start = f"systemctl daemon-reload && {start}"
        elif credentials := draft.camera_secrets():
            say("the unit needs, by --unit or systemctl edit transom:\n  [Service]")
            for name in credentials:
                say(f"  {credential_line(name, folder)}")
        say(f"next: transom doctor --config {self._path}; then {start}")
        if "page" in draft.more:
            say(f"zones in a browser, once it runs: transom page --config {self._path}")
