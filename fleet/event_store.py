"""Where events of a fleet are kept: a table in SQLite, or in PostgreSQL for many."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from edge_runtime.link import Received
from transom.errors import ConfigurationError, MessageError, TransomError
from transom.messages import ZoneEvent, decode

POSTGRESQL = "postgresql"
_BUSY_S = 30.0
_LONGEST_ID = 200
"""Characters; of ours there are 36, and an index of PostgreSQL takes some 2,700 bytes."""
_TABLE = """
CREATE TABLE IF NOT EXISTS events (
    event_id TEXT PRIMARY KEY, device TEXT NOT NULL, zone TEXT NOT NULL, event_type TEXT NOT NULL,
    state TEXT NOT NULL, at TEXT NOT NULL, payload TEXT NOT NULL)
"""


@dataclass(frozen=True)
class KeptEvent:
    """A row of the table.

    Attributes:
        event_id: The event's own, the same in every copy of it.
        device: Who says so.
        zone: Of what.
        event_type: What has happened; "" where the payload cannot be read.
        state: The state since then; "" likewise.
        at: UTC, ISO 8601; "" likewise.
        payload: The message as it came.
    """

    event_id: str
    device: str
    zone: str
    event_type: str
    state: str
    at: str
    payload: str


def read_event(received: Received) -> KeptEvent:
    """Return what to keep of a message; one that cannot be read is kept as it is."""
    *_, device, zone, _ = received.topic.split("/")
    payload = _storable(received.payload.decode("utf-8", "backslashreplace"))
    event: ZoneEvent | None = None
    with suppress(MessageError):
        event = decode(received.payload, ZoneEvent, received.topic)
    if event is None or len(event.event_id) > _LONGEST_ID:
        unread = sha256(received.topic.encode() + b"\0" + received.payload).hexdigest()
        return KeptEvent(f"unread-{unread}", device, zone, "", "", "", payload)
    said = map(_storable, (event.event_id, event.event_type, event.state, event.at))
    event_id, event_type, state, at = said
    return KeptEvent(event_id, device, zone, event_type, state, at, payload)


def _storable(text: str) -> str:
    """Return a text as PostgreSQL takes it; what it refuses comes again at each start."""
    return text.replace("\0", "\\x00")


class Connection(Protocol):
    """What both databases' drivers have (PEP 249)."""

    def cursor(self) -> Any:
        """Return what executes statements."""

    def commit(self) -> None:
        """Make what was executed durable."""

    def close(self) -> None:
        """Leave."""


class EventStore:
    """A table of events, each once, however often it is delivered.

    Args:
        connection: To the database.
        placeholder: What stands for a value in its statements.
        failures: What its driver raises.
        name: What messages call it; no secret in it.

    Attributes:
        connection: To the database, for questions about what is kept.

    Raises:
        TransomError: The database takes no table.
    """

    def __init__(
        self,
        connection: Connection,
        placeholder: str,
        failures: tuple[type[Exception], ...],
        name: str,
    ) -> None:
        self.connection = connection
        self._failures = failures
        self._name = name
        columns = [field.name for field in fields(KeptEvent)]
        self._insert = (
            f"INSERT INTO events ({', '.join(columns)}) "  # noqa: S608 - nobody's words but ours
            f"VALUES ({', '.join([placeholder] * len(columns))}) ON CONFLICT DO NOTHING"
        )
        self._execute(_TABLE, [()])

    def keep(self, events: Sequence[KeptEvent]) -> None:
        """Keep events; they are durable when this returns.

        Raises:
            TransomError: The database does not take them.
        """
        self._execute(self._insert, [astuple(event) for event in events])

    def close(self) -> None:
        """Leave the database."""
        self.connection.close()

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            cursor = self.connection.cursor()
            cursor.executemany(statement, rows)
            self.connection.commit()
        except self._failures as error:
            raise TransomError(f"{self._name}: takes no events: {error}") from error


def open_store(database: str, password: str | None) -> EventStore:
    """Return the store that a person named: a file, or a URL of PostgreSQL.

    Args:
        database: A path, or `postgresql://user@host:port/name`.
        password: For PostgreSQL.

    Raises:
        ConfigurationError: The URL holds a password, or no host, user or name.
        TransomError: The database cannot be opened.
    """
    if database.startswith(f"{POSTGRESQL}:"):
        return _open_postgresql(database, password)
    path = Path(database)
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_S)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise TransomError(f"{path}: cannot be opened: {error}") from error
    return EventStore(connection, "?", (sqlite3.Error,), str(path))


def _open_postgresql(database: str, password: str | None) -> EventStore:
    import pg8000.dbapi

    url = urlsplit(database)
    if url.password is not None:
        raise ConfigurationError(
            "--database must not hold a password: name a file with --database-password-file"
        )
    name = url.path.removeprefix("/")
    if not url.hostname or not url.username or not name:
        raise ConfigurationError("--database must be like postgresql://user@host:5432/name")
    failures = (pg8000.dbapi.Error, OSError)
    shown = f"postgresql://{url.hostname}/{name}"
    try:
        connection = pg8000.dbapi.connect(
            unquote(url.username),
            host=url.hostname,
            port=url.port or 5432,
            database=name,
            password=password,
        )
    except failures as error:
        raise TransomError(f"{shown}: cannot be opened: {error}") from error
    return EventStore(connection, "%s", failures, shown)
