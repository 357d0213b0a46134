"""Signatures of another implementation of the OpenSSF model-signing format, both ways.

The golden folder was signed by model_signing 1.1.1 of the sigstore project:
`model_signing sign key FOLDER --signature FOLDER/signature.json --private_key KEY`. What stands
here is tried again with the version that is installed, by its command line.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.faults.proof import Proof
from tests.transom.test_bundle import write
from transom.errors import SignatureError
from transom.signing import load_private_key, load_public_key, new_key, sign, verify

GOLDEN = Path(__file__).parents[1] / "golden" / "oms"
SIGNED = ("hello.txt", "manifest.json")


def test_accepts_what_another_tool_of_the_format_signed() -> None:
    key = load_public_key(GOLDEN / "signer.pub")
    digests = verify((GOLDEN / "signature.json").read_bytes(), [key])
    assert digests == {
        name: hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() for name in SIGNED
    }


def test_names_the_key_as_another_tool_names_it() -> None:
    key = load_public_key(GOLDEN / "signer.pub")
    assert key.fingerprint.encode() in (GOLDEN / "signature.json").read_bytes()


def test_refuses_another_tools_signature_by_a_key_that_is_not_trusted(tmp_path: Path) -> None:
    stranger = new_key(tmp_path / "stranger.key")
    with pytest.raises(SignatureError, match="no trusted key has signed this"):
        verify((GOLDEN / "signature.json").read_bytes(), [stranger])


def model_signing(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the other tool."""
    # Not every version's exit code was to be trusted: what it says is looked at too.
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def unpacked(folder: Path) -> tuple[Path, Path, Path]:
    """Write a bundle and unpack it; return the folder, its signature beside it, and the key."""
    new_key(folder / "home.pem")
    write(folder / "home.bundle", load_private_key(folder / "home.pem"))
    with zipfile.ZipFile(folder / "home.bundle") as archive:
        archive.extractall(folder / "bundle")
    signature = folder / "signature.json"
    (folder / "bundle" / "signature.json").rename(signature)
    return folder / "bundle", signature, folder / "home.pub"


def test_the_other_tool_verifies_a_bundle_and_finds_what_was_changed_in_it(
    tmp_path: Path, proof: Proof
) -> None:
    claim = proof(13, "`model_signing verify key` on an unpacked bundle", unit="files changed",
                  fast=2, full=2)  # fmt: skip
    bundle, signature, key = unpacked(tmp_path)
    verify_it = ("verify", "key", bundle, "--signature", signature, "--public_key", key)
    good = model_signing(*verify_it)
    assert good.returncode == 0, good.stderr
    assert "succeeded" in good.stdout + good.stderr
    for name in ("model.onnx", "extra.txt"):
        file = bundle / name
        was = file.read_bytes() if file.exists() else None
        file.write_bytes(b"another")
        bad = model_signing(*verify_it)
        assert bad.returncode != 0
        assert "failed" in (bad.stdout + bad.stderr).lower()
        file.unlink() if was is None else file.write_bytes(was)
    new_key(tmp_path / "stranger.pem")
    assert model_signing(*verify_it[:-1], tmp_path / "stranger.pub").returncode != 0
    claim.found("verified as it was; refused with a changed file, a further one, another key")


def test_what_the_other_tool_signs_is_verified_here_and_a_changed_file_is_not(
    tmp_path: Path, proof: Proof
) -> None:
    claim = proof(13, "a folder signed by `model_signing sign key`", unit="folders")
    private, public = tmp_path / "home.pem", tmp_path / "home.pub"
    new_key(private)
    folder, signature = tmp_path / "folder", tmp_path / "signature.json"
    folder.mkdir()
    for name in SIGNED:
        (folder / name).write_bytes((GOLDEN / name).read_bytes())
    done = model_signing("sign", "key", folder, "--signature", signature, "--private_key", private)
    assert done.returncode == 0, done.stderr
    key = load_public_key(public)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SIGNED}
    assert verify(signature.read_bytes(), [key]) == digests
    again = sign(digests, folder.name, load_private_key(private))
    assert verify(again, [key]) == digests
    new_key(tmp_path / "stranger.pem")
    with pytest.raises(SignatureError):
        verify(signature.read_bytes(), [load_public_key(tmp_path / "stranger.pub")])
    claim.found("verified with its key, refused with another")
