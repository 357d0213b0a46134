"""What a device remembers of the bundles that came over MQTT: which serves, which before, and why.

It is written before anything it speaks of happens, whole or not at all, so a power cut at any
moment leaves a device that knows what to do.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from transom.atomic import write_file
from transom.errors import MessageError
from transom.messages import Payload, decode
from transom.updates import Install

_log = logging.getLogger(__name__)

FILE_NAME = "ledger.json"
ALLOWED_STARTS = 3
"""Starts in a row that end before the device was well, after which the bundle before serves."""
_REMEMBERED = 50


class Ledger(Payload, frozen=True, kw_only=True):
    """What is remembered.

    Attributes:
        serving: Digest of the bundle that serves; None = none came over MQTT yet.
        previous: Digest of the one before; None = there is none to go back to.
        wish: What asked for the bundle that serves; None = nothing did.
        is_on_probation: Whether it has still to show that it works.
        starts: Starts in a row, of the bundle that serves, that did not become well.
        boot_id: The machine's boot of the last of them; empty = not known.
        newest: Highest sequence that was ever kept, whoever has signed it; -1 = none.
        newest_by: The same by the key that has signed it, its fingerprint; empty = nobody has noted
            that, and `newest` is all that is known.
        answered: The last wish that came to an end.
        installed: Digests of the bundles in the store that came over MQTT.
        refused: Why bundles are not installed, by digest.
    """

    serving: str | None = None
    previous: str | None = None
    wish: Install | None = None
    is_on_probation: bool = False
    starts: int = 0
    boot_id: str = ""
    newest: int = -1
    newest_by: Mapping[str, int] = {}
    answered: str = ""
    installed: tuple[str, ...] = ()
    refused: Mapping[str, str] = {}

    @property
    def probation(self) -> Install | None:
        """The wish whose bundle has still to show that it works."""
        return self.wish if self.is_on_probation else None

    def refusing(self, digest: str, reason: str) -> "Ledger":
        """Return this, with a bundle that must not be tried again."""
        kept = dict(list(self.refused.items())[1 - _REMEMBERED :])
        return msgspec.structs.replace(self, refused={**kept, digest: reason})

    def handed_over(self, wish: Install, previous: str) -> "Ledger":
        """Return this, with the bundle of a wish serving on probation."""
        return msgspec.structs.replace(
            self,
            serving=wish.digest,
            previous=previous,
            wish=wish,
            is_on_probation=True,
            starts=0,
            refused={d: why for d, why in self.refused.items() if d != wish.digest},
        )

    def floor(self, trusted: Collection[str]) -> int:
        """Return the sequence above which a new bundle must be.

        What a key has signed that is trusted no more does not count: whoever had stolen it could
        have signed the highest sequence that there is, above which no bundle can ever be.

        Args:
            trusted: Fingerprints of the keys that count.
        """
        if not self.newest_by:
            return self.newest
        counted = (n for signer, n in self.newest_by.items() if not signer or signer in trusted)
        return max(counted, default=-1)

    def committed(self, signer: str | None) -> "Ledger":
        """Return this, with the bundle that serves kept.

        Args:
            signer: Fingerprint of the key that has signed it; None = it could not serve.
        """
        newest, newest_by = self.newest, self.newest_by
        if self.probation is not None and signer is not None:
            sequence = self.probation.sequence
            known = newest_by or {"": newest}  # of whom nothing is known
            newest_by = {**known, signer: max(known.get(signer, -1), sequence)}
            newest = max(newest, sequence)
        return msgspec.structs.replace(
            self,
            is_on_probation=False,
            starts=0,
            newest=newest,
            newest_by=newest_by,
            answered=self.probation.request if self.probation else self.answered,
        )

    def rolled_back(self, reason: str, asked: str | None = None) -> "Ledger":
        """Return this, with the bundle before serving and the one that served refused.

        Args:
            reason: Why.
            asked: Request of the wish that this answers; None = that of the bundle on probation.
        """
        refused = self if self.serving is None else self.refusing(self.serving, reason)
        answered = self.probation.request if self.probation else self.answered
        answered = answered if asked is None else asked
        return msgspec.structs.replace(
            refused,
            serving=self.previous,
            previous=None,
            wish=None,
            is_on_probation=False,
            starts=0,
            answered=answered,
        )


class LedgerFile:
    """The ledger on the disk, and what the disk has not taken for as long as this lasts.

    Args:
        store: The folder of the installed bundles.
    """

    def __init__(self, store: Path) -> None:
        self._path = store / FILE_NAME
        self._unread: OSError | None = None
        self._unwritten: Ledger | None = None

    def read(self) -> Ledger:
        """Return what is remembered; nothing where there is no ledger, or a damaged one.

        One that the disk does not give is passed over too, and left as it is: see `write`.
        """
        if self._unwritten is not None:
            return self._unwritten
        self._unread = None
        try:
            return decode(self._path.read_bytes(), Ledger, str(self._path))
        except FileNotFoundError:
            return Ledger()
        except (OSError, MessageError) as error:
            # The store's newest bundle serves then, which is what served before there was a ledger.
            _log.warning("ledger of bundles passed over reason=%s", error)
            self._unread = error if isinstance(error, OSError) else None
            return Ledger()

    def write(self, ledger: Ledger) -> None:
        """Remember; durable when this returns.

        Raises:
            OSError: The store cannot be written, or what it remembers could not be read: what
                was refused and how new a bundle must be is not forgotten over that.
        """
        if self._unread is not None:
            # Without the frames of the last time: they would be one more pile with each attempt.
            raise self._unread.with_traceback(None)
        write_file(self._path, msgspec.json.encode(ledger), mode=0o600)
        self._unwritten = None

    def note(self, ledger: Ledger) -> None:
        """Remember: durable when this returns, if the disk takes it, else for as long as this."""
        try:
            self.write(ledger)
        except OSError as error:
            _log.warning("ledger of bundles cannot be written reason=%s", error)
            self._unwritten = ledger
