"""Which bundles a device lets in: judged by what is said of one, then by what it is."""

import shutil
from pathlib import Path

from edge_runtime.download import clear_parts, part_path
from edge_runtime.download_url import why_not_from
from edge_runtime.handover import Handover
from edge_runtime.keyring import Keyring
from edge_runtime.misfits import misfits
from edge_runtime.models import is_starter
from transom.bundle import Bundle, parse_bundle
from transom.config import Config, UpdatesConfig
from transom.errors import BundleError, UpdateError
from transom.manifest import check_runtime
from transom.updates import Install

_FREE_BYTES = 32 << 20
"""What must be left on the card beside a bundle."""


class Admission:
    """The checks of one device.

    Args:
        config: The device's.
        terms: Its `updates`.
        handover: What the device has had and refused.
        serving: The bundle that serves.
    """

    def __init__(
        self, config: Config, terms: UpdatesConfig, handover: Handover, serving: Bundle
    ) -> None:
        self._config = config
        self._terms = terms
        self._handover = handover
        self._serving = serving
        self._store = Path(config.models.store)

    def check_offer(self, wish: Install) -> None:
        """Refuse, before a byte of it is fetched, what would be refused later.

        Raises:
            UpdateError: The bundle would not be let in, or does not fit on the card.
        """
        refused = self._handover.ledger.refused.get(wish.digest)
        if refused is not None and not self._terms.allow_older:
            raise UpdateError(
                f"was refused before: {refused}; export it again, or set updates.allow_older = true"
            )
        self._check_sequence(wish.sequence)
        if wish.size_bytes > self._terms.max_bytes:
            raise UpdateError(
                f"has {wish.size_bytes:,} bytes, {self._terms.max_bytes:,} is the most "
                "(updates.max_bytes)"
            )
        if wish.url is not None and (why := why_not_from(wish.url, self._terms.url_prefixes)):
            raise UpdateError(f"is at a URL that {why}")
        self._check_room(wish)

    def _check_room(self, wish: Install) -> None:
        part = part_path(self._store, wish)
        clear_parts(self._store, keep=part)  # of others, which nobody wants any more
        have_bytes = part.stat().st_size if part.exists() else 0
        needed_bytes = max(wish.size_bytes - have_bytes, 0) + _FREE_BYTES
        free_bytes = shutil.disk_usage(self._store).free
        if free_bytes < needed_bytes:
            raise UpdateError(
                f"{self._store}: {free_bytes:,} bytes are free, {needed_bytes:,} are needed"
            )

    def _check_sequence(self, sequence: int) -> None:
        trusted = {key.fingerprint for key in Keyring(self._config.models).trusted()}
        newest = self._handover.ledger.floor(trusted)
        if not is_starter(self._serving.digest) and self._serving.signer in trusted:
            newest = max(newest, self._serving.manifest.sequence)
        if sequence <= newest and not self._terms.allow_older:
            raise UpdateError(
                f"has sequence {sequence}, must be above {newest}, which this device has had; "
                "export it with a higher --sequence, or set updates.allow_older on the device"
            )

    def verify(self, wish: Install, path: Path) -> Bundle:
        """Return the bundle of a complete file; one that is refused is removed.

        Raises:
            BundleError: It is not a bundle that a trusted key has signed.
            UpdateError: It is not what was announced, too old, or not for this device's zones.
        """
        name = f"{wish.name} {wish.sequence}"
        keys = Keyring(self._config.models).trusted()
        try:
            bundle = parse_bundle(path.read_bytes(), name, keys)
            found = (bundle.manifest.name, bundle.manifest.sequence, bundle.digest)
            if found != (wish.name, wish.sequence, wish.digest):
                raise UpdateError(
                    f"{name}: is not what was announced but {found[0]} {found[1]} "
                    f"{found[2][:12]}…; deploy it again"
                )
            check_runtime(bundle.manifest, name)
            self._check_sequence(bundle.manifest.sequence)
            for misfit in misfits(self._config, bundle.manifest):
                raise UpdateError(f"does not suit this device: {misfit}")
        except (BundleError, UpdateError):
            path.unlink()  # what is fetched next begins anew
            raise
        return bundle
