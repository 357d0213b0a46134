"""Who runs what, followed in a terminal."""

from contextlib import suppress

from fleet.roster import as_table, filters, members_of
from fleet.session import Session
from transom.terminal import LiveTable

NOBODY = "the broker knows no device; is --prefix theirs, and has one been started?"

_MOST_TOPICS = 20_000
"""Anybody who may publish chooses topics."""
_PATIENCE_S = 0.5


def follow(session: Session, table: LiveTable) -> None:
    """Show the devices and what becomes of them, until Ctrl-C.

    Raises:
        TransomError: The broker refuses this client.
    """
    found: dict[str, bytes] = {}
    for topic_filter in filters(session.prefix):
        session.subscribe(topic_filter, qos=0)
    table.show([NOBODY])
    with suppress(KeyboardInterrupt):
        while True:
            if _take(session, found):
                members = list(members_of(found, session.prefix).values())
                table.show(as_table(members) if members else [NOBODY])


def _take(session: Session, found: dict[str, bytes]) -> bool:
    """Take in what comes within a moment; return whether anything did."""
    message = session.receive(_PATIENCE_S)
    if message is None:
        return False
    while message is not None:
        if not message.payload:
            found.pop(message.topic, None)
        elif message.topic in found or len(found) < _MOST_TOPICS:
            found[message.topic] = message.payload
        message = session.receive(0.0)
    return True
