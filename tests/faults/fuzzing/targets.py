"""What is fuzzed: a reader, what it is to be given, and which of its errors is a refusal.

A reader of what is signed is given what has the right signature, so that what is behind the
signature is reached; `bundle` itself has none that fits.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contact import read_contact
from tests.faults.hostile_bundles import members_of, packed, signed
from transom.bundle import parse_bundle
from transom.config import load_config
from transom.errors import MOST_MISTAKES, TransomError
from transom.keyring import read_statement, state
from transom.messages import read_correction
from transom.sharing import read_ask
from transom.signing import load_private_key, public_half
from transom.updates import read_desired

MOST_SAID = 1000
"""Characters of a refusal; one that is longer fills a log. A configuration's is that for a line."""

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
"""What was found once, by target; every run of the tests tries it."""

BUNDLE, KEY = "tiny.bundle", "test.key"

_CONFIGURATION = b"""device = "hall"
[mqtt]
host = "localhost"
port = 1883
[decision]
[samples]
random_per_day = 0.5
[page]
[updates]
install = "when_asked"
[[cameras]]
name = "hall"
source = "file:hall.mp4"
fps = 5
[[cameras.zones]]
name = "door"
device_class = "door"
polygon = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]
contact = { topic = "zigbee2mqtt/door" }
"""


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        promise: Number of what is promised of it.
        seeds: What it understands, to begin with.
        read: Reads; a refusal is an error of Transom's own.
        is_told_apart: Whether nothing but the seeds may be understood.
    """

    promise: int
    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    is_told_apart: bool = False

    def try_(self, data: bytes) -> None:
        """Read something, of whatever kind.

        Raises:
            AssertionError: It was understood and must not be, or the refusal fills a log.
            Exception: The reader's, where that is no refusal.
        """
        said: list[str] = []
        is_understood = True
        try:
            self.read(data)
        except TransomError as error:
            said, is_understood = str(error).splitlines(), False
        assert not (is_understood and self.is_told_apart and data not in self.seeds), "understood"
        assert len(said) <= MOST_MISTAKES + 1, f"{len(said)} lines"
        assert max(map(len, said), default=0) <= MOST_SAID, "a line fills a log"


def targets(folder: Path) -> dict[str, Target]:
    """Return all targets by name.

    Args:
        folder: Where `BUNDLE` is, and `KEY` that has signed it; a file is written there.
    """
    key = load_private_key(folder / KEY)
    trusted = [public_half(key)]
    data = (folder / BUNDLE).read_bytes()
    members = members_of(data)
    written = folder / "fuzzed.toml"

    def as_member(name: str) -> Target:
        def read(content: bytes) -> object:
            return parse_bundle(signed(members | {name: content}, key), "hostile", trusted)

        return Target(8, (members[name],), read)

    def as_signature(content: bytes) -> object:
        return parse_bundle(packed(members | {"signature.json": content}), "hostile", trusted)

    def as_configuration(content: bytes) -> object:
        written.write_bytes(content)
        return load_config(written)

    wish = {
        "action": "install", "request": "r1", "name": "tiny", "sequence": 2,
        "digest": "a" * 64, "size_bytes": 70_000, "url": "https://localhost:1/x",
    }  # fmt: skip
    back = {"action": "rollback", "request": "r", "name": "tiny", "sequence": 1}
    ask = {"what": "picture", "request": "r", "id": 1}
    classes = ("closed", "ajar", "open")
    return {
        "bundle": Target(8, (data,), lambda d: parse_bundle(d, "hostile", trusted), True),
        "manifest": as_member("manifest.json"),
        "goldens": as_member("goldens.safetensors"),
        "report": as_member("report.json"),
        "signature": Target(8, (members["signature.json"],), as_signature),
        "configuration": Target(21, (_CONFIGURATION,), as_configuration),
        "desired": Target(
            21,
            (json.dumps(wish).encode(), json.dumps(back).encode()),
            lambda d: read_desired(d, "t"),
        ),
        "ask": Target(21, (json.dumps(ask).encode(),), lambda d: read_ask(d, "t")),
        "keys": Target(
            21, (state(1, trusted, [], key),), lambda d: read_statement(d, trusted, "t")
        ),
        "correct": Target(
            21, (b'{"class": "closed"}',), lambda d: read_correction(d, classes, "t")
        ),
        "contact": Target(21, (b'{"contact": false}', b"ON"), lambda d: read_contact(d, "t")),
    }
