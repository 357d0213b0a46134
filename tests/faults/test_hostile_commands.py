"""What anybody who may publish can do to a running daemon by saying nonsense: nothing."""

import json
import random
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.edge_runtime.broker import Subscriber, wait_until
from tests.edge_runtime.updating import TinyBundle
from tests.faults.house import COMMANDS, CONTACT, ROOT, House, resident_mb
from tests.faults.proof import Proof
from transom.keyring import state
from transom.signing import load_private_key, load_public_key, new_key

_BEYOND: tuple[object, ...] = (
    None, True, -1, 0, 1.5, 2**53, 2**64, 1e308, "", "x", "\0", "é\n<0>forged", "\u202e", [], {},
    [[]], {"": {}}, "a" * 3000, "../../etc", "+/#", "$SYS",
)  # fmt: skip


def templates(house: House) -> dict[str, list[bytes]]:
    """Return, by topic, payloads that are nearly what is understood there."""
    # Right in all but its signer: with the recovery key's it would rightly be followed.
    new_key(house.folder / "stranger.pem")
    keys = [load_public_key(house.folder / "stranger.pub")]
    wish = {
        "action": "install", "request": "r1", "name": "tiny", "sequence": 2,
        "digest": "a" * 64, "size_bytes": 70_000, "url": None,
    }  # fmt: skip
    stranger = state(5, keys, [], load_private_key(house.folder / "stranger.pem"))
    return {
        f"{ROOT}/door/correct": [b'{"class": "closed"}', b"closed-", b"forget-last!"],
        f"{ROOT}/samples/ask": [
            b'{"what":"offer","request":"r"}',
            b'{"what":"list","request":"r","after":0}',
            b'{"what":"picture","request":"r","id":1}',
        ],
        f"{ROOT}/model/desired": [
            json.dumps(wish).encode(),
            json.dumps(wish | {"url": "https://localhost:1/x"}).encode(),
            b'{"action":"rollback","request":"r","name":"tiny","sequence":9}',
        ],
        f"{ROOT}/model/install": [b"install"],
        f"{ROOT}/model/keys": [stranger, stranger[:-9] + b"AAAAAAA" + stranger[-2:]],
        "homeassistant/status": [b"online!", b"offline"],
        CONTACT: [b'{"contact": 1}', b'{"state": "ajar"}', b"ON!"],
    }


class Nonsense:
    """Payloads that mean nothing, none of which may be carried out."""

    def __init__(self, near: dict[str, list[bytes]], seed: int) -> None:
        self._near = near
        self._random = random.Random(seed)

    def next(self) -> tuple[str, bytes]:
        topic = self._random.choice(COMMANDS)
        makers = (self._bytes, self._mutated, self._tree, self._deep, self._large, self._text)
        return topic, self._random.choice(makers)(self._random.choice(self._near[topic]))

    def _bytes(self, _: bytes) -> bytes:
        return self._random.randbytes(self._random.randrange(200))

    def _mutated(self, near: bytes) -> bytes:
        changed = bytearray(near)
        for _ in range(self._random.randint(1, 3)):
            place = self._random.randrange(len(changed))
            changed[place : place + self._random.randrange(3)] = self._random.randbytes(2)
        return b"\xff" + bytes(changed) if self._random.random() < 0.2 else bytes(changed) + b"\xff"

    def _tree(self, near: bytes) -> bytes:
        try:
            tree = json.loads(near)
        except ValueError:
            tree = {"class": near.decode("utf-8", "replace")}
        if not isinstance(tree, dict):
            tree = {"class": tree}
        for _ in range(self._random.randint(1, 3)):
            tree[self._random.choice([*tree, "x", "action", "what", "class"])] = (
                self._random.choice(_BEYOND)
            )
        tree["class" if "class" in tree else "request"] = self._random.choice(_BEYOND)
        return json.dumps(tree).encode("utf-8", "surrogatepass")

    def _deep(self, _: bytes) -> bytes:
        depth = self._random.choice((10, 1000, 20_000))
        return self._random.choice((b"[", b'{"class":', b'{"action":"install","x":[')) * depth

    def _large(self, near: bytes) -> bytes:
        return near + b" " * self._random.choice((1000, 60_000)) + b"x"

    def _text(self, _: bytes) -> bytes:
        return "".join(chr(self._random.randrange(1, 0xD800)) for _ in range(40)).encode()


def flood(house: House, messages: list[tuple[str, bytes]]) -> None:
    """Publish, as fast as the broker takes it, until the broker has acknowledged all."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "flood", protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(house.secrets.broker_user, house.secrets.broker)
    client.max_inflight_messages = 200
    client.connect("localhost", house.broker.port)
    client.loop_start()
    for topic, payload in messages[:-1]:
        client.publish(topic, payload, qos=0)
    last = client.publish(*messages[-1], qos=1)
    last.wait_for_publish(60.0)
    client.disconnect()
    client.loop_stop()


def answers(house: House, heard: Subscriber, request: str) -> None:
    """Wait until the device answers a question: it has done with all that came before."""
    asked = {"what": "offer", "request": request}

    def has_answered() -> bool:
        flood(house, [(f"{ROOT}/samples/ask", json.dumps(asked).encode())])
        return bool(heard.copies(f"{ROOT}/samples/{request}/offer/0"))

    wait_until(has_answered, 60.0)


def kept(house: House) -> dict[str, bytes]:
    """Return the files of the store: what serves, which keys count."""
    files = sorted(path for path in house.store.iterdir() if path.suffix != ".part")
    return {path.name: path.read_bytes() for path in files}


def test_nonsense_on_every_command_topic_changes_nothing(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(
        21, "fuzzed payloads on every command topic of a running daemon",
        fast=700, full=100_000, unit="payloads",
    )  # fmt: skip
    house = House(tmp_path, tiny_bundle)
    nonsense = Nonsense(templates(house), seed=21)
    with house.lived_in() as (heard, process):
        answers(house, heard, "before")
        before, memory_mb = kept(house), resident_mb(process)
        for start in range(0, claim.runs, 1000):
            flood(house, [nonsense.next() for _ in range(min(1000, claim.runs - start))])
        answers(house, heard, "after")
        state_now = json.loads(heard.payloads(f"{ROOT}/door/state")[-1])
        grown_mb = resident_mb(process) - memory_mb
        trusted = json.loads(heard.payloads(f"{ROOT}/model/trusted")[-1])
        serving = json.loads(heard.payloads(f"{ROOT}/model/state")[-1])
        events = heard.payloads(f"{ROOT}/door/event")
    after = kept(house)
    ledger = {name: after.pop(name, None) for name in list(after) if "ledger" in name}
    lines = house.log.read_text("utf-8").splitlines()
    assert after == {name: data for name, data in before.items() if name not in ledger}
    assert state_now["state"] == "open"
    assert state_now.get("taught") is None
    assert state_now["contact"]["state"] == "unknown"
    assert trusted["sequence"] == 0
    assert serving["installed_version"] == "1"
    assert len(events) <= 2
    assert not [line for line in lines if line.startswith("<") or "Traceback" in line]
    # One warning a topic and minute, and the steps of wishes, one a second.
    seconds = 60 + claim.runs / 100
    assert len(lines) < 40 + 4 * seconds
    assert grown_mb < 48.0
    claim.found(
        "alive, nothing changed; {lines} lines of log, {grown_mb} MB more memory",
        lines=len(lines),
        grown_mb=grown_mb,
    )


@pytest.mark.parametrize("retain", [False, True])
def test_packets_larger_than_any_command_never_reach_the_daemon(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof, retain: bool
) -> None:
    how = "retained" if retain else "live"
    claim = proof(21, f"packets of 16 MB on command topics, {how}", fast=2, full=40, unit="packets")
    house = House(tmp_path, tiny_bundle)
    with house.lived_in() as (heard, process):
        memory_mb = resident_mb(process)
        for number in range(claim.runs):
            topic = COMMANDS[number % len(COMMANDS)]
            client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
            client.username_pw_set(house.secrets.broker_user, house.secrets.broker)
            client.connect("localhost", house.broker.port)
            client.loop_start()
            client.publish(topic, bytes(16 << 20), 1, retain).wait_for_publish(30.0)
            client.disconnect()
            client.loop_stop()
        answers(house, heard, "after")
        grown_mb = resident_mb(process) - memory_mb
    assert grown_mb < 24.0
    assert (
        msgspec.json.decode(heard.payloads(f"{ROOT}/model/state")[-1])["installed_version"] == "1"
    )
    claim.found("{grown_mb} MB more memory", grown_mb=grown_mb)
