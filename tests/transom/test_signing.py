import base64
import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from transom.errors import BundleError, SignatureError
from transom.signing import (
    PrivateKey,
    load_private_key,
    load_public_key,
    load_trusted_keys,
    new_key,
    public_half,
    sign,
    verify,
)

DIGESTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.json", "b.onnx")}


def pem(key: Any) -> bytes:
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return data


def public_pem(key: Any) -> bytes:
    data: bytes = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def test_a_trusted_signature_vouches_for_the_digests(private_key: PrivateKey) -> None:
    assert verify(sign(DIGESTS, "hall", private_key), [public_half(private_key)]) == DIGESTS


def test_the_same_input_gives_the_same_bytes(private_key: PrivateKey) -> None:
    turned = dict(reversed(DIGESTS.items()))
    assert sign(DIGESTS, "hall", private_key) == sign(turned, "hall", private_key)


@pytest.mark.parametrize("position", [0, 1])
def test_either_of_two_trusted_keys_will_do(private_key: PrivateKey, position: int) -> None:
    trusted = [public_half(ec.generate_private_key(ec.SECP256R1()))]
    trusted.insert(position, public_half(private_key))
    assert verify(sign(DIGESTS, "hall", private_key), trusted) == DIGESTS


def test_refuses_a_stranger_and_names_him_and_whom_it_trusts(private_key: PrivateKey) -> None:
    friend = public_half(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(SignatureError) as refusal:
        verify(sign(DIGESTS, "hall", private_key), [friend])
    message = str(refusal.value)
    assert f"signed by key {public_half(private_key).fingerprint[:12]}…" in message
    assert f"trusted: {friend.fingerprint[:12]}… (private key)" in message


def test_without_any_trusted_key_nobody_is_trusted(private_key: PrivateKey) -> None:
    with pytest.raises(SignatureError, match="trusted: none"):
        verify(sign(DIGESTS, "hall", private_key), [])


def test_none_reads_without_trusting(private_key: PrivateKey) -> None:
    assert verify(sign(DIGESTS, "hall", private_key), None) == DIGESTS


def changed(signature: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    file = json.loads(signature)
    change(file)
    return json.dumps(file).encode()


def restated(signature: bytes, key: PrivateKey, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Change the statement and sign it anew."""
    file = json.loads(signature)
    envelope = file["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(
        key.sign(signed, ec.ECDSA(hashes.SHA256()))
    ).decode()
    return json.dumps(file).encode()


def test_a_hint_that_is_no_fingerprint_never_reaches_the_terminal(private_key: PrivateKey) -> None:
    def plant(file: dict[str, Any]) -> None:
        file["verificationMaterial"]["publicKey"]["hint"] = "\x1b[2Jgotcha"

    with pytest.raises(SignatureError, match="signed by an unnamed key") as refusal:
        verify(changed(sign(DIGESTS, "hall", private_key), plant), [])
    assert "gotcha" not in str(refusal.value)


def test_a_changed_statement_is_not_what_was_signed(private_key: PrivateKey) -> None:
    def swap(file: dict[str, Any]) -> None:
        payload = base64.b64decode(file["dsseEnvelope"]["payload"])
        file["dsseEnvelope"]["payload"] = base64.b64encode(
            payload.replace(b"a.json", b"c.json")
        ).decode()

    with pytest.raises(SignatureError, match="no trusted key has signed this"):
        verify(changed(sign(DIGESTS, "hall", private_key), swap), [public_half(private_key)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(mediaType="text/plain"), "must be of type .*is 'text/plain'"),
        (lambda f: f.pop("dsseEnvelope"), "not a model-signing signature"),
        (lambda f: f["dsseEnvelope"].update(payloadType="text/plain"), "one signed in-toto"),
        (lambda f: f["dsseEnvelope"].update(signatures=[]), "one signed in-toto"),
        (lambda f: f["dsseEnvelope"]["signatures"].append({}), "one signed in-toto"),
        (lambda f: f["dsseEnvelope"].update(payload="=?="), "not a model-signing signature"),
        (lambda f: f["dsseEnvelope"].update(payload=7), "not a model-signing signature"),
        (lambda f: f.update(verificationMaterial=[]), "not a model-signing signature"),
    ],
)
def test_refuses_an_envelope_of_another_form(
    private_key: PrivateKey, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    signature = changed(sign(DIGESTS, "hall", private_key), change)
    with pytest.raises(BundleError, match=message):
        verify(signature, [public_half(private_key)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(_type="other"), "must be of type"),
        (lambda s: s.update(predicateType="other"), "must be of type"),
        (lambda s: s["predicate"]["serialization"].update(method="shards"), "one by one"),
        (lambda s: s["predicate"]["resources"][0].update(algorithm="md5"), "one sha256 for each"),
        (
            lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
            "one sha256 for each",
        ),
        (lambda s: s["predicate"]["resources"].pop(), "contradicts itself"),
        (lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), "contradicts itself"),
        (lambda s: s["subject"].clear(), "cannot be read"),
        (lambda s: s["predicate"]["resources"][0].update(digest="xyz"), "cannot be read"),
        (lambda s: s["predicate"]["resources"][0].update(digest=5), "cannot be read"),
        (lambda s: s["predicate"]["resources"][0].update(name=["a"]), "cannot be read"),
        (lambda s: s.pop("predicate"), "cannot be read"),
    ],
)
def test_refuses_a_signed_statement_of_another_form(
    private_key: PrivateKey, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    signature = restated(sign(DIGESTS, "hall", private_key), private_key, change)
    with pytest.raises(BundleError, match=message):
        verify(signature, [public_half(private_key)])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_signature_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="not a model-signing signature"):
        verify(data, None)


def test_json_nested_without_end_is_refused() -> None:
    with pytest.raises(BundleError, match="not a model-signing signature"):
        verify(b'{"a":' * 100_000, None)


def test_a_new_key_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    public = new_key(tmp_path / "keys" / "house")
    key = load_private_key(tmp_path / "keys" / "house")
    assert public.origin == str(tmp_path / "keys" / "house.pub")
    assert load_public_key(tmp_path / "keys" / "house.pub").fingerprint == public.fingerprint
    assert verify(sign(DIGESTS, "hall", key), [public]) == DIGESTS


def test_only_its_owner_may_read_a_private_key(tmp_path: Path) -> None:
    new_key(tmp_path / "house")
    assert (tmp_path / "house").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "house.pub").stat().st_mode & 0o777 == 0o644


def test_two_new_keys_differ(tmp_path: Path) -> None:
    assert new_key(tmp_path / "a").fingerprint != new_key(tmp_path / "b").fingerprint


@pytest.mark.parametrize("taken", ["house", "house.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"{taken}: exists already; a key is never overwri"):
        new_key(tmp_path / "house")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(taken, b"precious")]


def test_a_link_that_leads_nowhere_is_not_replaced_by_a_key(tmp_path: Path) -> None:
    (tmp_path / "house").symlink_to(tmp_path / "stick" / "house")  # not plugged in
    with pytest.raises(FileExistsError, match="exists already"):
        new_key(tmp_path / "house")
    assert [path.name for path in tmp_path.iterdir()] == ["house"]
    assert (tmp_path / "house").is_symlink()


@pytest.mark.parametrize("failing", range(4))
def test_a_disk_that_fills_in_the_middle_leaves_no_half_of_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def refuse_one(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == failing + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_one)
    with pytest.raises(OSError, match=r"No space left.*house"):
        new_key(tmp_path / "house")
    assert list(tmp_path.iterdir()) == []
    assert new_key(tmp_path / "house").origin == str(tmp_path / "house.pub")


def test_refuses_to_write_both_halves_into_one_file(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=r"must not end in \.pub"):
        new_key(tmp_path / "house.pub")
    assert list(tmp_path.iterdir()) == []


OTHER_KEYS: dict[str, Callable[[], Any]] = {
    "secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", OTHER_KEYS)
def test_refuses_a_key_of_another_kind_and_says_which(tmp_path: Path, kind: str) -> None:
    key = OTHER_KEYS[kind]()
    (tmp_path / "key").write_bytes(pem(key))
    (tmp_path / "key.pub").write_bytes(public_pem(key.public_key()))
    with pytest.raises(SignatureError, match=f"must be an ECDSA P-256 key, is .*{kind}"):
        load_private_key(tmp_path / "key")
    with pytest.raises(SignatureError, match=f"must be an ECDSA P-256 public key, is .*{kind}"):
        load_public_key(tmp_path / "key.pub")


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_refuses_a_file_that_holds_no_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SignatureError, match=r"cannot be read as a private key.*transom keys new"):
        load_private_key(tmp_path / "key")
    with pytest.raises(SignatureError, match="cannot be read as a public key"):
        load_public_key(tmp_path / "key")


def test_refuses_an_encrypted_key(tmp_path: Path, private_key: PrivateKey) -> None:
    encrypted = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (tmp_path / "key").write_bytes(encrypted)
    with pytest.raises(
        SignatureError, match=r"cannot be read as a private key: it has a passphrase.*-nocrypt"
    ):
        load_private_key(tmp_path / "key")


def test_who_may_not_read_a_key_is_not_told_to_make_another(tmp_path: Path) -> None:
    with pytest.raises(SignatureError) as caught:
        load_private_key(tmp_path)  # a folder: root may read any file
    assert str(caught.value) == f"{tmp_path}: cannot be read as a private key: Is a directory"


def test_a_private_key_among_the_trusted_ones_is_refused(
    tmp_path: Path, private_key: PrivateKey
) -> None:
    (tmp_path / "house.pub").write_bytes(pem(private_key))
    with pytest.raises(SignatureError, match="cannot be read as a public key"):
        load_trusted_keys(tmp_path)


def test_reads_every_public_key_of_a_folder_by_name(tmp_path: Path) -> None:
    second, first = new_key(tmp_path / "b"), new_key(tmp_path / "a")
    (tmp_path / "README").write_text("not a key")
    found = load_trusted_keys(tmp_path)
    assert [key.fingerprint for key in found] == [first.fingerprint, second.fingerprint]


def test_what_macos_puts_beside_a_key_is_no_key(tmp_path: Path) -> None:
    public = new_key(tmp_path / "house")
    (tmp_path / "._house.pub").write_bytes(b"\x00\x05\x16\x07")
    assert [key.fingerprint for key in load_trusted_keys(tmp_path)] == [public.fingerprint]


@pytest.mark.parametrize("folder", ["", "absent"])
def test_a_folder_without_keys_says_what_to_copy(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SignatureError, match=r"holds no public key .* copy the \.pub file"):
        load_trusted_keys(tmp_path / folder)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="absent: cannot be read as a private key"):
        load_private_key(tmp_path / "absent")
