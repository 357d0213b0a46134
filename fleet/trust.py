"""Telling devices which keys to trust: a statement that a recovery key has signed."""

from dataclasses import dataclass
from typing import Literal

from edge_runtime.clock import Clock
from edge_runtime.link import Received
from fleet.roster import Member
from fleet.session import Session
from transom.errors import MessageError
from transom.messages import Message, Topics, decode
from transom.updates import TrustedKeys


@dataclass
class Answer:
    """How one device has taken a statement.

    Attributes:
        device: Its name.
        outcome: `done`, `failed`, or `away`: offline, it will find the statement later.
        trusted: Fingerprints of the keys that it trusts now.
        reason: Why it failed.
    """

    device: str
    outcome: Literal["asked", "done", "failed", "away"] = "asked"
    trusted: tuple[str, ...] = ()
    reason: str = ""


def tell_keys(
    session: Session,
    clock: Clock,
    members: list[Member],
    statement: bytes,
    sequence: int,
    answer_s: float,
) -> list[Answer]:
    """Send devices a statement of keys; wait for those that are online.

    Args:
        session: The broker.
        clock: For the time limit.
        members: The devices.
        statement: Signed; see `transom.keyring`.
        sequence: Of the statement.
        answer_s: How long to wait.

    Raises:
        TransomError: The broker refuses something.
    """
    session.subscribe(Topics(session.prefix, "+").model_trusted)
    answers = {member.device: Answer(member.device) for member in members}
    for member in members:
        topic = Topics(session.prefix, member.device).model_keys
        session.publish(Message(topic, statement, qos=1, retain=True))
        if not member.is_online:
            answers[member.device].outcome = "away"
    until_s = clock.monotonic_s() + answer_s
    while any(answer.outcome == "asked" for answer in answers.values()):
        received = session.receive(0.5)
        if received is not None:
            _take(session, received, sequence, answers)
        if clock.monotonic_s() > until_s:
            _give_up(answers, answer_s)
    for _ in session.flush():
        continue
    return list(answers.values())


def _take(session: Session, received: Received, sequence: int, answers: dict[str, Answer]) -> None:
    device = received.topic.split("/")[session.prefix.count("/") + 1]
    answer = answers.get(device)
    if not received.topic.endswith("/model/trusted") or answer is None:
        return
    if received.retain and not session.outages:
        return  # what is retained answers an earlier statement, but after an outage
    try:
        told = decode(received.payload, TrustedKeys, received.topic)
    except MessageError:
        return  # of a version that this one does not know
    if told.refused:
        answer.outcome, answer.reason = "failed", told.refused
    elif told.sequence == sequence:
        answer.outcome, answer.trusted = "done", told.trusted


def _give_up(answers: dict[str, Answer], answer_s: float) -> None:
    for answer in answers.values():
        if answer.outcome == "asked":
            answer.outcome = "failed"
            answer.reason = (
                f"no answer within {answer_s:.0f} s; has it [updates] in its configuration and a "
                "key in models.recovery_keys?"
            )
