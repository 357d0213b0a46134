import base64
import hashlib
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transom import bundle as bundle_module
from transom.bundle import MEMBERS, Bundle, parse_bundle, read_bundle, write_bundle
from transom.errors import BundleError, SignatureError
from transom.goldens import Goldens
from transom.guard import Guard
from transom.manifest import SCHEMA, InputSpec, Manifest, TaskSpec, UnknownRule
from transom.signing import PrivateKey, PublicKey, load_public_key, public_half, sign
from transom.tasks import Task, TaskSet

MANIFEST = Manifest(
    name="hall-7",
    sequence=7,
    created="2026-11-23T12:00:00Z",
    input=InputSpec(size=16, margin=0.1),
    tasks=(
        TaskSpec(
            name="state",
            classes=("closed", "ajar", "open"),
            ordinal=True,
            thresholds=(0.5, 0.6, 0.7),
            unknown=UnknownRule(max_energy=-1.5),
        ),
    ),
    embedding=4,
    precision="float32",
    metrics={"accuracy": 0.97},
    training={"recipe": "0" * 64},
    minimum_runtime="0.1.0",
)
GOLDENS = Goldens(
    crops=(np.arange(16 * 16 * 3) % 251).astype(np.uint8).reshape(1, 16, 16, 3),
    logits={"state": np.array([[1.5, -0.25, -1.0]], np.float32)},
    tolerance=0.01,
)
MODEL = b"the reader does not look into the network"
REPORT = {"tasks": {"state": {"n": 12}}}


GUARD = Guard(
    embedding=np.array([[0.5, -1.0, 0.0, 1e5], [1.0, 2.0, 3.0, 4.0]], np.float32),
    logits={"state": np.array([[1.5, -0.25, -1.0], [0.0, 1.0, 2.0]], np.float32)},
    targets={"state": np.array([0, -1], np.int64)},
)


def write(path: Path, key: PrivateKey, **changes: Any) -> bytes:
    parts: dict[str, Any] = {
        "manifest": MANIFEST,
        "model": MODEL,
        "goldens": GOLDENS,
        "report": REPORT,
    }
    write_bundle(path, **(parts | changes), key=key)
    return path.read_bytes()


@pytest.fixture(scope="module")
def trusted(private_key: PrivateKey) -> list[PublicKey]:
    return [public_half(private_key)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, private_key: PrivateKey) -> bytes:
    return write(tmp_path_factory.mktemp("bundle") / "hall-7.bundle", private_key)


@pytest.fixture(scope="module")
def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(
    members: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED
) -> bytes:
    """Return a zip as a writer of bundles makes it, of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a member twice is what some tests are about
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


def signed(members: Mapping[str, bytes], key: PrivateKey) -> bytes:
    """Return a zip whose signature is right, whatever the members hold."""
    rest = {name: members[name] for name in MEMBERS if name != "signature.json"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in rest.items()}
    return packed(rest | {"signature.json": sign(digests, "hall-7", key)})


def refusal(data: bytes, trusted: list[PublicKey] | None) -> str:
    with pytest.raises(BundleError) as caught:
        parse_bundle(data, "hall-7.bundle", trusted)
    assert str(caught.value).startswith("hall-7.bundle: ")
    return str(caught.value)


def assert_is_what_was_written(bundle: Bundle) -> None:
    assert bundle.manifest == MANIFEST
    assert bundle.model == MODEL
    assert bundle.report == REPORT
    assert bundle.goldens.tolerance == GOLDENS.tolerance
    assert bundle.goldens.crops.dtype == np.uint8
    assert (bundle.goldens.crops == GOLDENS.crops).all()
    assert list(bundle.goldens.logits) == ["state"]
    assert (bundle.goldens.logits["state"] == GOLDENS.logits["state"]).all()


def test_what_is_written_is_read_again(
    tmp_path: Path, private_key: PrivateKey, trusted: list[PublicKey]
) -> None:
    data = write(tmp_path / "hall-7.bundle", private_key)
    bundle = read_bundle(tmp_path / "hall-7.bundle", trusted)
    assert_is_what_was_written(bundle)
    assert bundle.digest == hashlib.sha256(data).hexdigest()
    assert bundle.manifest.task_set() == TaskSet(
        [Task(name="state", classes=("closed", "ajar", "open"), ordinal=True)]
    )


def test_writing_returns_the_digest_of_the_file(tmp_path: Path, private_key: PrivateKey) -> None:
    path = tmp_path / "hall-7.bundle"
    digest = write_bundle(
        path, manifest=MANIFEST, model=MODEL, goldens=GOLDENS, report=REPORT, key=private_key
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, private_key: PrivateKey) -> None:
    report = {"b": 1, "a": {"y": 2, "x": 3}}
    turned = {"a": {"x": 3, "y": 2}, "b": 1}
    first = write(tmp_path / "first", private_key, report=report)
    assert write(tmp_path / "second", private_key, report=turned) == first


def test_any_zip_tool_can_look_inside(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert tuple(archive.namelist()) == MEMBERS
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read("manifest.json"))["schema"] == SCHEMA


def test_a_bundle_kept_from_an_earlier_version_is_still_read(
    tmp_path: Path, golden_file: Callable[[str, bytes], bytes]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())  # used by an update only, and then forgotten
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    data = golden_file("bundle/tiny.bundle", write(tmp_path / "new", key))
    (tmp_path / "tiny.pub").write_bytes(golden_file("bundle/tiny.pub", public))
    assert_is_what_was_written(
        parse_bundle(data, "tiny.bundle", [load_public_key(tmp_path / "tiny.pub")])
    )


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_no_byte_can_be_changed(data: bytes, trusted: list[PublicKey], mask: int) -> None:
    accepted = []
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= mask
        try:
            parse_bundle(bytes(changed), "changed", trusted)
        except BundleError:
            continue
        accepted.append(position)
    assert accepted == []


def test_no_byte_can_be_changed_even_where_nobody_asks_who_signed(data: bytes) -> None:
    for position in range(0, len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 0x04
        refusal(bytes(changed), None)


def test_no_end_can_be_cut_off(data: bytes, trusted: list[PublicKey]) -> None:
    for length in range(len(data)):
        refusal(data[:length], trusted)


@pytest.mark.parametrize("more", [b"\0", b"PK\x05\x06" + bytes(18), b"x" * 1000])
def test_nothing_can_be_put_before_or_behind(
    data: bytes, trusted: list[PublicKey], more: bytes
) -> None:
    assert "fetch it again" in refusal(data + more, trusted)
    assert "fetch it again" in refusal(more + data, trusted)


def test_nothing_can_be_put_between_members_and_directory(
    data: bytes, trusted: list[PublicKey]
) -> None:
    directory = data.index(b"PK\x01\x02")
    assert "byte for byte" in refusal(data[:directory] + b"?" + data[directory:], trusted)


def test_a_cut_download_says_what_is_missing(data: bytes, trusted: list[PublicKey]) -> None:
    start = data.index(MODEL)
    assert refusal(data[: start + 10], trusted) == (
        f"hall-7.bundle: ends within model.onnx: 10 of its {len(MODEL)} bytes are there; "
        "fetch it again"
    )


def test_a_changed_network_is_told_by_its_digest(data: bytes, trusted: list[PublicKey]) -> None:
    changed = data.replace(MODEL, MODEL.upper())
    found = hashlib.sha256(MODEL.upper()).hexdigest()[:12]
    said = hashlib.sha256(MODEL).hexdigest()[:12]
    assert refusal(changed, trusted) == (
        f"hall-7.bundle: model.onnx has sha256 {found}…, the signature says {said}…; fetch it again"
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_no_member_may_be_missing(
    members: dict[str, bytes], trusted: list[PublicKey], name: str
) -> None:
    rest = {other: content for other, content in members.items() if other != name}
    assert f"where {name} belongs" in refusal(packed(rest), trusted)


@pytest.mark.parametrize(
    "name", ["extra.py", "../../etc/passwd", "/etc/passwd", "model.onnx.data", "\x1b[2J", "ü"]
)
def test_no_member_may_be_added(
    members: dict[str, bytes], trusted: list[PublicKey], name: str
) -> None:
    message = refusal(packed(members | {name: b"x"}), trusted)
    assert f"and nothing else, holds {name!a} too" in message
    message = refusal(packed({name: b"x"} | members), trusted)
    assert f"has {name!a} where manifest.json belongs" in message


@pytest.mark.parametrize("name", MEMBERS)
def test_no_member_may_be_there_twice(
    members: dict[str, bytes], trusted: list[PublicKey], name: str
) -> None:
    entries = list(members.items())
    twice = [*entries, (name, b"another")]
    assert f"holds '{name}' too" in refusal(packed(twice), trusted)
    place = MEMBERS.index(name)
    refusal(packed([*entries[:place], (name, b"another"), *entries[place:]]), trusted)


def test_the_order_of_the_members_is_fixed(
    members: dict[str, bytes], trusted: list[PublicKey]
) -> None:
    message = refusal(packed(dict(reversed(members.items()))), trusted)
    assert "has 'signature.json' where manifest.json belongs" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_member_may_be_compressed(
    members: dict[str, bytes], trusted: list[PublicKey], method: int
) -> None:
    assert "must be stored, not compressed" in refusal(packed(members, method), trusted)


@pytest.mark.parametrize("size", [2**31, 2**32 - 1])
def test_a_size_that_lies_costs_no_memory(data: bytes, trusted: list[PublicKey], size: int) -> None:
    header = data.index(b"PK\x03\x04", 4)  # of model.onnx
    lie = struct.pack("<2I", size, size)
    changed = data[: header + 18] + lie + data[header + 26 :]
    assert f"of its {size:,} bytes are there" in refusal(changed, trusted)
    directory = data.index(b"PK\x01\x02")
    changed = data[: directory + 20] + lie + data[directory + 28 :]
    assert "byte for byte" in refusal(changed, trusted)


def test_a_million_entries_of_a_directory_cost_no_memory(
    data: bytes, trusted: list[PublicKey]
) -> None:
    directory = data.index(b"PK\x01\x02")
    entry = data[directory : data.index(b"PK\x01\x02", directory + 4)]
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    end[12:16] = struct.pack("<I", len(entry) * 100_000)
    refusal(data[:directory] + entry * 100_000 + bytes(end), trusted)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 5000, b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_at_all_is_refused(content: bytes, trusted: list[PublicKey]) -> None:
    assert "is no bundle; name the file that transom export wrote" in refusal(content, trusted)


def test_a_file_too_large_is_refused_before_it_is_read(
    tmp_path: Path, trusted: list[PublicKey]
) -> None:
    path = tmp_path / "huge.bundle"
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse: there is no such memory to read it into
    with pytest.raises(BundleError, match="has 1,000,000,000,000 bytes, 67,108,864 is the most"):
        read_bundle(path, trusted)


def test_a_bundle_in_memory_has_the_same_limit(
    data: bytes, trusted: list[PublicKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "MAX_BUNDLE_BYTES", len(data) - 1)
    assert f"has {len(data):,} bytes, {len(data) - 1:,} is the most" in refusal(data, trusted)


def test_a_bundle_too_large_is_not_written(
    tmp_path: Path, private_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "MAX_BUNDLE_BYTES", 1000)
    with pytest.raises(BundleError, match="1,000 is the most; use a smaller backbone"):
        write(tmp_path / "hall-7.bundle", private_key)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.bundle: cannot be read: No such file"):
        read_bundle(tmp_path / "absent.bundle", None)
    with pytest.raises(BundleError, match="cannot be read: Is a directory"):
        read_bundle(tmp_path, None)


def test_a_stranger_is_refused(data: bytes) -> None:
    stranger = public_half(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(SignatureError, match=r"hall-7\.bundle: no trusted key has signed this"):
        parse_bundle(data, "hall-7.bundle", [stranger])
    with pytest.raises(SignatureError, match="trusted: none"):
        parse_bundle(data, "hall-7.bundle", [])


@pytest.mark.parametrize("position", [0, 1])
def test_two_keys_may_be_trusted_at_once(
    data: bytes, trusted: list[PublicKey], position: int
) -> None:
    keys = [public_half(ec.generate_private_key(ec.SECP256R1()))]
    keys[position:position] = trusted
    assert_is_what_was_written(parse_bundle(data, "hall-7.bundle", keys))


def test_a_signature_of_other_files_is_refused(
    members: dict[str, bytes], private_key: PrivateKey, trusted: list[PublicKey]
) -> None:
    partial = {"model.onnx": hashlib.sha256(members["model.onnx"]).hexdigest()}
    members = members | {"signature.json": sign(partial, "hall-7", private_key)}
    assert "signature must cover manifest.json, model.onnx" in refusal(packed(members), trusted)


def test_a_signature_cannot_move_to_another_bundle(
    tmp_path: Path,
    members: dict[str, bytes],
    private_key: PrivateKey,
    trusted: list[PublicKey],
) -> None:
    other = write(tmp_path / "other", private_key, model=b"other")
    with zipfile.ZipFile(io.BytesIO(other)) as archive:
        members = members | {"signature.json": archive.read("signature.json")}
    assert "model.onnx has sha256" in refusal(packed(members), trusted)


@pytest.mark.parametrize("schema", [0, 2, None, "1", True, 1.0])
def test_an_unknown_schema_says_what_to_do(
    members: dict[str, bytes], private_key: PrivateKey, trusted: list[PublicKey], schema: object
) -> None:
    manifest = json.loads(members["manifest.json"]) | {"schema": schema}
    changed = members | {"manifest.json": json.dumps(manifest).encode()}
    message = refusal(signed(changed, private_key), trusted)
    if schema in (0, 2, None, "1") and schema is not True:
        assert f"has schema {schema!r}, this Transom reads schema 1; update Transom" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Hall 7"}, "matching regex .* at `\\$.name`"),
        ({"name": "hall-7\n"}, "matching regex .* at `\\$.name`"),
        ({"name": "../hall"}, "matching regex .* at `\\$.name`"),
        ({"sequence": -1}, r">= 0 - at `\$.sequence`"),
        ({"sequence": 2**53}, r"at `\$.sequence`"),
        ({"sequence": 1.5}, r"at `\$.sequence`"),
        ({"created": "yesterday"}, r"at `\$.created`"),
        ({"minimum_runtime": "new"}, r"at `\$.minimum_runtime`"),
        ({"input": {"size": 8}}, r">= 16 - at `\$.input.size`"),
        ({"input": {"size": 16, "scale": 2}}, "unknown field `scale`"),
        ({"tasks": []}, r"length >= 1 - at `\$.tasks`"),
        ({"embedding": 0}, r"at `\$.embedding`"),
        ({"precision": "fp16"}, r"at `\$.precision`"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_a_manifest_that_breaks_the_rules_is_refused_with_its_place(
    members: dict[str, bytes],
    private_key: PrivateKey,
    trusted: list[PublicKey],
    change: dict[str, Any],
    message: str,
) -> None:
    manifest = json.loads(members["manifest.json"]) | change
    changed = signed(members | {"manifest.json": json.dumps(manifest).encode()}, private_key)
    with pytest.raises(BundleError, match=f"hall-7.bundle: manifest.json: .*{message}"):
        parse_bundle(changed, "hall-7.bundle", trusted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["open"]}, "needs at least 2 classes"),
        ({"classes": ["closed", "ajar", "unknown"]}, "must not have a class 'unknown'"),
        ({"thresholds": [0.5]}, "has 3 classes and 1 thresholds"),
        ({"thresholds": [0.5, 0.5, 1.5]}, r"at `\$.tasks\[0\].thresholds\[2\]`"),
        ({"name": "embedding"}, "must not be named 'embedding'"),
    ],
)
def test_a_task_of_the_manifest_that_breaks_the_rules_is_refused(
    members: dict[str, bytes],
    private_key: PrivateKey,
    trusted: list[PublicKey],
    change: dict[str, Any],
    message: str,
) -> None:
    manifest = json.loads(members["manifest.json"])
    manifest["tasks"][0] |= change
    changed = signed(members | {"manifest.json": json.dumps(manifest).encode()}, private_key)
    with pytest.raises(BundleError, match=message):
        parse_bundle(changed, "hall-7.bundle", trusted)


@pytest.mark.parametrize("name", ["manifest.json", "report.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff", b'{"a":' * 100_000])
def test_a_member_that_is_no_json_object_is_refused(
    members: dict[str, bytes],
    private_key: PrivateKey,
    trusted: list[PublicKey],
    name: str,
    content: bytes,
) -> None:
    assert name in refusal(signed(members | {name: content}, private_key), trusted)


def test_a_signature_nested_without_end_is_refused(
    members: dict[str, bytes], trusted: list[PublicKey]
) -> None:
    refusal(packed(members | {"signature.json": b"[" * 100_000}), trusted)


CROPS, LOGITS = GOLDENS.crops, GOLDENS.logits


@pytest.mark.parametrize(
    ("goldens", "message"),
    [
        (Goldens(CROPS[0], LOGITS, 0.1), r"golden crops must be \(N, 16, 16, 3\) uint8, got \(16"),
        (Goldens(CROPS[:, :8], LOGITS, 0.1), r"got \(1, 8, 16, 3\) uint8"),
        (Goldens(CROPS.astype(np.float32), LOGITS, 0.1), r"got .* float32"),
        (Goldens(CROPS[:0], {"state": LOGITS["state"][:0]}, 0.1), "must be 1 to 1024, are 0"),
        (Goldens(CROPS, LOGITS, 0.0), "golden tolerance must be above 0 and below 100, is 0"),
        (Goldens(CROPS, LOGITS, float("nan")), "golden tolerance .* is nan"),
        (Goldens(CROPS, LOGITS, float("inf")), "golden tolerance .* is inf"),
        (Goldens(CROPS, {}, 0.1), r"golden logits must be \{'state': \(1, 3\)\}, are \{\}"),
        (Goldens(CROPS, {"kind": LOGITS["state"]}, 0.1), "golden logits must be"),
        (Goldens(CROPS, {"state": LOGITS["state"][:, :2]}, 0.1), "golden logits must be"),
        (Goldens(CROPS, {"state": LOGITS["state"] * np.float32("nan")}, 0.1), "finite float32"),
        (Goldens(CROPS, {"state": LOGITS["state"] + np.float32("inf")}, 0.1), "finite float32"),
        (Goldens(CROPS, {"state": LOGITS["state"].astype(np.float64)}, 0.1), "finite float32"),
    ],
)
def test_goldens_that_do_not_fit_are_neither_written_nor_read(
    tmp_path: Path,
    members: dict[str, bytes],
    private_key: PrivateKey,
    trusted: list[PublicKey],
    goldens: Goldens,
    message: str,
) -> None:
    with pytest.raises(BundleError, match=message):
        write(tmp_path / "hall-7.bundle", private_key, goldens=goldens)
    assert list(tmp_path.iterdir()) == []
    changed = signed(members | {"goldens.safetensors": goldens.encode()}, private_key)
    with pytest.raises(BundleError, match=message):
        parse_bundle(changed, "hall-7.bundle", trusted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "goldens.safetensors cannot be read"),
        (b"\xff" * 100, "goldens.safetensors cannot be read"),
        (struct.pack("<Q", 100_000) + b'{"a":' * 20_000, "goldens.safetensors cannot be read"),
        (safetensors.numpy.save({"crops": CROPS}), "goldens.safetensors cannot be read"),
        (
            safetensors.numpy.save({"crops": CROPS}, metadata={"tolerance": "small"}),
            "goldens.safetensors cannot be read",
        ),
        (
            safetensors.numpy.save(
                {"crops": CROPS, "state": LOGITS["state"]}, metadata={"tolerance": "0.1"}
            ),
            "must hold crops and logits.<task>, holds 'state'",
        ),
    ],
)
def test_goldens_of_another_form_are_refused(
    members: dict[str, bytes],
    private_key: PrivateKey,
    trusted: list[PublicKey],
    content: bytes,
    message: str,
) -> None:
    changed = signed(members | {"goldens.safetensors": content}, private_key)
    assert message in refusal(changed, trusted)


def test_goldens_survive_being_written_and_read_from_any_layout() -> None:
    crops = np.asfortranarray(np.repeat(CROPS, 3, axis=0))
    logits = {"state": np.repeat(LOGITS["state"], 3, axis=0)[:, ::-1]}
    tolerance = np.float64(0.1)
    read = Goldens.decode(Goldens(crops, logits, tolerance).encode())
    assert (read.crops == crops).all()
    assert (read.logits["state"] == logits["state"]).all()
    assert read.tolerance == 0.1


@pytest.mark.parametrize("energy", [float("nan"), float("inf"), float("-inf")])
def test_an_unknown_rule_that_json_cannot_say_is_refused(energy: float) -> None:
    with pytest.raises(
        ValueError, match=f"max_energy must be a finite number or None, got {energy}"
    ):
        UnknownRule(max_energy=energy)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Hall 7"},
        {"sequence": -1},
        {"created": "today"},
        {"embedding": 0},
        {"schema": 2},
    ],
)
def test_a_manifest_that_no_reader_would_take_is_not_written(
    tmp_path: Path, private_key: PrivateKey, change: dict[str, Any]
) -> None:
    manifest = msgspec.structs.replace(MANIFEST, **change)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        write(tmp_path / "hall-7.bundle", private_key, manifest=manifest)
    assert list(tmp_path.iterdir()) == []


names = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True).filter(
    lambda n: n not in ("unknown", "image", "zone", "group", "split", "embedding")
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    tasks = []
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        classes = tuple(draw(st.lists(names, min_size=2, max_size=4, unique=True)))
        share = st.floats(0.0, 1.0)
        tasks.append(
            TaskSpec(
                name=name,
                classes=classes,
                ordinal=draw(st.booleans()),
                thresholds=tuple(draw(share) for _ in classes),
                unknown=UnknownRule(max_energy=draw(st.none() | st.floats(-1e6, 1e6))),
            )
        )
    return Manifest(
        name=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)),
        sequence=draw(st.integers(0, 2**53 - 1)),
        created="2026-11-23T12:00:00.123456+00:00",
        input=InputSpec(size=draw(st.integers(16, 1024)), margin=draw(st.floats(0.0, 1.0))),
        tasks=tuple(tasks),
        embedding=draw(st.integers(1, 65536)),
        precision=draw(st.sampled_from(["int8", "float32"])),
        metrics=draw(st.dictionaries(st.text(max_size=8), json_values, max_size=3)),
        minimum_runtime=draw(st.sampled_from(["0.1.0", "1.0", "2.11.3rc1"])),
    )


@given(manifests())
@settings(deadline=None, max_examples=30)
def test_a_manifest_survives_being_written_and_read(manifest: Manifest) -> None:
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


def parses_or_is_refused(data: bytes, trusted: list[PublicKey] | None) -> None:
    message = "any: was accepted"
    try:
        parse_bundle(data, "any", trusted)
    except BundleError as error:
        message = str(error)
    assert message.startswith("any: ")


relaxed = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@given(st.binary(max_size=400))
@relaxed
def test_any_bytes_are_refused_as_a_bundle(content: bytes) -> None:
    refusal(content, None)
    refusal(b"PK\x03\x04" + content, None)


@given(edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 40))))
@relaxed
def test_no_edit_of_the_file_ends_in_another_error(
    data: bytes, edits: list[tuple[float, bytes, int]]
) -> None:
    changed = data
    for where, inserted, dropped in edits:
        place = int(where * len(changed))
        changed = changed[:place] + inserted + changed[place + dropped :]
    parses_or_is_refused(changed, None)


@given(
    name=st.sampled_from(MEMBERS[:-1]),
    where=st.floats(0, 1),
    inserted=st.binary(max_size=6),
    dropped=st.integers(0, 12),
)
@relaxed
def test_no_edit_of_a_signed_member_ends_in_another_error(
    members: dict[str, bytes],
    private_key: PrivateKey,
    name: str,
    where: float,
    inserted: bytes,
    dropped: int,
) -> None:
    content = members[name]
    place = int(where * len(content))
    changed = content[:place] + inserted + content[place + dropped :]
    parses_or_is_refused(signed(members | {name: changed}, private_key), [public_half(private_key)])


@given(key=st.sampled_from(sorted(msgspec.structs.asdict(MANIFEST))), value=json_values)
@relaxed
def test_no_value_in_a_manifest_ends_in_another_error(
    members: dict[str, bytes], private_key: PrivateKey, key: str, value: object
) -> None:
    manifest = json.loads(members["manifest.json"]) | {key: value}
    changed = signed(members | {"manifest.json": json.dumps(manifest).encode()}, private_key)
    parses_or_is_refused(changed, None)


@given(value=json_values, depth=st.integers(0, 3))
@relaxed
def test_no_value_in_a_signature_ends_in_another_error(
    members: dict[str, bytes], value: object, depth: int
) -> None:
    signature = json.loads(members["signature.json"])
    places: list[Any] = [
        (signature, "dsseEnvelope"),
        (signature["dsseEnvelope"], "signatures"),
        (signature["verificationMaterial"], "publicKey"),
        (signature["dsseEnvelope"], "payload"),
    ]
    container, key = places[depth]
    container[key] = (
        base64.b64encode(json.dumps(value).encode()).decode() if key == "payload" else value
    )
    parses_or_is_refused(packed(members | {"signature.json": json.dumps(signature).encode()}), None)


@given(
    header=st.dictionaries(
        st.sampled_from(["crops", "logits.state", "__metadata__", "x"]),
        json_values
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["U8", "F32", "F64", "BF16", "F8_E5M2", "BOOL", "?"]),
                "shape": st.lists(st.integers(0, 2**40), max_size=4),
                "data_offsets": st.tuples(st.integers(0, 20), st.integers(0, 20)),
            }
        ),
    )
)
@relaxed
def test_no_header_of_the_goldens_ends_in_another_error(header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    message = "goldens.safetensors was accepted"
    try:
        Goldens.decode(struct.pack("<Q", len(text)) + text + bytes(20))
    except BundleError as error:
        message = str(error)
    assert "goldens.safetensors" in message


def test_a_guard_comes_back_as_it_was_written(
    tmp_path: Path, private_key: PrivateKey, trusted: list[PublicKey]
) -> None:
    write(tmp_path / "a.bundle", private_key, goldens=replace(GOLDENS, guard=GUARD))
    guard = read_bundle(tmp_path / "a.bundle", trusted).goldens.guard
    assert guard is not None
    assert guard.embedding == pytest.approx(GUARD.embedding, rel=1e-3, abs=0.1)
    assert guard.logits["state"] == pytest.approx(GUARD.logits["state"], rel=1e-3)
    assert guard.targets["state"].tolist() == [0, -1]


def test_a_guard_is_left_out_where_there_is_none(
    tmp_path: Path, private_key: PrivateKey, trusted: list[PublicKey]
) -> None:
    write(tmp_path / "a.bundle", private_key)
    assert read_bundle(tmp_path / "a.bundle", trusted).goldens.guard is None
    assert b"guard" not in GOLDENS.encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": np.zeros((2, 3), np.float32)}, "embedding must be \\(1 to 256, 4\\)"),
        ({"embedding": np.zeros((2, 4), np.float32) * np.nan}, "logits must be finite"),
        ({"logits": {"state": np.zeros((2, 2), np.float32)}}, "guard's logits must be"),
        ({"targets": {"state": np.array([0, 3])}}, "must be -1 to 2, are 0 to 3"),
        ({"targets": {}}, "guard's targets must be"),
    ],
)
def test_a_guard_that_does_not_fit_the_network_is_refused(
    tmp_path: Path, private_key: PrivateKey, changes: dict[str, Any], message: str
) -> None:
    guard = replace(GUARD, **changes)
    with pytest.raises(BundleError, match=message):
        write(tmp_path / "a.bundle", private_key, goldens=replace(GOLDENS, guard=guard))


@pytest.mark.parametrize("name", ["guard.embedding", "guard.scale"])
def test_a_guard_of_which_a_part_is_missing_is_refused(name: str) -> None:
    tensors = safetensors.numpy.load(replace(GOLDENS, guard=GUARD).encode())
    del tensors[name]
    with pytest.raises(BundleError, match="guard must have"):
        Goldens.decode(safetensors.numpy.save(tensors, metadata={"tolerance": "0.01"}))
