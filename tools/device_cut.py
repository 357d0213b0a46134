"""Runs inside the booted machine, as root: what did the last power cut leave? Then work.

It says so in lines `power: {…}` on the console; `tools/power_cuts/` listens and pulls the plug.
The kernel's command line says what to do: `power.boot=NUMBER` and `power.broker=away`, `here` or
`last`. Without a broker events pile up on the disk. With one they go out, and the device is offered
the other one of two bundles. In the last boot it gets the broker, and time until nothing waits.
"""

import json
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import BinaryIO

import paho.mqtt.client as paho

from edge_runtime.clock import iso
from edge_runtime.keyring import Keyring
from edge_runtime.ledger import FILE_NAME as LEDGER
from edge_runtime.ledger import Ledger
from edge_runtime.models import serving_bundle
from edge_runtime.outbox import FILE_NAME as OUTBOX
from transom.bundle import read_bundle
from transom.config import ModelsConfig, load_config
from transom.errors import TransomError
from transom.messages import Topics, decode, encode
from transom.signing import PublicKey
from transom.updates import DepotEntry, Install, cut, entry_topic

STATE = Path("/var/lib/private/transom")
OFFERED = Path("/opt/offered")
TICK_S = 0.5
DRAINED_S = 120.0
CONFIG = Path("/etc/transom/transom.toml")
_lock = threading.Lock()


@cache
def console() -> BinaryIO:
    """Return the way to the computer outside; it is open until the power goes."""
    return Path("/dev/ttyS0").open("wb", buffering=0)


def say(what: str, **facts: object) -> None:
    """Tell the computer outside, whole lines only."""
    with _lock:
        console().write(b"\npower: " + json.dumps({"what": what, **facts}).encode() + b"\n")


def main() -> None:
    """Look, start the unit, work."""
    words = dict(
        word.split("=", 1) for word in Path("/proc/cmdline").read_text().split() if "=" in word
    )
    boot, broker = int(words["power.boot"]), words["power.broker"]
    say("left", **outbox_left(), **bundles_left())
    if broker != "away":
        subprocess.run(["systemctl", "start", "mosquitto"], check=True)
        listen()
    if broker != "last":
        threading.Thread(target=tick, daemon=True).start()
    started = subprocess.run(["systemctl", "start", "transom"], check=False)
    say("ready" if started.returncode == 0 else "not ready", journal=journal(started.returncode))
    if broker == "here":
        offer(boot)
    if broker != "last":
        threading.Event().wait()  # for the power to go
    until_s, left = time.monotonic() + DRAINED_S, waiting()
    while left != [] and time.monotonic() < until_s:
        time.sleep(TICK_S)
        left = waiting()
    time.sleep(3.0)  # so that the last one is heard
    say("drained", waiting=left)
    subprocess.run(["systemctl", "stop", "transom"], check=True)
    say("stopped")
    subprocess.run(["systemctl", "poweroff", "--no-block"], check=True)


def outbox_left() -> dict[str, object]:
    """Return what SQLite says of the outbox, and which events wait in it."""
    if not (STATE / OUTBOX).exists():
        return {"outbox": "none", "waiting": []}
    try:
        with outbox_copy() as database:
            (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
            return {"outbox": verdict, "waiting": events(database)}
    except sqlite3.Error as error:
        return {"outbox": str(error), "waiting": []}


@contextmanager
def outbox_copy() -> Iterator[sqlite3.Connection]:
    """Open a copy of the outbox: the daemon keeps it for itself, and must not find it changed.

    Raises:
        sqlite3.Error: The copy is no database.
        OSError: There is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in (OUTBOX, f"{OUTBOX}-wal"):
            if (STATE / name).exists():
                shutil.copy(STATE / name, folder)
        with closing(sqlite3.connect(Path(folder) / OUTBOX)) as database:
            yield database


def events(database: sqlite3.Connection) -> list[str]:
    """Return the events that wait, oldest first."""
    return [row[0] for row in database.execute("SELECT event_id FROM events ORDER BY id")]


def bundles_left() -> dict[str, object]:
    """Return which bundles lie in the store, which would serve, and what is wrong with them."""
    store = STATE / "models"
    found: list[str] = []
    wrong: list[str] = []
    for path in sorted(store.glob("*.bundle")):
        try:
            found.append(read_bundle(path, trusted_keys()).manifest.name)
        except TransomError as error:
            wrong.append(str(error))
    if (store / LEDGER).exists():
        try:
            decode((store / LEDGER).read_bytes(), Ledger, LEDGER)
        except TransomError as error:
            wrong.append(str(error))
    try:
        serving = serving_bundle(models()).manifest.name
    except TransomError as error:
        serving = ""
        wrong.append(str(error))
    return {"bundles": found, "serving": serving, "wrong": wrong}


def models() -> ModelsConfig:
    """Return where the device keeps bundles, and whose signature it trusts."""
    return load_config(CONFIG).models


def trusted_keys() -> tuple[PublicKey, ...]:
    """Return the keys whose signature counts."""
    return Keyring(models()).trusted()


def waiting() -> list[str] | None:
    """Return the events that wait in the outbox now; None = it changed while it was copied."""
    try:
        with outbox_copy() as database:
            return events(database)
    except (sqlite3.Error, OSError):
        return None


def tick() -> None:
    """Say again and again that the machine runs, and which events are on the disk by now.

    One counts when it has been there for a whole tick: the daemon may just be writing it.
    """
    number, before, told = 0, set[str](), set[str]()
    while True:
        now = set(waiting() or [])
        new = (before & now) - told
        told |= new
        before |= now
        say("tick", number=number, waiting=sorted(new))
        number += 1
        time.sleep(TICK_S)


def client() -> paho.Client:
    """Return a client of the broker, connected."""
    made = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    for _ in range(60):
        try:
            made.connect("127.0.0.1")
            return made
        except OSError:
            time.sleep(0.5)
    raise SystemExit("mosquitto does not answer")


def listen() -> None:
    """Say which events come, and what the device says of its bundles."""
    subscribed = threading.Event()

    def take(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        said = json.loads(message.payload)
        if message.topic.endswith("/event"):
            say("heard", event_id=said["event_id"])
        else:
            say("report", step=said["step"], name=said["name"], reason=said["reason"])

    listener = client()
    listener.on_message = take
    listener.on_subscribe = lambda *_: subscribed.set()
    listener.loop_start()
    listener.subscribe(
        [
            ("transom/+/+/event", paho.SubscribeOptions(1)),
            ("transom/+/model/report", paho.SubscribeOptions(1)),
        ]
    )
    if not subscribed.wait(60.0):
        raise SystemExit("mosquitto does not take a subscription")


def offer(boot: int) -> None:
    """Bring one of the two bundles to the broker and wish for it."""
    path = sorted(OFFERED.glob("*.bundle"))[boot // 2 % 2]
    data = path.read_bytes()
    bundle = read_bundle(path, trusted_keys())
    wish = Install(
        request=f"boot-{boot}",
        name=bundle.manifest.name,
        sequence=bundle.manifest.sequence,
        digest=bundle.digest,
        size_bytes=len(data),
    )
    entry = DepotEntry(
        name=wish.name, sequence=wish.sequence, chunks=wish.chunks, since=iso(datetime.now(UTC))
    )
    publisher = client()
    publisher.loop_start()
    publisher.publish(entry_topic("transom", wish.digest), encode(entry), 1, True)
    for message in cut(data, "transom", wish.digest):
        publisher.publish(message.topic, message.payload, 1, True)
    desired = Topics("transom", "hall-pi").model_desired
    publisher.publish(desired, encode(wish), 1, True).wait_for_publish(120.0)
    say("offered", name=wish.name)


def journal(status: int) -> list[str]:
    """Return the unit's last words, where it did not start."""
    if status == 0:
        return []
    words = ["journalctl", "-u", "transom", "--no-pager", "-o", "cat", "-n", "30"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()


if __name__ == "__main__":
    main()
