"""Who is there, and which bundle each device runs: what the broker retains of them."""

from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from fleet.session import Session
from transom.config import DeviceName
from transom.errors import MessageError, TransomError
from transom.messages import ONLINE, ModelState, Topics, decode
from transom.terminal import aligned


@dataclass(frozen=True)
class Member:
    """A device as its broker knows it.

    Attributes:
        device: Its name.
        is_online: Whether it is connected.
        model: State of its bundle; None = it has never told.
    """

    device: str
    is_online: bool
    model: ModelState | None

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        told = asdict(self)
        model = self.model
        return {
            "device": told["device"],
            "online": told["is_online"],
            "title": model.title if model else None,
            "installed": model.installed_version if model else None,
            "offered": model.latest_version if model else None,
            "percent": model.update_percentage if model else None,
            "summary": model.release_summary if model else "",
        }


def read_roster(session: Session) -> dict[str, Member]:
    """Return every device that the broker knows, by name.

    What no device can be called is left out: anybody who may write to the broker chooses topics,
    and a name becomes a folder.

    Raises:
        TransomError: The broker refuses this client.
    """
    return members_of(session.retained(*filters(session.prefix)), session.prefix)


def filters(prefix: str) -> tuple[str, str]:
    """Return the topic filters of what a roster is made of."""
    any_device = Topics(prefix, "+")
    return any_device.status, any_device.model_state


def members_of(found: dict[str, bytes], prefix: str) -> dict[str, Member]:
    """Return the devices that payloads by topic tell of, by name."""
    levels = prefix.count("/") + 1
    names = sorted({topic.split("/")[levels] for topic in found})
    names = [name for name in names if _can_be_called(name)]
    roster = {}
    for name in names:
        topics = Topics(prefix, name)
        is_online = found.get(topics.status, b"") == ONLINE.encode()
        model = _model(found.get(topics.model_state), topics.model_state)
        roster[name] = Member(name, is_online, model)
    return roster


def choose(roster: dict[str, Member], devices: tuple[str, ...], *, everyone: bool) -> list[Member]:
    """Return the devices that a person named, or all.

    Raises:
        TransomError: The broker knows none of that name, or none at all.
    """
    if everyone:
        if not roster:
            raise TransomError("broker knows no device; is one running, below this --prefix?")
        return list(roster.values())
    unknown = [name for name in devices if name not in roster]
    if unknown:
        known = ", ".join(list(roster)[:20]) or "none"
        raise TransomError(f"no device is called {', '.join(unknown)}; the broker knows {known}")
    return [roster[name] for name in dict.fromkeys(devices)]


def as_table(members: list[Member]) -> list[str]:
    """Return lines for people, fit for a terminal whatever a device calls its bundle."""
    rows = [("device", "", "runs", "update")]
    for member in members:
        model = member.model
        runs = f"{model.title} {model.installed_version}" if model else "?"
        standing = "online" if member.is_online else "offline"
        rows.append((member.device, standing, runs, _update(model)))
    return aligned(rows)


def _can_be_called(name: str) -> bool:
    try:
        msgspec.convert(name, DeviceName)
    except msgspec.ValidationError:
        return False
    return True


def _update(model: ModelState | None) -> str:
    if model is None or (model.latest_version == model.installed_version and not model.in_progress):
        return ""
    percent = f"{model.update_percentage} % " if model.update_percentage is not None else ""
    return f"{model.latest_version}: {percent}{model.release_summary}"


def _model(payload: bytes | None, topic: str) -> ModelState | None:
    try:
        return decode(payload, ModelState, topic) if payload else None
    except MessageError:
        return None  # of another version; the device is there all the same
