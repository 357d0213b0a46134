"""From one bundle to the next, and back: what is decided before a network is loaded.

A bundle that was handed over serves on probation until the device has worked with it for a while.
If it fails, or the daemon ends three times in a row before it was well, the bundle before serves
again and this one never more. Of a bundle that was kept only ends within one boot count: where the
machine's power went too, that is no sign against it.

A disk that takes nothing keeps no device from its work: what is only counted or answered is then
known until the process ends. What decides which bundle serves is written, or does not happen; but
a bundle that cannot serve at all is left all the same, after each start anew.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.ledger import ALLOWED_STARTS, Ledger, LedgerFile
from edge_runtime.models import serving_bundle
from edge_runtime.update_reports import UpdateReports
from transom.atomic import sync_folder
from transom.bundle import Bundle
from transom.config import ModelsConfig
from transom.updates import Desired, Install

_log = logging.getLogger(__name__)


class Handover:
    """Which bundle serves, over restarts and crashes.

    Args:
        config: The store.
        reports: Told of a rollback.
        file: What is remembered, of this store.
        boot_id: The machine's boot; empty = not known.
    """

    def __init__(
        self, config: ModelsConfig, reports: UpdateReports, file: LedgerFile, boot_id: str
    ) -> None:
        self._config = config
        self._store = Path(config.store)
        with suppress(OSError):  # a disk that takes nothing now may take a bundle later
            self._store.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._reports = reports
        self._boot_id = boot_id
        self._signer: str | None = None
        self.ledger = self._file.read()

    def begin(self) -> Bundle:
        """Count a start, roll back if there were too many, and return the bundle to serve.

        Raises:
            BundleError: There is none.
        """
        if self._was_cut_off():
            self.remember(starts=0)
        if self.ledger.starts >= ALLOWED_STARTS:
            self.give_up(f"daemon ended {self.ledger.starts} times before it was well")
        if self.ledger.serving is not None:
            self.remember(starts=self.ledger.starts + 1, boot_id=self._boot_id)
        bundle = serving_bundle(self._config, self.ledger)
        is_had = bundle.digest == self.ledger.serving
        if self.ledger.probation is not None and not is_had:
            self.give_up(
                f"{bundle.manifest.name} {bundle.manifest.sequence} serves instead: this one "
                "cannot be read, its key is revoked, or that one was put into the store by hand"
            )
        self._signer = bundle.signer if is_had else None
        return bundle

    def _was_cut_off(self) -> bool:
        """Return whether a bundle that was kept ended together with its machine.

        A house may lose its power three times in a row, and its best bundle must not go for it.
        """
        ledger, boots = self.ledger, {self.ledger.boot_id, self._boot_id}
        is_another_boot = len(boots) == 2 and "" not in boots
        return ledger.starts > 0 and not ledger.is_on_probation and is_another_boot

    def end(self) -> None:
        """Note that the daemon ends because it was told to: that is no crash."""
        if self.ledger.starts:
            self.remember(starts=self.ledger.starts - 1)

    def path_of(self, digest: str) -> Path:
        """Return where the store keeps a bundle that came over MQTT."""
        return self._store / f"{digest}.bundle"

    def install(self, part: Path, wish: Install, previous: str) -> None:
        """Let a bundle serve from the next start on; durable when this returns.

        Args:
            part: Its file, complete and synced, in the store's folder.
            wish: What asked for it.
            previous: Digest of the bundle that serves now.

        Raises:
            OSError: The store cannot be written; the bundle before serves on.
        """
        installed = dict.fromkeys((*self.ledger.installed, wish.digest))
        # Before the file is there: it is no gift by hand.
        self._write(msgspec.structs.replace(self.ledger, installed=tuple(installed)))
        part.replace(self.path_of(wish.digest))
        sync_folder(self._store)
        self._write(self.ledger.handed_over(wish, previous))

    def commit(self) -> None:
        """Keep the bundle that serves, and of the others only the one before.

        Raises:
            OSError: The store cannot be written; to be tried again.
        """
        self._write(self.ledger.committed(self._signer))
        kept = {self.ledger.serving, self.ledger.previous}
        there = [d for d in self.ledger.installed if d in kept or not self._remove(d)]
        self.remember(installed=tuple(there))

    def _remove(self, digest: str) -> bool:
        """Remove a bundle's file; where the disk keeps it, the next commit tries again."""
        try:
            self.path_of(digest).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("bundle cannot be removed digest=%s reason=%s", digest[:12], error)
            return False
        return True

    def roll_back(self, reason: str, wish: Desired | None = None) -> bool:
        """Let the bundle before serve from the next start on; return whether there is one.

        Args:
            reason: Why.
            wish: What asked for it; None = the device itself, because the bundle fails.

        Raises:
            OSError: The store cannot be written; the bundle that serves is not left.
        """
        return self._leave(reason, wish, self._write)

    def give_up(self, reason: str) -> bool:
        """Leave a bundle that cannot serve; return whether there is one from before.

        Where the store cannot be written this is known until the process ends.
        """
        return self._leave(reason, None, self._note)

    def _leave(self, reason: str, asked: Desired | None, write: Callable[[Ledger], None]) -> bool:
        ledger = self.ledger
        if (asked or ledger.wish) is None or ledger.serving is None or ledger.previous is None:
            return False
        _log.warning("bundle rolled back digest=%s reason=%s", ledger.serving[:12], reason)
        write(ledger.rolled_back(reason, None if asked is None else asked.request))
        # Who brought a bundle that is still on probation waits for an answer too.
        for told in (ledger.wish if asked is None else ledger.probation, asked):
            if told is not None:
                self._reports.step("rolled_back", told, reason)
        return True

    def remember(self, **changes: Any) -> None:
        """Change the ledger: durable when this returns, if the disk takes it."""
        self._note(msgspec.structs.replace(self.ledger, **changes))

    def _note(self, ledger: Ledger) -> None:
        self._file.note(ledger)
        self.ledger = ledger

    def _write(self, ledger: Ledger) -> None:
        self._file.write(ledger)
        self.ledger = ledger
