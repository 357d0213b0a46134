"""What `transom watch` shows in a terminal: every zone as it is now, and the newest alerts."""

from collections import deque
from dataclasses import dataclass

from edge_runtime.link import Received
from transom.errors import MessageError
from transom.messages import ONLINE, CameraProblem, ZoneState, decode
from transom.terminal import aligned

_MOST = 500
"""Zones, devices and cameras of each that are remembered: anybody may publish."""
_ALERTS = 10
_HEAD = ("device", "zone", "state", "sure", "since (UTC)", "")


@dataclass(frozen=True)
class _Place:
    device: str
    name: str


class Board:
    """Takes messages in and says what there is to see.

    Args:
        prefix: First levels of the topics.
    """

    def __init__(self, prefix: str) -> None:
        self._levels = prefix.count("/") + 1
        self._zones: dict[_Place, ZoneState] = {}
        self._problems: dict[_Place, str] = {}
        self._offline: set[str] = set()
        self._alerts: deque[str] = deque(maxlen=_ALERTS)
        self.notice = ""
        """A line about the connection; empty = it stands."""

    def take(self, message: Received, alert: str | None) -> None:
        """Take a message in, and the line that tells of it where it is an alert."""
        if alert is not None and not message.retain:
            self._alerts.append(alert)
        levels = message.topic.split("/")[self._levels :]
        try:
            self._note(levels, message)
        except MessageError:
            return  # of another version, or of nobody of ours; the alert says so where it matters

    def lines(self) -> list[str]:
        """Return what there is to see now."""
        if not self._zones:
            return [self.notice or "no zone has told its state yet; Ctrl-C ends"]
        places = sorted(self._zones, key=lambda place: (place.device, place.name))
        rows = [_HEAD, *(self._row(place) for place in places)]
        problems = [
            f"{place.device}  camera {place.name}: {reason}"
            for place, reason in sorted(
                self._problems.items(), key=lambda i: (i[0].device, i[0].name)
            )
        ]
        notice = [self.notice] if self.notice else []
        return [*aligned(rows), *problems, *notice, "", *self._alerts]

    def _note(self, levels: list[str], message: Received) -> None:
        match levels:
            case [device, zone, "state"] if zone != "model":
                place = _Place(device, zone)
                if not message.payload:
                    self._zones.pop(place, None)
                elif place in self._zones or len(self._zones) < _MOST:
                    self._zones[place] = decode(message.payload, ZoneState, message.topic)
            case [device, "camera", camera, "problem"]:
                self._note_problem(_Place(device, camera), message)
            case [device, "status"] if message.payload == ONLINE.encode():
                self._offline.discard(device)
            case [device, "status"] if len(self._offline) < _MOST:
                self._offline.add(device)

    def _note_problem(self, place: _Place, message: Received) -> None:
        self._problems.pop(place, None)
        if not message.payload:
            return
        told = decode(message.payload, CameraProblem, message.topic)
        if told.problem and len(self._problems) < _MOST:
            self._problems[place] = told.reason or "problem"

    def _row(self, place: _Place) -> tuple[str, ...]:
        now = self._zones[place]
        sure = f"{now.confidence:.0%}" if now.state != "unknown" else ""
        why = "device is offline" if place.device in self._offline else now.reason or ""
        return (place.device, place.name, now.state, sure, now.since[:19].replace("T", " "), why)
