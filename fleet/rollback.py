"""Sending devices back to the bundle that served before."""

import secrets
from dataclasses import dataclass
from typing import Literal

import msgspec

from edge_runtime.clock import Clock
from edge_runtime.link import Received
from fleet.depot import Depot, removal
from fleet.roster import Member
from fleet.session import Session
from transom.errors import MessageError
from transom.messages import Message, ModelState, Topics, decode
from transom.updates import FINAL, ModelReport, Rollback


@dataclass
class WayBack:
    """How one device has answered.

    Attributes:
        device: Its name.
        outcome: `done`, `failed`, or `away`: offline, it will find the wish later.
        reason: Why it failed.
    """

    device: str
    outcome: Literal["asked", "done", "failed", "away"] = "asked"
    reason: str = ""


def roll_back(
    session: Session, clock: Clock, members: list[Member], answer_s: float
) -> list[WayBack]:
    """Ask devices to leave the bundle that they serve; wait for those that are online.

    Raises:
        TransomError: The broker refuses something.
    """
    request = secrets.token_hex(8)
    session.subscribe(Topics(session.prefix, "+").model_report)
    ways = {member.device: WayBack(member.device) for member in members}
    for member in members:
        _ask(session, request, member, ways[member.device])
    until_s = clock.monotonic_s() + answer_s
    silent: list[str] = []
    while any(way.outcome == "asked" for way in ways.values()):
        received = session.receive(0.5)
        if received is not None:
            _take(session, request, received, ways)
        if clock.monotonic_s() > until_s:
            for way in ways.values():
                if way.outcome == "asked":
                    way.outcome = "failed"
                    way.reason = (
                        f"no answer within {answer_s:g} s; is [updates] in its configuration?"
                    )
                    silent.append(way.device)
    _take_back(session, clock, request, silent)
    for _ in session.flush():
        continue
    return list(ways.values())


def _ask(session: Session, request: str, member: Member, way: WayBack) -> None:
    model = member.model
    wish = None if model is None else _way_back_from(model, request)
    if wish is None:
        way.outcome, way.reason = "failed", "has never told which bundle it serves"
        return
    topic = Topics(session.prefix, member.device).model_desired
    session.publish(Message(topic, msgspec.json.encode(wish), qos=1, retain=True))
    if not member.is_online:
        way.outcome = "away"


def _way_back_from(model: ModelState, request: str) -> Rollback | None:
    """Return what a device is asked for; None = what it has told is no bundle."""
    said = {
        "action": "rollback",
        "request": request,
        "name": model.title,
        "sequence": model.installed_version,
    }
    try:
        return msgspec.convert(said, Rollback, strict=False)
    except msgspec.ValidationError:
        return None


def _take_back(session: Session, clock: Clock, request: str, devices: list[str]) -> None:
    """Withdraw what nobody has answered, so that it is not carried out weeks later."""
    wishes = Depot(session, clock).wishes() if devices else {}
    for device in devices:
        wish = wishes.get(device)
        if wish is not None and wish.request == request:
            session.publish(removal(Topics(session.prefix, device).model_desired))


def _take(session: Session, request: str, received: Received, ways: dict[str, WayBack]) -> None:
    device = received.topic.split("/")[session.prefix.count("/") + 1]
    if not received.topic.endswith("/model/report") or device not in ways:
        return
    try:
        report = decode(received.payload, ModelReport, received.topic)
    except MessageError:
        return
    if report.request == request and report.step in FINAL:
        way = ways[device]
        way.outcome = "done" if report.step == "rolled_back" else "failed"
        way.reason = "" if way.outcome == "done" else report.reason
        if report.step != "withdrawn":  # else what somebody else asks for lies there by now
            session.publish(removal(Topics(session.prefix, device).model_desired))
