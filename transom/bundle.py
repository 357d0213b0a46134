"""The bundle: one file that carries a network from the workstation to the devices.

A bundle is a zip of stored members in a fixed order, with fixed dates. Because the same members
always give the same bytes, a reader can demand that the file be exactly what the writer would
have written: a byte that belongs to no member, a changed header or a second central directory
is refused without a special case for any of them.
"""

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from transom.atomic import write_file
from transom.errors import BundleError, SignatureError, start_of
from transom.goldens import Goldens, check_parts
from transom.manifest import Manifest, read_manifest
from transom.session import Precision
from transom.signing import PrivateKey, PublicKey, is_as_written, sign, signer_of, verify

MEMBERS = ("manifest.json", "model.onnx", "goldens.safetensors", "report.json", "signature.json")
MAX_BUNDLE_BYTES = 64 * 1024 * 1024
"""Larger files are refused before they are read: a Pi with 1 GB must survive any of them."""

MOST_TEXT_BYTES = {"manifest.json": 1 << 20, "report.json": 4 << 20, "signature.json": 1 << 16}
"""Of members that are read as JSON, which takes many times its size in memory. The signature is
read before it is known who has signed."""

_SIGNED = MEMBERS[:-1]
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_ZIP_MEMBER = struct.Struct("<4s5H3I2H")  # the header that stands before each member


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and verified.

    Attributes:
        manifest: What it says of itself.
        model: The ONNX network, bytes. Load it from these, never from a path: what was verified
            is then what runs, and ONNX cannot refer to files outside.
        goldens: Vectors to try the network with.
        report: The evaluation, as `transom export` wrote it.
        digest: SHA-256 of the file, hexadecimal.
        signer: Fingerprint of the key that has signed it, where it was read with trusted keys; else
            of the one that it names.
    """

    manifest: Manifest
    model: bytes
    goldens: Goldens
    report: dict[str, Any]
    digest: str
    signer: str

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """In which precisions the network can be run, its own first."""
        own = self.manifest.precision
        if own == "int8" and self.goldens.float32_tolerance is not None:
            return own, "float32"
        return (own,)


def write_bundle(
    path: Path,
    *,
    manifest: Manifest,
    model: bytes,
    goldens: Goldens,
    report: Mapping[str, Any],
    key: PrivateKey,
) -> str:
    """Write and sign a bundle; the file appears whole or not at all.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        BundleError: The parts do not fit each other, or the file would be too large.
        OSError: The file cannot be written.
    """
    check_parts(manifest, goldens)
    written_manifest = _json(manifest)
    read_manifest(written_manifest)  # a struct made in Python has not been checked yet
    members = {
        "manifest.json": written_manifest,
        "model.onnx": model,
        "goldens.safetensors": goldens.encode(),
        "report.json": _json(report),
    }
    for name, content in members.items():
        _check_size(name, len(content))
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    members["signature.json"] = sign(digests, manifest.name, key)
    data = _zip(members)
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"{path}: would have {len(data):,} bytes, {MAX_BUNDLE_BYTES:,} is the most; "
            "use a smaller backbone"
        )
    write_file(path, data)
    return hashlib.sha256(data).hexdigest()


def read_bundle(path: Path, trusted_keys: Sequence[PublicKey] | None) -> Bundle:
    """Read and verify a bundle file.

    Args:
        path: The file.
        trusted_keys: Keys of which one must have signed it. None checks everything but who has
            signed: for the workstation's own files only.

    Raises:
        SignatureError: No trusted key has signed it.
        BundleError: The file is missing or not exactly what a writer of bundles writes.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BUNDLE_BYTES:
            raise BundleError(f"{path}: has {size:,} bytes, {MAX_BUNDLE_BYTES:,} is the most")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_bundle(data, str(path), trusted_keys)


def parse_bundle(data: bytes, name: str, trusted_keys: Sequence[PublicKey] | None) -> Bundle:
    """Verify a bundle that is in memory; `name` is what errors call it. See `read_bundle`.

    Raises:
        SignatureError: No trusted key has signed it.
        BundleError: It is not exactly what a writer of bundles writes.
    """
    try:
        if len(data) > MAX_BUNDLE_BYTES:
            raise BundleError(f"has {len(data):,} bytes, {MAX_BUNDLE_BYTES:,} is the most")
        members = _unzip(data)
        _check_signature(members, trusted_keys)
        if not is_as_written(members["signature.json"], trusted_keys) or _zip(members) != data:
            raise BundleError(
                "is not, byte for byte, what a writer of bundles writes; fetch it again"
            )
        manifest = read_manifest(members["manifest.json"])
        goldens = Goldens.decode(members["goldens.safetensors"])
        check_parts(manifest, goldens)
        report = msgspec.json.decode(members["report.json"], type=dict[str, Any])
    except SignatureError as error:
        raise SignatureError(f"{name}: {error}") from error
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{name}: report.json cannot be read: {start_of(error)}") from error
    return Bundle(
        manifest,
        members["model.onnx"],
        goldens,
        report,
        hashlib.sha256(data).hexdigest(),
        signer_of(members["signature.json"]),
    )


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=1)


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in MEMBERS:
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    """Cut a file at its members' headers, in one pass that copies what is there and no more.

    Only headers are read: that the rest of the file is what `_zip` writes is checked against
    `_zip` itself. The archive's directory is never trusted, so no entry of it can lie.
    """
    members: dict[str, bytes] = {}
    offset = 0
    for name in MEMBERS:
        found, size, start = _read_member_header(data, offset)
        if found is None and not members:
            raise BundleError(
                "is no bundle; name the file that transom export wrote, or fetch it again"
            )
        if found != name:
            raise BundleError(
                f"must hold {', '.join(MEMBERS)} in this order, "
                f"has {_shown(found)} where {name} belongs; fetch it again"
            )
        _check_size(name, size)
        offset = start + size
        if offset > len(data):
            raise BundleError(
                f"ends within {name}: {len(data) - start:,} of its {size:,} bytes are there; "
                "fetch it again"
            )
        members[name] = data[start:offset]
    if data[offset : offset + 4] == b"PK\x03\x04":
        further, _, _ = _read_member_header(data, offset)
        raise BundleError(
            f"must hold {', '.join(MEMBERS)} and nothing else, holds {_shown(further)} too"
        )
    return members


def _check_size(name: str, size: int) -> None:
    most = MOST_TEXT_BYTES.get(name)
    if most is not None and size > most:
        raise BundleError(f"{name} has {size:,} bytes, {most:,} is the most; export again")


def _read_member_header(data: bytes, offset: int) -> tuple[str | None, int, int]:
    """Return a member's name, its size in bytes and where its content begins."""
    try:
        magic, _, _, method, _, _, _, size, full_size, name_length, extra_length = (
            _ZIP_MEMBER.unpack_from(data, offset)
        )
    except struct.error:
        return None, 0, offset
    if magic != b"PK\x03\x04":
        return None, 0, offset
    start = offset + _ZIP_MEMBER.size
    name = data[start : start + name_length].decode("utf-8", "replace")
    if method != zipfile.ZIP_STORED or size != full_size:
        raise BundleError(f"{_shown(name)} must be stored, not compressed; fetch it again")
    return name, size, start + name_length + extra_length


def _shown(name: str | None) -> str:
    """Return a name that a stranger chose, fit for a terminal."""
    return "no member" if name is None else ascii(name[:64])


def _check_signature(
    members: Mapping[str, bytes], trusted_keys: Sequence[PublicKey] | None
) -> None:
    digests = verify(members["signature.json"], trusted_keys)
    if set(digests) != set(_SIGNED):
        raise BundleError(
            f"signature must cover {', '.join(_SIGNED)}, "
            f"covers {_shown(', '.join(sorted(digests)))}"
        )
    for name in _SIGNED:
        found = hashlib.sha256(members[name]).hexdigest()
        if found != digests[name]:
            raise BundleError(
                f"{name} has sha256 {found[:12]}…, the signature says {digests[name][:12]}…; "
                "fetch it again"
            )
