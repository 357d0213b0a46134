"""What several of the contract's tests need."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from transom.signing import PrivateKey

GOLDEN = Path(__file__).parents[1] / "golden"

GoldenFile = Callable[[str, bytes], bytes]


@pytest.fixture(scope="session")
def golden_file() -> GoldenFile:
    """Return `(name, current) -> kept`: what tests/golden/ holds under a name.

    With TRANSOM_UPDATE_GOLDEN=1 the file is written anew first; read the difference in git.
    """

    def read(name: str, current: bytes) -> bytes:
        path = GOLDEN / name
        if os.environ.get("TRANSOM_UPDATE_GOLDEN") == "1":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(current)
        return path.read_bytes()

    return read


@pytest.fixture(scope="session")
def private_key() -> PrivateKey:
    """Return a key that nobody but this test run trusts."""
    return ec.generate_private_key(ec.SECP256R1())
