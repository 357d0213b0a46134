"""Which keys a device trusts, said over the air by whoever holds a recovery key.

A recovery key signs no bundles and lies where nothing runs. Its public half is on the device from
the first day, in a folder of its own, so a thief of the key that signs bundles can neither add a
key of theirs nor take the owner's away.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from transom.errors import BundleError, SignatureError
from transom.messages import Payload, decode, encode
from transom.signing import PrivateKey, PublicKey, parse_public_key, sign, verify
from transom.updates import Digest

_MEMBER = "keys.json"  # what the signature says that it is of: no bundle has such a member
_NAME = "transom-keys"
_MOST_KEYS = 16


class KeyStatement(Payload, frozen=True, kw_only=True):
    """What a recovery key's holder says. The newest counts, whole; earlier ones are void.

    Attributes:
        sequence: Above that of every earlier statement.
        trusted: Public keys, PEM, that may sign bundles beside those in the device's folder.
        revoked: Fingerprints of keys that may not, wherever they are.
    """

    sequence: Annotated[int, Meta(ge=1, lt=2**53)]
    trusted: Annotated[
        tuple[Annotated[str, Meta(max_length=1024)], ...], Meta(max_length=_MOST_KEYS)
    ] = ()
    revoked: Annotated[tuple[Digest, ...], Meta(max_length=256)] = ()

    def keys(self) -> tuple[PublicKey, ...]:
        """Return the keys that are added.

        Raises:
            SignatureError: One of them is no public key.
        """
        origin = f"key statement {self.sequence}"
        return tuple(parse_public_key(pem.encode(), origin) for pem in self.trusted)


class _Signed(Payload, frozen=True, kw_only=True):
    statement: str
    signature: str


def state(
    sequence: int, trusted: Sequence[PublicKey], revoked: Sequence[str], recovery: PrivateKey
) -> bytes:
    """Return a signed statement, the payload of `…/model/keys`.

    Args:
        sequence: Of the statement.
        trusted: Keys to trust.
        revoked: Fingerprints of keys that are trusted no more.
        recovery: Signs it.
    """
    statement = KeyStatement(
        sequence=sequence,
        trusted=tuple(key.pem.decode() for key in trusted),
        revoked=tuple(revoked),
    )
    text = encode(statement)
    signature = sign({_MEMBER: hashlib.sha256(text).hexdigest()}, _NAME, recovery)
    return encode(_Signed(statement=text.decode(), signature=signature.decode()))


def read_statement(payload: bytes, recovery: Sequence[PublicKey], where: str) -> KeyStatement:
    """Return what a signed statement says.

    Args:
        payload: As `state` made it.
        recovery: Keys of which one must have signed it.
        where: It came from, for messages.

    Raises:
        SignatureError: None of them has, or it is not what was signed.
        MessageError: It is no such payload.
    """
    signed = decode(payload, _Signed, where)
    text = signed.statement.encode("utf-8", "surrogatepass")
    try:
        digests = verify(signed.signature.encode("utf-8", "surrogatepass"), recovery)
    except BundleError as error:
        raise SignatureError(f"{where}: {error}") from error
    if digests != {_MEMBER: hashlib.sha256(text).hexdigest()}:
        raise SignatureError(f"{where}: is not the statement that was signed; send it again")
    statement = decode(text, KeyStatement, where)
    statement.keys()
    return statement


def still_trusted(
    own: Sequence[PublicKey], statement: KeyStatement | None
) -> tuple[PublicKey, ...]:
    """Return the keys that count: the device's own and those that were added, without the revoked.

    Args:
        own: Those in the device's folder.
        statement: The newest; None = there is none.
    """
    if statement is None:
        return tuple(own)
    found = {key.fingerprint: key for key in (*statement.keys(), *own)}
    return tuple(key for name, key in found.items() if name not in statement.revoked)
