"""Files that are no bundle of ours, made from one: what a thief or a fuzzer would send."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from transom.bundle import MEMBERS
from transom.signing import sign

Members = dict[str, bytes]

NAMES = (
    "/etc/passwd",
    "../../../../tmp/transom-was-here",
    "..\\..\\windows\\win.ini",
    "model.onnx/../../evil",
    "C:\\evil",
    "\\\\server\\share\\evil",
    "manifest.json\0.py",
    "manifest.j\u0455on",  # a Cyrillic letter
    "ｍanifest.json",  # a full-width one
    "MANIFEST.JSON",
    "./manifest.json",
    "manifest.json/",
    "manifest.json ",
    "\x1b[2Jmanifest.json",
    "con",
    "a" * 65_000,
    "",
    "\u202egnp.nosj",
)
"""Names of members that lead elsewhere, look like another's, or hurt who shows them."""


def members_of(data: bytes) -> Members:
    """Return what is in a bundle."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(
    members: Mapping[str, bytes] | list[tuple[str, bytes]],
    method: int = zipfile.ZIP_STORED,
    attributes: int = 0o100644 << 16,
) -> bytes:
    """Return a zip as a writer of bundles makes it, of any members."""
    buffer = io.BytesIO()
    entries = members.items() if isinstance(members, Mapping) else members
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a member twice is one of the tricks
        for name, content in entries:
            info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
            info.filename = name  # as it is: the constructor cuts at a NUL
            info.create_system, info.external_attr = 3, attributes
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


def signed(members: Members, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a zip whose signature is right, whatever the members hold."""
    rest = {name: members[name] for name in MEMBERS[:-1]}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in rest.items()}
    return packed(rest | {"signature.json": sign(digests, "tiny", key)})


def path_tricks(data: bytes) -> Iterator[bytes]:
    """Yield bundles with members that would be written elsewhere, or in another's place."""
    members = members_of(data)
    entries = list(members.items())
    for name in NAMES:
        yield packed([*entries, (name, b"evil")])
        yield packed([(name, b"evil"), *entries])
        yield packed([(name if old == "model.onnx" else old, was) for old, was in entries])
        yield _renamed_in_directory(data, name)
    for name in MEMBERS:
        yield packed([*entries, (name, b"evil")])
        yield packed([(name, b"evil"), *entries])
    link = packed([("model.onnx", b"/etc/passwd")], attributes=0o120777 << 16)
    yield link
    yield packed([*entries, ("link", b"/etc")], attributes=0o120777 << 16)
    yield _tar(entries, None)
    yield gzip.compress(_tar(entries, "../../evil"))
    yield bz2.compress(_tar(entries, "/etc/evil"))
    yield lzma.compress(_tar(entries, None))
    yield b"#!/bin/sh\ntouch /tmp/transom-was-here\n" + data  # self-extracting, as zips may be
    yield data + data


def bombs(megabytes: int, data: bytes) -> dict[str, Callable[[], bytes]]:
    """Return files that are larger inside than outside, or than they say, by name.

    Args:
        megabytes: What each member that is repeated has.
        data: A bundle.
    """
    members = members_of(data)
    size = megabytes << 20

    def with_(name: str, content: bytes) -> bytes:
        return packed(members | {name: content})

    return {
        "a signature of empty lists": lambda: with_("signature.json", b"[" + b"[]," * (size // 3)),
        "a signature of tables": lambda: with_("signature.json", b"[" + b"{}," * (size // 3)),
        "a signature of numbers": lambda: with_("signature.json", b"[" + b"1e1," * (size // 4)),
        "a signature of one text": lambda: with_(
            "signature.json", b'{"mediaType":"' + b"\\u0000" * (size // 6) + b'"}'
        ),
        "a manifest of empty lists": lambda: with_("manifest.json", b"[" + b"[]," * (size // 3)),
        "a report nested without end": lambda: with_("report.json", b"[" * size),
        "zeros, deflated": lambda: packed(
            members | {"model.onnx": bytes(16 * size)}, zipfile.ZIP_DEFLATED
        ),
        "zeros, lzma": lambda: packed(members | {"model.onnx": bytes(4 * size)}, zipfile.ZIP_LZMA),
        "overlapping entries": lambda: _overlapping(data, size // 64),
        "a size of four gigabytes": lambda: _lying_size(data),
        "a tar of zeros, gzipped": lambda: gzip.compress(
            _tar([("manifest.json", bytes(size))], None)
        ),
        "a network of zeros": lambda: with_("model.onnx", bytes(size)),
    }


def mutated(data: bytes, case: int) -> bytes:
    """Return a bundle with one byte changed; every case below 255 x its length is another."""
    total = 255 * len(data)
    place, change = divmod(case * _STEP % total, 255)
    changed = bytearray(data)
    changed[place] ^= change + 1
    return bytes(changed)


_STEP = 1_000_003  # a prime: cases are spread over the file, and none comes twice


class Fuzzer:
    """Makes files that are nearly bundles.

    Args:
        data: A bundle.
        seed: Same seed, same files.
    """

    def __init__(self, data: bytes, seed: int) -> None:
        self._random = random.Random(seed)
        self._data = data
        self._members = members_of(data)
        self._stranger = ec.generate_private_key(ec.SECP256R1())
        self._edits = (
            self._flip,
            self._cut,
            self._splice,
            self._field,
            self._member,
            self._json,
            self._order,
            self._rename,
            self._resign,
            self._envelope,
        )

    def next(self) -> bytes:
        """Return another file, never the bundle itself."""
        while True:
            made = self._random.choice(self._edits)()
            if self._random.random() < 0.3:
                made = self._again(made)
            if made != self._data:
                return made

    def _again(self, data: bytes) -> bytes:
        place = self._random.randrange(len(data) + 1)
        more = self._random.randbytes(self._random.randrange(5))
        return data[:place] + more + data[place + self._random.randrange(9) :]

    def _flip(self) -> bytes:
        changed = bytearray(self._data)
        for _ in range(self._random.randint(1, 4)):
            changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _cut(self) -> bytes:
        return self._data[: self._random.randrange(len(self._data))]

    def _splice(self) -> bytes:
        first, second = sorted(self._random.randrange(len(self._data)) for _ in range(2))
        into = self._random.randrange(len(self._data))
        return self._data[:into] + self._data[first:second] + self._data[into:]

    def _field(self) -> bytes:
        """Change a field of a header, a directory entry or the end record."""
        magic = self._random.choice((b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"))
        found = [i for i in range(len(self._data)) if self._data.startswith(magic, i)]
        at = self._random.choice(found) + 4 + 2 * self._random.randrange(10)
        width = self._random.choice("HI")
        most = 0xFFFF if width == "H" else 0xFFFFFFFF
        values = (0, 1, 8, 0xFF, most, most - 1, most // 2 + 1, self._random.randint(0, most))
        value = struct.pack(f"<{width}", min(self._random.choice(values), most))
        return self._data[:at] + value + self._data[at + len(value) :]

    def _member(self) -> bytes:
        name = self._random.choice(MEMBERS)
        content = bytearray(self._members[name])
        place = self._random.randrange(len(content))
        content[place : place + self._random.randrange(20)] = self._random.randbytes(
            self._random.randrange(20)
        )
        return packed(self._members | {name: bytes(content)})

    def _json(self) -> bytes:
        name = self._random.choice(("manifest.json", "report.json", "signature.json"))
        tree = json.loads(self._members[name])
        self._spoil(tree)
        return packed(self._members | {name: json.dumps(tree).encode()})

    def _spoil(self, tree: object) -> None:
        """Change, add or take out a value somewhere in a tree."""
        while isinstance(tree, dict | list) and tree:
            key = self._random.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
            inner = tree[key]  # type: ignore[index]
            if isinstance(inner, dict | list) and inner and self._random.random() < 0.7:
                tree = inner
                continue
            tree[key] = self._random.choice(_VALUES)  # type: ignore[index]
            return

    def _order(self) -> bytes:
        entries = list(self._members.items())
        self._random.shuffle(entries)
        return packed(entries[: self._random.randint(0, 5)])

    def _rename(self) -> bytes:
        name, where = self._random.choice(NAMES), self._random.choice(MEMBERS)
        return packed([(name if old == where else old, c) for old, c in self._members.items()])

    def _resign(self) -> bytes:
        """Sign, as a stranger, what was changed: all is right but who has signed."""
        model = self._random.randbytes(self._random.randrange(50))
        return signed(self._members | {"model.onnx": model}, self._stranger)

    def _envelope(self) -> bytes:
        """Put the signature of something else, or a part of it, in its place."""
        tree = json.loads(self._members["signature.json"])
        envelope = tree["dsseEnvelope"]
        key = self._random.choice(("payload", "payloadType", "signatures"))
        envelope[key] = self._random.choice((*_VALUES, envelope[key] * 2, envelope["payload"][4:]))
        return packed(self._members | {"signature.json": json.dumps(tree).encode()})


_VALUES = (
    None, True, -1, 0, 1e308, 2**64, "", "x", "\0", "\ud800", [], {}, [[]], {"": {}}, "a" * 300
)  # fmt: skip


def _renamed_in_directory(data: bytes, name: str) -> bytes:
    """Return a bundle whose directory calls its network otherwise than its header does."""
    said = name.encode("utf-8", "replace")[: len("model.onnx")].ljust(len("model.onnx"), b"_")
    directory = data.index(b"PK\x01\x02")
    return data[:directory] + data[directory:].replace(b"model.onnx", said)


def _overlapping(data: bytes, entries: int) -> bytes:
    directory = data.index(b"PK\x01\x02")
    entry = data[directory : data.index(b"PK\x01\x02", directory + 4)]
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    end[8:12] = struct.pack("<2H", entries & 0xFFFF, entries & 0xFFFF)
    end[12:16] = struct.pack("<I", len(entry) * entries)
    return data[:directory] + entry * entries + bytes(end)


def _lying_size(data: bytes) -> bytes:
    header = data.index(b"PK\x03\x04", 4)
    return data[: header + 18] + struct.pack("<2I", 2**32 - 1, 2**32 - 1) + data[header + 26 :]


def _tar(entries: list[tuple[str, bytes]], name: str | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry, content in entries:
            info = tarfile.TarInfo(name or entry)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
