"""Signatures of another implementation of the OpenSSF model-signing format.

The golden folder was signed by model_signing 1.1.1 of the sigstore project:
`model_signing sign key FOLDER --signature FOLDER/signature.json --private_key KEY`.
"""

import hashlib
from pathlib import Path

import pytest

from transom.errors import SignatureError
from transom.signing import load_public_key, new_key, verify

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
