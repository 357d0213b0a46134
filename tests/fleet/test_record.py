"""Events of many devices into a database: shared by consumers, each once, none lost."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt import publish
from paho.mqtt.enums import MQTTProtocolVersion

from edge_runtime.clock import Clock
from edge_runtime.link import Access, Received
from fleet.event_store import EventStore, KeptEvent, open_store, read_event
from fleet.record import Recorder
from tests.edge_runtime.broker import Broker, wait_until
from tests.train.postgres import Postgres
from transom.cli import main
from transom.config import MqttConfig
from transom.errors import ConfigurationError, TransomError
from transom.messages import ZoneEvent, encode


def event(number: int) -> tuple[str, bytes]:
    payload = ZoneEvent(
        event_id=f"event-{number}",
        event_type="opened",
        state="open",
        previous="closed",
        at="2026-11-28T12:00:00.000Z",
        time_synced=True,
        boot_id="boot",
        monotonic_ns=number,
        confidence=0.9,
        latency_ms=1.0,
    )
    return f"transom/pi-{number % 3}/door/event", encode(payload)


def publish_events(broker: Broker, *numbers: int) -> None:
    publish.multiple(
        [(*event(number), 1, False) for number in numbers],
        hostname="127.0.0.1",
        port=broker.port,
        protocol=MQTTProtocolVersion.MQTTv5,
    )


def subscribe_once(broker: Broker, database: Path, *names: str) -> None:
    """Make consumers' sessions known to the broker before anything is published."""
    store = open_store(str(database), None)
    for name in names:
        recorder = consumer(broker, store, name)
        thread = threading.Thread(target=recorder.run, args=(lambda _kept: None,))
        thread.start()
        wait_until(lambda name=name: f"Sending SUBACK to transom-record-g-{name}" in broker.log())
        recorder.end()
        thread.join()
    store.close()


def consumer(broker: Broker, store: Any, name: str) -> Recorder:
    return Recorder(Access(broker.config()), Clock(), store, name, "g")


class FullDisk:
    """A store that takes nothing."""

    def keep(self, events: Sequence[KeptEvent]) -> None:
        raise TransomError(f"takes none of {len(events)}")


def ids(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        found = [row[0] for row in connection.execute("SELECT event_id FROM events")]
    connection.close()
    return found


def test_what_a_consumer_had_not_kept_comes_again(tmp_path: Path, broker: Broker) -> None:
    database = tmp_path / "events.sqlite3"
    subscribe_once(broker, database, "a")
    publish_events(broker, *range(30))
    with pytest.raises(TransomError, match="takes none of"):
        consumer(broker, FullDisk(), "a").run(lambda _kept: None, 30)
    store = open_store(str(database), None)
    recorder = consumer(broker, store, "a")
    recorder.run(lambda _kept: None, 30)
    store.close()
    assert recorder.kept == 30
    assert sorted(ids(database)) == sorted(f"event-{n}" for n in range(30))


@dataclass(frozen=True)
class Database:
    """Where events are kept: how a command is told of it, and which it holds."""

    options: list[str]
    ids: Callable[[], list[str]]


@contextmanager
def postgresql(folder: Path) -> Iterator[tuple[list[str], EventStore]]:
    """A PostgreSQL: the options that name it, and its store."""
    with Postgres() as postgres:
        user, _, rest = postgres.url.removeprefix("postgresql+pg8000://").partition(":")
        password, _, place = rest.partition("@")
        secret = folder / "password"
        secret.write_text(password + "\n")
        url = f"postgresql://{user}@{place}"
        store = open_store(url, password)
        yield ["--database", url, "--database-password-file", str(secret)], store
        store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        file = tmp_path / "events.sqlite3"
        open_store(str(file), None).close()
        yield Database(["--database", str(file)], lambda: ids(file))
        return
    with postgresql(tmp_path) as (options, store):

        def found() -> list[str]:
            cursor = store.connection.cursor()
            cursor.execute("SELECT event_id FROM events")
            rows = cursor.fetchall()
            store.connection.commit()
            return [row[0] for row in rows]

        yield Database(options, found)


def test_consumers_share_the_events_and_a_killed_one_loses_none(
    tmp_path: Path, broker: Broker, database: Database
) -> None:
    command = [sys.executable, "-m", "transom", "fleet", "record", "--group", "g", "--no-tls"]
    command += ["--host", "localhost", "--port", str(broker.port), *database.options]

    def start(name: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, "--name", name], stdout=subprocess.DEVNULL)

    names = ("a", "b", "c")
    subscribe_once(broker, tmp_path / "unused.sqlite3", *names)
    processes = {name: start(name) for name in names}
    try:
        publisher = threading.Thread(target=publish_events, args=(broker, *range(600)))
        publisher.start()
        wait_until(lambda: len(database.ids()) >= 20, 30.0)
        processes["a"].kill()
        processes["a"].wait()
        publisher.join()
        processes["a"] = start("a")
        wait_until(lambda: len(database.ids()) == 600, 30.0)
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
            assert process.wait(10.0) == 0
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    assert sorted(database.ids()) == sorted(f"event-{number}" for number in range(600))
    log = broker.log()
    for name in names:  # each had a part of them
        assert f"Sending PUBLISH to transom-record-g-{name}" in log


def test_an_event_that_comes_twice_is_kept_once_and_one_that_cannot_be_read_as_it_is(
    tmp_path: Path,
) -> None:
    database = tmp_path / "events.sqlite3"
    store = open_store(str(database), None)
    good = read_event(Received(*event(1), retain=False))
    odd = read_event(Received("transom/pi/door/event", b"\xff\0{", False))
    for _ in range(2):
        store.keep([good, odd, odd])
    store.close()
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT * FROM events ORDER BY event_id").fetchall()
    connection.close()
    assert rows[0][0] == "event-1"
    assert rows[0][1:6] == ("pi-1", "door", "opened", "open", "2026-11-28T12:00:00.000Z")
    assert msgspec.json.decode(rows[0][6])["event_id"] == "event-1"
    assert rows[1][0].startswith("unread-")
    assert rows[1][6] == "\\xff\\x00{"


def test_keeps_in_postgresql_what_it_keeps_in_sqlite(tmp_path: Path, broker: Broker) -> None:
    with postgresql(tmp_path) as (options, store):
        arguments = ["fleet", "record", *options, "--group", "g", "--name", "a", "--no-tls"]
        arguments += ["--host", "localhost", "--port", str(broker.port), "--count", "20"]
        subscribe_once(broker, tmp_path / "unused.sqlite3", "a")
        publish_events(broker, *range(20))
        assert main(arguments) == 0
        odd = read_event(Received("transom/pi/door/event", b"\xff\0", False))
        store.keep([read_event(Received(*event(1), retain=False)), odd])
        cursor = store.connection.cursor()
        cursor.execute("SELECT count(*) FROM events")
        assert cursor.fetchone()[0] == 21


def test_words_that_postgresql_does_not_take_do_not_end_who_keeps_events_in_it(
    tmp_path: Path,
) -> None:
    topic, payload = event(1)
    whole = msgspec.json.decode(payload)
    odd = whole | {"event_id": "a\0b", "state": "open\0"}
    endless = whole | {"event_id": random.Random(0).randbytes(5000).hex()}
    with postgresql(tmp_path) as (_, store):
        for said in (odd, endless):
            store.keep([read_event(Received(topic, msgspec.json.encode(said), retain=False))])
        cursor = store.connection.cursor()
        cursor.execute("SELECT event_id, state FROM events ORDER BY event_id")
        first, second = cursor.fetchall()
    assert tuple(first) == ("a\\x00b", "open\\x00")
    assert second[0].startswith("unread-")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="--database-password-file") as caught:
        open_store("postgresql://me:canary@db.lan/home", None)
    assert "canary" not in str(caught.value)


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransomError, match=r"nowhere/events.sqlite3: cannot be opened"):
        open_store(str(tmp_path / "nowhere" / "events.sqlite3"), None)
    with pytest.raises(TransomError, match=r"postgresql://127.0.0.1/home: cannot be opened"):
        open_store("postgresql://me@127.0.0.1:1/home", "canary")


def test_needs_mqtt_5() -> None:
    access = Access(MqttConfig(host="localhost", protocol="3.1.1"))
    with pytest.raises(ConfigurationError, match="shared subscriptions need"):
        Recorder(access, Clock(), EventStore, "a", "g")  # type: ignore[arg-type]
