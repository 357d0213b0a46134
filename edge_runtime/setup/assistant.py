"""A setup from its first question to the files: the page to read first."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.clock import Clock
from edge_runtime.config_option import DEFAULT_CONFIG
from edge_runtime.finding import Check
from edge_runtime.redaction import shown_source
from edge_runtime.setup.broker import BrokerWishes, ask_broker, examine_broker
from edge_runtime.setup.cameras import (
    Candidate,
    find_cameras,
    is_at_this_machine,
    open_camera,
    proposed_name,
    read_camera_name,
)
from edge_runtime.setup.conclusion import Conclusion, Outcome
from edge_runtime.setup.draft import (
    Draft,
    DraftCamera,
    DraftZone,
    as_name,
    free_name,
)
from edge_runtime.setup.drawing import as_jpeg, draw_zones
from edge_runtime.setup.files import check_folder, read_text
from edge_runtime.setup.growing import check_can_grow
from edge_runtime.setup.propose import Proposer
from edge_runtime.setup.talk import Talk
from edge_runtime.setup.unit import check_drop_in
from edge_runtime.setup.wishes import Wishes
from edge_runtime.setup.zones import adjust, as_option, named_apart, shown
from transom.config import Config, DeviceName, load_config
from transom.errors import CameraError, ConfigurationError, TransomError

_STATE = Path("/var/lib/transom")


class Assistant:
    """Leads through a setup.

    Args:
        talk: Asks, or takes what is proposed.
        wishes: What needs no question.
    """

    def __init__(self, talk: Talk, wishes: Wishes) -> None:
        self._talk = talk
        self._wishes = wishes
        self._path = wishes.config_file
        self._proposer = Proposer()
        self._loose_for: str | None = None
        """The camera whose are the zones that name none: the first."""
        self._pictures: dict[str, str] = {}

    def run(self) -> Outcome:
        """Lead through all of it.

        Raises:
            TransomError: It cannot be done; nothing was written.
            click.Abort: A person ended it; nothing was written.
        """
        check_folder(self._path)
        if self._wishes.unit:
            check_drop_in(self._path)
        before = self._configuration_before()
        with self._picture_folder() as folder:
            cameras = self._cameras(before, folder)
            if before is not None:
                draft = Draft(before.device, before.mqtt, cameras, before=read_text(self._path))
                conclusion = Conclusion(self._talk, self._wishes, draft)
                return conclusion.run([], self._pictures, tried=True)
            device = self._talk.ask(
                "this device's name in topics", "--device", _read_device, _proposed_device(),
                self._wishes.device,
            )  # fmt: skip
            return self._settle_broker(device, cameras)

    # ---------------------------------------------------------------- what is there already

    def _configuration_before(self) -> Config | None:
        """Return the configuration that cameras are added to; None = a new one is made."""
        if not self._path.exists():
            if self._wishes.is_added:
                raise ConfigurationError(
                    f"{self._path}: is not there, so nothing can be added to it"
                )
            return None
        if self._wishes.is_added:
            return self._growing()
        if self._wishes.overwrite:
            return None
        if not self._talk.is_asking:
            raise TransomError(
                f"{self._path}: exists already; --add cameras to it, or --overwrite it"
            )
        self._talk.say(f"{self._path} exists already.")
        choice = self._talk.choose(
            "add cameras to it, replace it, or leave it", ("add", "replace", "leave"), "leave"
        )
        if choice == "leave":
            raise TransomError(f"{self._path}: left as it is")
        self._talk.note("--add" if choice == "add" else "--overwrite")
        self._wishes = replace(self._wishes, overwrite=choice == "replace")
        return self._growing() if choice == "add" else None

    def _growing(self) -> Config:
        if self._wishes.only_new:
            raise click.UsageError(
                f"{', '.join(self._wishes.only_new)}: goes into a new configuration only; where "
                f"cameras are added the rest of {self._path} stays as it is, so change it there"
            )
        config = load_config(self._path)
        check_can_grow(read_text(self._path), self._path)
        return config

    # ---------------------------------------------------------------- cameras

    def _cameras(self, before: Config | None, folder: Path) -> list[DraftCamera]:
        there = () if before is None else before.cameras
        names = {camera.name for camera in there}
        taken = {zone.name for camera in there for zone in camera.zones}
        cameras: list[DraftCamera] = []
        sources = list(self._wishes.sources)
        while True:
            said = sources.pop(0) if sources else None
            camera = self._camera(said, names, taken, folder)
            cameras.append(camera)
            names.add(camera.name)
            taken |= {zone.name for zone in camera.zones}
            if sources:
                continue
            if self._wishes.sources or not self._talk.agree("another camera", proposal=False):
                self._refuse_strays(cameras)
                return cameras

    def _camera(
        self, said: str | None, names: set[str], taken: set[str], folder: Path
    ) -> DraftCamera:
        """Return a camera that has shown its picture, with its zones."""
        candidates = self._offer() if said is None else []
        again: DraftCamera | None = None
        while True:
            camera = again or self._named(*self._source(said, candidates, names), names)
            self._talk.say(f"opening {shown_source(camera.source)} …")
            try:
                camera = open_camera(camera)
            except (CameraError, ConfigurationError) as error:
                if not self._talk.is_asking:
                    raise
                self._talk.say(f"  {error}")
                said, again = None, None
                continue
            shape = camera.image.shape if camera.image is not None else (0, 0)
            self._talk.say(f"{camera.name}: {shown_source(camera.source)}, {shape[1]} x {shape[0]}")
            zoned = self._zones(camera, taken, folder)
            if zoned is not None:
                self._note(zoned)
                return zoned
            again = camera

    def _offer(self) -> list[Candidate]:
        self._talk.say("looking for cameras …")
        found = find_cameras(ask=self._wishes.places)
        for number, camera in enumerate(found, 1):
            note = f"; {camera.note}" if camera.note else ""
            self._talk.say(f"  {number}  {camera.source:40}  {camera.what}{note}")
        if not found:
            self._talk.say("none was found; name one by its address, like rtsp://cam.lan/stream2")
        return found

    def _source(
        self, said: str | None, candidates: list[Candidate], names: set[str]
    ) -> tuple[str | None, str, str]:
        """Return a name, if one was given, the source, and what the camera calls itself."""

        def read(text: str) -> tuple[str | None, str, str]:
            if text.isdecimal() and 1 <= int(text) <= len(candidates):
                chosen = candidates[int(text) - 1]
                return None, chosen.source, chosen.what
            head, is_named, rest = text.partition("=")
            if is_named and ":" not in head:
                return read_camera_name(head, names), rest, ""
            if ":" not in text:
                raise ValueError(
                    "must be a number of the list, or like usb:0, rtsp://cam.lan/stream2, "
                    "http://cam.lan/video, onvif://cam.lan or file:clip.mp4"
                )
            return None, text, ""

        usable = [one for one in candidates if not one.note]
        proposal = (
            usable[0].source if len(usable) == 1 or (usable and not self._talk.is_asking) else None
        )
        if len(usable) > 1 and not self._talk.is_asking:
            others = ", ".join(one.source for one in usable[1:])
            self._talk.say(f"taking {proposal}, the first; --source takes others: {others}")
        return self._talk.ask(
            "camera: a number, or a source", "--source", read, proposal, said, is_noted=False
        )

    def _named(self, name: str | None, source: str, what: str, names: set[str]) -> DraftCamera:
        username, secret = self._wishes.camera_username, self._wishes.camera_secret
        if is_at_this_machine(source):
            username = secret = None
        elif username is None and self._talk.is_asking:
            username = self._talk.line("user at the camera (empty = none)") or None
            secret = (
                self._talk.secret("password (not shown; empty = none)") or None
                if username
                else None
            )
        if name is None:
            proposal = free_name(proposed_name(source, what), names)
            name = self._talk.ask(
                "a name for it", "--source NAME=…", lambda text: read_camera_name(text, names),
                proposal, is_noted=False,
            )  # fmt: skip
        return DraftCamera(name, source, username, secret)

    def _note(self, camera: DraftCamera) -> None:
        self._talk.note("--source", f"{camera.name}={camera.source}")
        if camera.username:
            self._talk.note("--camera-username", camera.username)
        for zone in camera.zones:
            self._talk.note("--zone", as_option(camera.name, zone))

    # ---------------------------------------------------------------- zones

    def _zones(self, camera: DraftCamera, taken: set[str], folder: Path) -> DraftCamera | None:
        """Return the camera with its zones; None = it is to be looked at again."""
        given = [zone for name, zone in self._wishes.zones if name == camera.name]
        if self._loose_for in (None, camera.name):
            self._loose_for = camera.name
            given += [zone for name, zone in self._wishes.zones if name is None]
        if given:
            zoned = replace(camera, zones=tuple(given))
            self._draw(zoned, zoned.zones, folder)
            return zoned
        proposed = named_apart(self._propose(camera), taken)
        picture = self._draw(camera, proposed, folder)
        for line in shown(proposed) or ["  no door or window was recognised"]:
            self._talk.say(line)
        if not self._talk.is_asking:
            if not proposed:
                raise TransomError(
                    f"{camera.name}: no door or window was recognised; name one with --zone"
                )
            return replace(camera, zones=tuple(proposed))
        self._talk.say(f"drawn into {picture}; they can be moved later in the page, too")
        zones = adjust(self._talk, proposed, taken, lambda now: self._redraw(camera, now, folder))
        return None if zones is None else replace(camera, zones=tuple(zones))

    def _propose(self, camera: DraftCamera) -> list[DraftZone]:
        if camera.image is None:
            return []
        self._talk.say("looking for doors and windows …")
        return self._proposer.propose(camera.image)

    def _redraw(self, camera: DraftCamera, zones: Sequence[DraftZone], folder: Path) -> None:
        self._draw(camera, zones, folder)

    def _draw(self, camera: DraftCamera, zones: Sequence[DraftZone], folder: Path) -> Path | None:
        if camera.image is None:
            return None
        path = folder / f"{camera.name}.jpg"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(as_jpeg(draw_zones(camera.image, zones)))
            _give_to_caller(file.fileno())
        if self._wishes.pictures is not None:
            self._pictures[camera.name] = str(path)
        return path

    @contextlib.contextmanager
    def _picture_folder(self) -> Iterator[Path]:
        """Yield where pictures are put; what nobody asked to keep goes at the end."""
        if self._wishes.pictures is not None:
            yield self._wishes.pictures
            return
        with tempfile.TemporaryDirectory(prefix="transom-setup-") as folder:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            _give_to_caller(descriptor)
            os.close(descriptor)
            yield Path(folder)

    def _refuse_strays(self, cameras: list[DraftCamera]) -> None:
        names = {camera.name for camera in cameras}
        strays = sorted({name for name, _ in self._wishes.zones if name and name not in names})
        if strays:
            raise TransomError(
                f"--zone names the camera {', '.join(strays)}, which no --source has"
            )

    # ---------------------------------------------------------------- broker, end

    def _settle_broker(self, device: str, cameras: list[DraftCamera]) -> Outcome:
        wishes = self._wishes.broker
        while True:
            mqtt, secret = ask_broker(self._talk, wishes)
            draft = Draft(device, mqtt, cameras, self._more(), secret)
            self._talk.say(f"trying {mqtt.host}:{mqtt.tcp_port} …")
            checks = examine_broker(draft, self._path, Clock(), self._tell)
            conclusion = Conclusion(self._talk, self._wishes, draft)
            is_well = all(check.ok for check in checks)
            if is_well or self._wishes.unchecked:
                return conclusion.run(checks, self._pictures, tried=True)
            if not self._talk.is_asking:
                return conclusion.run(checks, self._pictures, tried=False)
            choice = self._talk.choose(
                "broker: try again, name it anew, or write all the same",
                ("try", "anew", "write"),
                "try",
            )
            if choice == "write":
                return conclusion.run(checks, self._pictures, tried=True)
            wishes = (
                BrokerWishes(prefix=wishes.prefix)
                if choice == "anew"
                else BrokerWishes(
                    mqtt.host,
                    mqtt.tcp_port,
                    mqtt.uses_tls,
                    mqtt.ca_file,
                    mqtt.username or "",
                    secret,
                    mqtt.prefix,
                )
            )

    def _more(self) -> dict[str, Any]:
        """Return what else is to be in a new configuration."""
        elsewhere = self._path.absolute().parent != DEFAULT_CONFIG.parent
        state = self._wishes.state_directory
        if state is None and elsewhere:
            state = self._path.absolute().parent / "state"
        more: dict[str, Any] = {}
        if state is not None and state.absolute() != _STATE:
            more["state_directory"] = str(state.absolute())
            more["models"] = {"store": str(state.absolute() / "models")}
        if self._wants_page():
            more["page"] = {"host": "127.0.0.1"}
        return more

    def _wants_page(self) -> bool:
        if self._wishes.page is None:
            question = "serve the page (pictures, zones, labels) to this machine"
            wanted = self._talk.agree(question, proposal=False, option="--page")
            self._wishes = replace(self._wishes, page=wanted)
        return bool(self._wishes.page)

    def _tell(self, check: Check) -> None:
        do = f"; {check.do}" if check.do else ""
        self._talk.say(f"  {'ok  ' if check.ok else 'FAIL'}  {check.check}: {check.what}{do}")


def _give_to_caller(descriptor: int) -> None:
    """Give a file to the person who called sudo, who is to open it."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if user.isdecimal() and group.isdecimal() and os.geteuid() == 0:
        os.fchown(descriptor, int(user), int(group))


def _proposed_device() -> str:
    return as_name(socket.gethostname().partition(".")[0], "pi", dash="-")


def _read_device(text: str) -> str:
    try:
        return msgspec.convert(text, DeviceName)
    except msgspec.ValidationError:
        raise ValueError(f"must be of a-z, 0-9 and -, 64 at most, got {text!r}") from None
