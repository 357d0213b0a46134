"""Signatures in the OpenSSF model-signing v1.0 format, with an ECDSA P-256 key.

Any tool for that format verifies what `sign` writes, and `verify` reads what such a tool signed
with a P-256 key: a sigstore bundle (JSON) around a DSSE envelope around an in-toto statement that
lists the SHA-256 of every file.

References:
    https://github.com/ossf/model-signing-spec
    https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
"""

import base64
import binascii
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from transom.atomic import write_file
from transom.errors import BundleError, SignatureError, brief

PrivateKey = ec.EllipticCurvePrivateKey

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class PublicKey(NamedTuple):
    """A key that may sign, and where it was read from."""

    key: ec.EllipticCurvePublicKey
    origin: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the PEM form, hexadecimal; the `hint` of a signature names its key so."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def pem(self) -> bytes:
        """PEM form."""
        return _pem(self.key)


def new_key(path: Path) -> PublicKey:
    """Write a new private key to `path` (mode 0600) and its public half beside it as `.pub`.

    Raises:
        FileExistsError: One of the two files is there already; a key is never overwritten.
        OSError: One of them cannot be written; neither is there then.
        SignatureError: `path` ends in `.pub`, which is the public half's name.
    """
    if path.suffix == ".pub":
        raise SignatureError(
            f"{path}: a private key must not end in .pub, its public half is called so; "
            "leave the ending away"
        )
    public_path = path.with_suffix(".pub")
    key = ec.generate_private_key(ec.SECP256R1())
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_pair({path: (private_pem, 0o600), public_path: (_pem(key.public_key()), 0o644)})
    return PublicKey(key.public_key(), str(public_path))


def _write_pair(halves: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write new files, their content and mode by path: all of them or none."""
    made: list[Path] = []
    try:
        for path in halves:
            try:
                path.touch(mode=0o600, exist_ok=False)
            except FileExistsError as error:
                raise FileExistsError(
                    f"{path}: exists already; a key is never overwritten"
                ) from error
            made.append(path)
        for path, (pem, mode) in halves.items():
            write_file(path, pem, mode)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.unlink()
        raise


def load_private_key(path: Path) -> PrivateKey:
    """Read a private key written by `new_key` or by any tool that writes PEM.

    Raises:
        SignatureError: The file is missing, not PEM, encrypted, or not ECDSA P-256.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        advice = "; make one with: transom keys new" if is_missing else ""
        raise SignatureError(
            f"{path}: cannot be read as a private key: {error.strerror}{advice}"
        ) from error
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        # Not a new key: the devices trust this one.
        raise SignatureError(
            f"{path}: cannot be read as a private key: it has a passphrase, and must have none; "
            "write it without: "
            f"openssl pkcs8 -topk8 -nocrypt -in {shlex.quote(str(path))} -out plain.pem"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(
            f"{path}: cannot be read as a private key: {error}; make one with: transom keys new"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise SignatureError(
            f"{path}: must be an ECDSA P-256 key, is {_kind(key)}; make one with: transom keys new"
        )
    return key


def public_half(key: PrivateKey) -> PublicKey:
    """Return the public key that verifies what `key` signs."""
    return PublicKey(key.public_key(), "private key")


def load_public_key(path: Path) -> PublicKey:
    """Read a public key in PEM.

    Raises:
        SignatureError: The file is missing, not PEM, or not ECDSA P-256.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise SignatureError(
            f"{path}: cannot be read as a public key: {error}; "
            "copy the .pub file that transom keys new wrote"
        ) from error
    return parse_public_key(pem, str(path))


def parse_public_key(pem: bytes, origin: str) -> PublicKey:
    """Return a public key from PEM.

    Args:
        pem: The text.
        origin: Where it is from, for messages.

    Raises:
        SignatureError: It is not PEM, or not ECDSA P-256.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(
            f"{origin}: cannot be read as a public key: {error}; "
            "copy the .pub file that transom keys new wrote"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise SignatureError(
            f"{origin}: must be an ECDSA P-256 public key, is {_kind(key)}; "
            "copy the .pub file that transom keys new wrote"
        )
    return PublicKey(key, origin)


def key_files(folder: Path) -> list[Path]:
    """Return the public keys of a folder, by name; what macOS puts beside them (`._NAME`) not."""
    return [path for path in sorted(folder.glob("*.pub")) if not path.name.startswith(".")]


def load_trusted_keys(folder: Path) -> tuple[PublicKey, ...]:
    """Read every `*.pub` of a folder, by name.

    Raises:
        SignatureError: The folder holds no key, or one that cannot be read.
    """
    keys = tuple(map(load_public_key, key_files(folder)))
    if not keys:
        raise SignatureError(
            f"{folder}: holds no public key (*.pub), so no bundle can be trusted; "
            "copy the .pub file that transom keys new wrote"
        )
    return keys


def sign(digests: Mapping[str, str], name: str, key: PrivateKey) -> bytes:
    """Sign a set of files.

    Args:
        digests: SHA-256, hexadecimal, by file name.
        name: What the files are together; the statement's subject.
        key: ECDSA P-256. The signature is deterministic (RFC 6979): same input, same bytes.

    Returns:
        The signature file, JSON.
    """
    payload = msgspec.json.encode(_statement(digests, name))
    signature = key.sign(_pae(payload), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return _write_envelope(_Envelope(payload, signature, public_half(key).fingerprint))


def is_as_written(signature: bytes, trusted: Sequence[PublicKey] | None) -> bool:
    """Return whether a signature file is, byte for byte, what `sign` writes.

    Fields beside the statement are not signed: somebody on the way could write anything there, and
    the file would verify all the same.

    Args:
        signature: The signature file, verified.
        trusted: As in `verify`: the key that is named must be the one of them that has signed.
    """
    envelope = _read_envelope(signature)
    is_named = trusted is None or _require_trust(envelope, trusted).fingerprint == envelope.hint
    return is_named and _write_envelope(envelope) == signature


def signer_of(signature: bytes) -> str:
    """Return the fingerprint of the key that a signature file names; see `is_as_written`."""
    return _read_envelope(signature).hint


def verify(signature: bytes, trusted: Sequence[PublicKey] | None) -> dict[str, str]:
    """Return the digests that a signature vouches for.

    Args:
        signature: The signature file.
        trusted: Keys of which one must have signed. None reads the list without trusting it, for
            the workstation that made the files; a device never passes None.

    Returns:
        SHA-256, hexadecimal, by file name.

    Raises:
        SignatureError: No trusted key has signed this.
        BundleError: The file is not a signature of this format.
    """
    envelope = _read_envelope(signature)
    if trusted is not None:
        _require_trust(envelope, trusted)
    return _read_statement(envelope.payload)


class _Envelope(NamedTuple):
    payload: bytes
    signature: bytes
    hint: str


def _write_envelope(envelope: _Envelope) -> bytes:
    return msgspec.json.encode(
        {
            "mediaType": _BUNDLE_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": envelope.hint},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(envelope.payload).decode(),
                "payloadType": _PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(envelope.signature).decode(), "keyid": ""}],
            },
        }
    )


def _read_envelope(signature: bytes) -> _Envelope:
    try:
        file = msgspec.json.decode(signature)
        if file["mediaType"] != _BUNDLE_TYPE:
            found = ascii(file["mediaType"])[:80]
            raise BundleError(f"signature must be of type {_BUNDLE_TYPE}, is {found}")
        envelope = file["dsseEnvelope"]
        if envelope["payloadType"] != _PAYLOAD_TYPE or len(envelope["signatures"]) != 1:
            raise BundleError("signature must hold one signed in-toto statement")
        return _Envelope(
            base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(envelope["signatures"][0]["sig"], validate=True),
            str(file["verificationMaterial"]["publicKey"].get("hint") or ""),
        )
    except (
        msgspec.DecodeError,
        RecursionError,
        binascii.Error,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise BundleError(f"signature is not a model-signing signature: {brief(error)}") from error


def _require_trust(envelope: _Envelope, trusted: Sequence[PublicKey]) -> PublicKey:
    for candidate in trusted:
        try:
            candidate.key.verify(
                envelope.signature, _pae(envelope.payload), ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            continue
        return candidate
    known = ", ".join(f"{key.fingerprint[:12]}… ({key.origin})" for key in trusted) or "none"
    # The hint is not signed: only what looks like a fingerprint reaches a terminal.
    is_fingerprint = re.fullmatch("[0-9a-f]{64}", envelope.hint) is not None
    signer = f"key {envelope.hint[:12]}…" if is_fingerprint else "an unnamed key"
    raise SignatureError(
        f"no trusted key has signed this; signed by {signer}, trusted: {known}; "
        "if you know the signer, put its .pub file beside the trusted ones"
    )


def _read_statement(payload: bytes) -> dict[str, str]:
    try:
        statement: Any = msgspec.json.decode(payload)
        if statement["_type"] != _STATEMENT_TYPE or statement["predicateType"] != _PREDICATE_TYPE:
            raise BundleError(f"signed statement must be of type {_PREDICATE_TYPE}")
        predicate = statement["predicate"]
        if predicate["serialization"]["method"] != "files":
            raise BundleError("signed statement must list files one by one")
        digests: dict[str, str] = {}
        for resource in predicate["resources"]:
            if resource["algorithm"] != "sha256" or resource["name"] in digests:
                raise BundleError("signed statement must give one sha256 for each file")
            digests[resource["name"]] = resource["digest"]
        subject = statement["subject"][0]["digest"]["sha256"]
        if subject != _root_digest(digests):
            raise BundleError("signed statement contradicts itself: its subject is another digest")
    except (
        msgspec.DecodeError,
        RecursionError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
    ) as error:
        raise BundleError(f"signed statement cannot be read: {brief(error)}") from error
    return digests


def _statement(digests: Mapping[str, str], name: str) -> dict[str, Any]:
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root_digest(digests)}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [
                {"name": file, "algorithm": "sha256", "digest": digests[file]}
                for file in sorted(digests)
            ],
        },
    }


def _root_digest(digests: Mapping[str, str]) -> str:
    """SHA-256 over the files' digests, concatenated in the order of their names."""
    together = hashlib.sha256()
    for name in sorted(digests):
        together.update(bytes.fromhex(digests[name]))
    return together.hexdigest()


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed."""
    return b"DSSEv1 %d %s %d %s" % (
        len(_PAYLOAD_TYPE),
        _PAYLOAD_TYPE.encode(),
        len(payload),
        payload,
    )


def _kind(key: object) -> str:
    curve = getattr(key, "curve", None)
    return f"on curve {curve.name}" if curve is not None else f"a {type(key).__name__}"


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
