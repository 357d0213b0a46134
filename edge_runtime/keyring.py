"""The keys of a device: those in its folder, and what a recovery key's holder has said since."""

import logging
from pathlib import Path

from transom.atomic import write_file
from transom.config import ModelsConfig
from transom.errors import MessageError, SignatureError
from transom.keyring import KeyStatement, read_statement, still_trusted
from transom.signing import PublicKey, key_files, load_trusted_keys

_log = logging.getLogger(__name__)

FILE_NAME = "keys.json"


class Keyring:
    """Which keys are trusted.

    Args:
        config: Folders of the keys, and the store, where the newest statement is kept.
    """

    def __init__(self, config: ModelsConfig) -> None:
        self._own = Path(config.trusted_keys)
        self._recovery = Path(config.recovery_keys)
        self._path = Path(config.store) / FILE_NAME

    @property
    def may_change(self) -> bool:
        """Whether anybody may say over MQTT which keys are trusted."""
        return bool(key_files(self._recovery))

    def trusted(self) -> tuple[PublicKey, ...]:
        """Return the keys that count.

        A statement that is kept and can no longer be verified (its recovery key is gone, the file
        is damaged) takes all trust away: it may have revoked any of the keys.

        Raises:
            SignatureError: There is none, or one that cannot be read.
        """
        statement = self._statement()
        has_own = statement is None or bool(key_files(self._own))
        keys = still_trusted(load_trusted_keys(self._own) if has_own else (), statement)
        if not keys:
            raise SignatureError(
                f"{self._own}: every key is revoked, and none was added; have another trusted"
            )
        return keys

    def sequence(self) -> int:
        """Return the sequence of the statement that is followed; 0 = none."""
        followed = self._followed()
        return 0 if followed is None else followed.sequence

    def take(self, payload: bytes, topic: str) -> bool:
        """Follow a statement; return whether it is a new one. Durable when this returns.

        Raises:
            SignatureError: No recovery key has signed it, or it would leave no key.
            MessageError: It cannot be read, or is older than the one that is followed.
            OSError: The store cannot be written.
        """
        statement = read_statement(payload, self._recovery_keys(), topic)
        followed = self._followed()
        if statement == followed:
            return False  # delivered once more
        if followed is not None and statement.sequence <= followed.sequence:
            raise MessageError(
                f"{topic}: has sequence {statement.sequence}, {followed.sequence} is followed and "
                "says something else; state it anew, with a higher one"
            )
        own = load_trusted_keys(self._own) if key_files(self._own) else ()
        if not still_trusted(own, statement):
            raise SignatureError(f"{topic}: would leave no key that may sign; name one to trust")
        write_file(self._path, payload, mode=0o600)
        _log.warning(
            "keys were replaced sequence=%d added=%d revoked=%d",
            statement.sequence,
            len(statement.trusted),
            len(statement.revoked),
        )
        return True

    def _followed(self) -> KeyStatement | None:
        try:
            return self._statement()
        except SignatureError:
            return None  # one that cannot be verified any more is replaced by any that can

    def _recovery_keys(self) -> tuple[PublicKey, ...]:
        return load_trusted_keys(self._recovery)

    def _statement(self) -> KeyStatement | None:
        try:
            payload = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SignatureError(f"{self._path}: cannot be read: {error.strerror}") from error
        try:
            return read_statement(payload, self._recovery_keys(), str(self._path))
        except MessageError as error:
            raise SignatureError(f"{error}; remove it, or have the keys stated anew") from error
